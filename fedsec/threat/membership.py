"""What an observer of training may know of examples whose membership is asked, and the interface of such inferences.

One number says all that a model's answer tells of a labelled example: the rescaled logit r = log(p / (1 - p)) of the
probability p that the model gives to the right class. From it follow the loss, -log p = log(1 + exp(-r)), and the
confidence p = 1 / (1 + exp(-r)), without the rounding that ends the way back (Carlini et al., Membership inference
attacks from first principles, IEEE S&P 2022, arXiv:2112.03570, section IV-B).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.inference import Inference, InferenceView

__all__ = ["GradientProducts", "MembershipInference", "MembershipView", "ShadowModels", "rescaled_logits"]


def rescaled_logits(
    outputs: Float[Tensor, "*models examples classes"], labels: Int64[Tensor, "examples"]
) -> Float[Tensor, "*models examples"]:
    """log(p / (1 - p)) of each example's own class: its logit less the others' log-sum-exp.

    Args:
        outputs: a model's logits, or several models'.
        labels: the examples' classes.
    """
    index = labels.expand(outputs.shape[:-1])[..., None]
    own = outputs.gather(-1, index)
    others = outputs.scatter(-1, index, -torch.inf).logsumexp(-1)
    return own[..., 0] - others


@dataclass(frozen=True, eq=False)
class ShadowModels:
    """Models that the observer trained itself, each on examples of which it knows whether they were among its own.

    Attributes:
        logits: rescaled logits of the candidates.
        members: which candidates each was trained on.
        population: rescaled logits of further examples that are no candidates, where the observer has such.
        population_members: which of those each was trained on.
    """

    logits: Float[Tensor, "models examples"]
    members: Bool[Tensor, "models examples"]
    population: Float[Tensor, "models population"] | None = None
    population_members: Bool[Tensor, "models population"] | None = None


@dataclass(frozen=True, eq=False)
class GradientProducts:
    """How candidates' gradients lie to updates, each at the parameters that the update starts from.

    Attributes:
        products: inner products of an example's gradient and an update that is turned to point where gradients do, that
            is, the parameters sent less the parameters received.
        gradient_norms: of the examples' gradients.
        update_norms: of the updates.
    """

    products: Float[Tensor, "updates examples"]
    gradient_norms: Float[Tensor, "updates examples"]
    update_norms: Float[Tensor, "updates"]


@dataclass(frozen=True, eq=False)
class MembershipView(InferenceView):
    """What an observer knows of candidates, some of which were trained on. It has no field that could say which.

    Attributes:
        logits: rescaled logits of the candidates under each model that was observed, the earliest first; at least one.
        rounds: after how many rounds each of these models was observed, increasing.
        shadows: models of the observer's own.
        population: rescaled logits under the last model observed of further examples that were surely not trained on.
        updates: of a client, round by round, beside the candidates' gradients.

    Raises:
        InputError: shapes that do not go together, or numbers that are not finite.
    """

    logits: Float[Tensor, "rounds examples"]
    rounds: tuple[int, ...] = (1,)
    shadows: ShadowModels | None = None
    population: Float[Tensor, "population"] | None = None
    updates: GradientProducts | None = None

    def __post_init__(self) -> None:
        if self.logits.ndim != 2 or 0 in self.logits.shape:
            raise InputError(f"logits: expected [rounds, examples], at least one of each, not {_shape(self.logits)}")
        if len(self.rounds) != len(self.logits) or list(self.rounds) != sorted(set(self.rounds)):
            raise InputError(f"rounds: expected {len(self.logits)} increasing numbers, not {self.rounds}")
        examples, shadows = self.logits.shape[1], self.shadows
        if shadows is not None:
            models = len(shadows.logits)
            sizes: dict[str, tuple[int, ...]] = {
                "shadows.logits": (models, examples),
                "shadows.members": (models, examples),
            }
            if self.population is not None and shadows.population is not None:
                sizes["shadows.population"] = (models, len(self.population))
            if shadows.population_members is not None and shadows.population is not None:
                sizes["shadows.population_members"] = tuple(shadows.population.shape)
            self._check_shapes(sizes)
        if self.updates is not None:
            updates = len(self.updates.products)
            rows = dict.fromkeys(("updates.products", "updates.gradient_norms"), (updates, examples))
            self._check_shapes({**rows, "updates.update_norms": (updates,)})
        for name, tensor in self.tensors().items():
            if not bool(tensor.isfinite().all()):
                raise InputError(f"{name}: {int((~tensor.isfinite()).sum())} numbers are not finite")

    def _check_shapes(self, sizes: Mapping[str, tuple[int, ...]]) -> None:
        tensors = self.tensors()
        for name, size in sizes.items():
            if tuple(tensors[name].shape) != size:
                raise InputError(f"{name}: expected shape {size}, not {_shape(tensors[name])}")

    @property
    def shape(self) -> tuple[int, ...]:
        """One score for each candidate."""
        return (self.logits.shape[1],)

    @property
    def losses(self) -> Float[Tensor, "rounds examples"]:
        """Cross-entropy of each candidate under each model observed."""
        return F.softplus(-self.logits)

    @property
    def confidences(self) -> Float[Tensor, "rounds examples"]:
        """Probability of each candidate's own class under each model observed."""
        return self.logits.sigmoid()

    def of(self, candidates: Int64[Tensor, "chosen"]) -> "MembershipView":
        """The same view of some candidates, in the order given."""
        shadows, updates = self.shadows, self.updates
        if shadows is not None:
            shadows = replace(shadows, logits=shadows.logits[:, candidates], members=shadows.members[:, candidates])
        if updates is not None:
            updates = replace(
                updates,
                products=updates.products[:, candidates],
                gradient_norms=updates.gradient_norms[:, candidates],
            )
        return replace(self, logits=self.logits[:, candidates], shadows=shadows, updates=updates)

    def granted(self) -> Mapping[str, bool]:
        """What an inference may state under `needs`."""
        shadows = self.shadows
        return {
            "several_rounds": len(self.rounds) > 1,
            "shadow_models": shadows is not None,
            "population": self.population is not None and (shadows is None or shadows.population is not None),
            "updates": self.updates is not None,
        }

    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that is held, by name."""
        held: dict[str, Tensor | None] = {"logits": self.logits, "population": self.population}
        for part, record in (("shadows", self.shadows), ("updates", self.updates)):
            if record is not None:
                held |= {f"{part}.{name}": value for name, value in vars(record).items()}
        return {name: value for name, value in held.items() if value is not None}


class MembershipInference(Inference[MembershipView]):
    """Scores how much speaks for each candidate's having been trained on; a subclass fills in `score`."""

    role: ClassVar[str] = "membership"
    """What its kind of inference concludes."""


def _shape(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)}"
