"""The likelihood ratio attack (LiRA), offline: shadow models without the candidates alone.

Reference: Carlini, Chien, Nasr, Song, Terzis, Tramer, Membership inference attacks from first principles, IEEE S&P
2022, arXiv:2112.03570, section VI-D.

Deviations: as of `lira_online`. The score is the normal quantile that the paper's probability is a function of, since
probabilities near one are rounded to it.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import MembershipInference, MembershipView, normal_of

Variance = Literal["auto", "global", "per_example"]


class LiraOffline(MembershipInference):
    """Asks how unusual an example's signal would be for models that were not trained with it.

    score(x) = (r(x) - mean_out(x)) / std_out(x), in the order of P(Z <= r(x)), Z ~ N(mean_out(x), std_out(x))

    A one-sided test: no model needs to be trained with a candidate, so the observer can train before it knows of whom
    it will ask.

    Args:
        variance: `per_example`; `global`, one for all examples, which fewer models suffice for; `auto`: per_example
            from 64 shadow models on.

    Raises:
        InputError: an example that fewer than one shadow model (with variance per_example: fewer than two) was trained
            without.

    Cost:
        Training the shadow models, once for all candidates that may come; one pass of the candidates through each.

    Limits:
        What the members' signals look like is not asked, so that an example that all models find hard, and this one
        only somewhat less, counts as much as one that is remembered. In the paper `lira_online` finds more with as many
        models; on digits the two were not told apart (docs/reproduction.md).

    Example:
        variance: global

    Reference: Carlini, Chien, Nasr, Song, Terzis, Tramer, 2022, arXiv:2112.03570
    """

    needs = ("shadow_models",)

    def __init__(self, variance: Variance = "auto") -> None:
        if variance not in ("auto", "global", "per_example"):
            raise InputError(f"LiraOffline: variance must be auto, global or per_example, got {variance!r}")
        self.variance = variance

    def score(self, view: MembershipView) -> Float[Tensor, "examples"]:
        assert view.shadows is not None
        signals, without = view.shadows.logits.double(), ~view.shadows.members
        common = self.variance == "global" or (self.variance == "auto" and len(signals) < 64)
        mean, deviation = normal_of("LiraOffline", signals, without, common, "without")
        return (view.logits[-1].double() - mean) / deviation
