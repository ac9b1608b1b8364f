"""What a party without labels sees of a network that is cut, and the interface of inferences of the labels.

The gradient of an example's loss with respect to what it became at the cut depends on its label. Whoever sends the
activations is sent these gradients: a client or a party whose server has the labels, or a server whose clients have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.threat.inference import Inference, InferenceView

__all__ = ["LabelInference", "LabelView", "OwnPart"]


@dataclass(frozen=True, eq=False)
class OwnPart:
    """The party's own part of the network, and what goes into it.

    Attributes:
        module: makes activations of inputs, as the network is now; a copy.
        inputs: of the candidates, in their order.
        known_inputs: of the examples whose labels the party knows.

    Raises:
        InputError: inputs that are no floating-point numbers, or of two shapes.
    """

    module: nn.Module
    inputs: Float[Tensor, "candidates *shape"]
    known_inputs: Float[Tensor, "known *shape"]

    def __post_init__(self) -> None:
        if not self.inputs.is_floating_point() or self.inputs.shape[1:] != self.known_inputs.shape[1:]:
            raise InputError(
                f"OwnPart: expected floating-point inputs of one shape, got {self.inputs.dtype} of "
                f"{tuple(self.inputs.shape)} and {self.known_inputs.dtype} of {tuple(self.known_inputs.shape)}"
            )


@dataclass(frozen=True, eq=False)
class LabelView(InferenceView):
    """What a party has of the examples whose labels are asked, and of a few whose labels it knows.

    Attributes:
        gradients: of each candidate's loss with respect to its activations at the cut, as they were passed on.
        activations: of each candidate at the cut, by the network as it is now.
        num_classes: of the labels.
        known_gradients: the same of examples whose labels the party knows.
        known_activations: likewise.
        known_labels: of these.
        own: the party's part of the network, for inferences that ask for it.

    Raises:
        InputError: parts that do not go together.
    """

    gradients: Float[Tensor, "candidates entries"]
    activations: Float[Tensor, "candidates entries"]
    num_classes: int
    known_gradients: Float[Tensor, "known entries"] | None = None
    known_activations: Float[Tensor, "known entries"] | None = None
    known_labels: Int64[Tensor, "known"] | None = None
    own: OwnPart | None = None

    def __post_init__(self) -> None:
        if self.gradients.ndim != 2 or self.activations.ndim != 2 or not len(self.gradients):
            raise InputError(
                "LabelView: expected gradients and activations [candidates, entries], got "
                f"{tuple(self.gradients.shape)} and {tuple(self.activations.shape)}"
            )
        if len(self.gradients) != len(self.activations) or self.num_classes < 2:
            raise InputError(
                f"LabelView: expected as many activations as gradients and two classes at least, got "
                f"{len(self.activations)} for {len(self.gradients)} and {self.num_classes}"
            )
        if self.own is not None:
            counts = (len(self.own.inputs), len(self.own.known_inputs))
            labelled = 0 if self.known_labels is None else len(self.known_labels)
            if counts != (len(self.gradients), labelled):
                raise InputError(
                    f"LabelView: expected inputs of {len(self.gradients)} candidates and of {labelled} known examples, "
                    f"got {counts[0]} and {counts[1]}"
                )
        known = (self.known_gradients, self.known_activations, self.known_labels)
        if any(part is None for part in known) and any(part is not None for part in known):
            raise InputError("LabelView: known labels need their gradients and activations, and these need labels")
        if self.known_labels is None or self.known_gradients is None or self.known_activations is None:
            return
        count, widths = len(self.known_labels), (self.gradients.shape[1:], self.activations.shape[1:])
        shapes = (self.known_gradients.shape, self.known_activations.shape)
        if shapes != ((count, *widths[0]), (count, *widths[1])):
            raise InputError(f"LabelView: known examples of shapes {shapes} do not go with {count} labels, or others")
        if count and not 0 <= int(self.known_labels.min()) <= int(self.known_labels.max()) < self.num_classes:
            raise InputError(f"LabelView: known_labels must lie in 0 .. {self.num_classes - 1}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the scores: of two classes how much speaks for the second, of more a score for each."""
        return (len(self.gradients),) if self.num_classes == 2 else (len(self.gradients), self.num_classes)

    def granted(self) -> Mapping[str, bool]:
        return {
            "known_labels": self.known_labels is not None and len(self.known_labels) > 0,
            "two_classes": self.num_classes == 2,
            "own_part": self.own is not None,
        }

    def tensors(self) -> Mapping[str, Tensor]:
        parts = {
            "gradients": self.gradients,
            "activations": self.activations,
            "known_gradients": self.known_gradients,
            "known_activations": self.known_activations,
            "known_labels": self.known_labels,
        }
        if self.own is not None:
            parts |= {"own_inputs": self.own.inputs, "own_known_inputs": self.own.known_inputs}
            parts |= {f"own_part.{name}": row for name, row in self.own.module.state_dict().items()}
        return {name: tensor for name, tensor in parts.items() if tensor is not None}


class LabelInference(Inference[LabelView]):
    """Scores each candidate's labels; a subclass fills in `score`."""

    role: ClassVar[str] = "label"
    """What its kind of inference concludes."""
