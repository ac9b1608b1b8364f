"""The likelihood ratio attack (LiRA), online: shadow models with and without each candidate.

Reference: Carlini, Chien, Nasr, Song, Terzis, Tramer, Membership inference attacks from first principles, IEEE S&P
2022, arXiv:2112.03570, algorithm 1.

Deviations: one query of each example, and none of its augmentations. The common variance is the one within examples,
pooled over them and with its degrees of freedom; the authors' code takes that of all shadow signals together, in which
the examples' different hardness is contained, and the members' for both sides.
"""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import MembershipInference, MembershipView, normal_of

Variance = Literal["auto", "global", "per_example"]


class LiraOnline(MembershipInference):
    """Compares two normal distributions of an example's signal: of models trained with it, and without it.

    score(x) = log N(r(x); mean_in(x), std_in(x)) - log N(r(x); mean_out(x), std_out(x))

    r is the rescaled logit log(p / (1 - p)) under the last model observed; means and deviations are those of the shadow
    models that were trained with x, and without. It is the most powerful test of all, if signals are normal and shadow
    models are to the target what the target is to another training of its own.

    Args:
        variance: `per_example`; `global`, one for all examples on each side, which fewer models suffice for; `auto`:
            per_example from 64 shadow models on, where the paper finds it to begin to pay.

    Raises:
        InputError: an example that fewer than one shadow model (with variance per_example: fewer than two) was trained
            with, or without.

    Cost:
        Training the shadow models, half of them with each candidate; then one pass of the candidates through each.

    Limits:
        Shadow models on other data, or trained otherwise than the target, shift both distributions; the target of a
        federation is a mean of models, which is smoother than any one trained on all data. A few shadow models tell
        means badly: 16 give each side 8.

    Example:
        variance: global

    Reference: Carlini, Chien, Nasr, Song, Terzis, Tramer, 2022, arXiv:2112.03570
    """

    needs = ("shadow_models",)

    def __init__(self, variance: Variance = "auto") -> None:
        if variance not in ("auto", "global", "per_example"):
            raise InputError(f"LiraOnline: variance must be auto, global or per_example, got {variance!r}")
        self.variance = variance

    def score(self, view: MembershipView) -> Float[Tensor, "examples"]:
        assert view.shadows is not None
        signals, members = view.shadows.logits.double(), view.shadows.members
        common = self.variance == "global" or (self.variance == "auto" and len(signals) < 64)
        observed = view.logits[-1].double()
        with_it = _log_density(observed, signals, members, common, "with")
        return with_it - _log_density(observed, signals, ~members, common, "without")


def _log_density(
    observed: Float[Tensor, "examples"],
    signals: Float[Tensor, "models examples"],
    chosen: Bool[Tensor, "models examples"],
    common: bool,
    side: str,
) -> Float[Tensor, "examples"]:
    mean, deviation = normal_of("LiraOnline", signals, chosen, common, side)
    return -0.5 * ((observed - mean) / deviation).square() - deviation.log()
