"""What a server may know of clients whose properties are asked, and the interface of inferences of such properties.

A property takes one of several values: which site sent an update, which class an example is of. An inference scores
every value for every candidate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.inference import Inference, InferenceView
from fedsec.threat.observation import Observation

__all__ = ["PropertyInference", "PropertyView"]


@dataclass(frozen=True, eq=False)
class PropertyView(InferenceView):
    """What a server knows of the updates whose property is asked, and of others whose property it knows.

    Attributes:
        updates: the candidates' updates, or sketches of them, less what their round has in common.
        num_values: how many values the property can take.
        known: updates whose property is known, in the same space.
        known_values: their property's values, from 0.
        observations: of each candidate, the broadcast model and what it sent, as a curious server has them.

    Raises:
        InputError: parts that do not go together.
    """

    updates: Float[Tensor, "candidates entries"]
    num_values: int
    known: Float[Tensor, "known entries"] | None = None
    known_values: Int64[Tensor, "known"] | None = None
    observations: Sequence[Observation] = ()

    def __post_init__(self) -> None:
        if self.updates.ndim != 2 or not len(self.updates) or self.num_values < 1:
            raise InputError(
                "PropertyView: expected updates [candidates, entries] and at least one value, got "
                f"{tuple(self.updates.shape)} and {self.num_values}"
            )
        if (self.known is None) != (self.known_values is None):
            raise InputError("PropertyView: known updates need known_values, and values need updates")
        if self.known is not None and self.known_values is not None:
            width = self.updates.shape[1:]
            if self.known.shape[1:] != width or self.known_values.shape != self.known.shape[:1]:
                raise InputError(
                    f"PropertyView: expected known updates of {width[0]} entries and a value for each, got "
                    f"{tuple(self.known.shape)} and {tuple(self.known_values.shape)}"
                )
            if len(self.known) and not 0 <= int(self.known_values.min()) <= int(self.known_values.max()) < (
                self.num_values
            ):
                raise InputError(f"PropertyView: known_values must lie in 0 .. {self.num_values - 1}")
        if self.observations and len(self.observations) != len(self.updates):
            raise InputError(
                f"PropertyView: expected an observation for each of {len(self.updates)} candidates, got "
                f"{len(self.observations)}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.updates), self.num_values)

    def granted(self) -> Mapping[str, bool]:
        return {"known": self.known is not None and len(self.known) > 0, "observations": len(self.observations) > 0}

    def tensors(self) -> Mapping[str, Tensor]:
        parts = {"updates": self.updates, "known": self.known, "known_values": self.known_values}
        return {name: tensor for name, tensor in parts.items() if tensor is not None}


class PropertyInference(Inference[PropertyView]):
    """Scores every value of a property for every candidate; a subclass fills in `score`."""

    role: ClassVar[str] = "property"
    asks: ClassVar[Literal["", "site", "class_mix"]] = ""
    """What an audit in a scenario judges its scores by. `site`: a value is a client, who sent the update; it is granted
    updates of other rounds whose client is `known`. `class_mix`: a value is a class, and scores are a client's shares
    of classes; it is granted `observations`. Nothing: only calls in Python ask."""

    @final
    def most_likely(self, view: PropertyView) -> Int64[Tensor, "candidates"]:
        """The value with the highest score, for each candidate; of equal ones the first.

        Args:
            view: all that the observer knows.

        Raises:
            InputError: see `infer`.
        """
        return self.infer(view).argmax(1)
