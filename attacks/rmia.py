"""The robust membership inference attack (RMIA): a candidate against every example of a population.

Reference: Zarifzadeh, Liu, Shokri, Low-cost high-power membership inference attacks, ICML 2024, arXiv:2312.03262.

Deviations: p is the plain softmax probability, where the paper also tries smoother ones; one query of each example,
and none of its augmentations. Offline, the population's p(z) is corrected by `a` as the candidates' p(x), as in the
authors' Privacy Meter.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import MembershipInference, MembershipView


class Rmia(MembershipInference):
    """Counts the examples of a population that the model favors less than the candidate, each beside other models.

    LR(x, z) = (p(x | model) / p(x)) / (p(z | model) / p(z))
    score(x) = share of the population's z with LR(x, z) >= gamma

    p(x | model) is the probability of x's own class under the last model observed, p(x) its mean over shadow models:
    online over those with x and without it, each side half; offline over those without it, as p(x) = ((1 + a) p_out(x)
    + 1 - a) / 2, where 1 - a + a p_out stands for the side that was not trained.

    Args:
        mode: `online` or `offline`.
        gamma: by how much a candidate must be favored, at least 1, as in the authors' Privacy Meter; the paper has 2.
        a: of the offline form, from 0 (nothing is known of p_in but that it is 1) to 1 (it is p_out).

    Raises:
        InputError: a number out of range; or an example without shadow models on a side that it needs.

    Cost:
        Training the shadow models, of which few suffice; one pass of candidates and population through each; then
        sorting the population.

    Limits:
        The score knows as many values as the population has examples, and candidates that are favored over all of them
        tie. With one population for all candidates it never falls where p(x | model) / p(x) rises, so that gamma and
        the population change which candidates tie, and no other order.

    Example:
        mode: offline

    Reference: Zarifzadeh, Liu, Shokri, 2024, arXiv:2312.03262
    """

    needs = ("shadow_models", "population")

    def __init__(self, mode: Literal["online", "offline"] = "online", gamma: float = 1.0, a: float = 0.3) -> None:
        if mode not in ("online", "offline"):
            raise InputError(f"Rmia: mode must be online or offline, got {mode!r}")
        if not gamma >= 1 or not 0 <= a <= 1:
            raise InputError(f"Rmia: expected gamma of at least 1 and a in [0, 1], got {gamma} and {a}")
        self.mode, self.gamma, self.a = mode, gamma, a

    def score(self, view: MembershipView) -> Float[Tensor, "examples"]:
        shadows, population = view.shadows, view.population
        assert shadows is not None
        assert shadows.population is not None
        assert population is not None
        inside = shadows.population_members
        inside = torch.zeros_like(shadows.population, dtype=torch.bool) if inside is None else inside
        candidates = self._favor(view.logits[-1], shadows.logits, shadows.members)
        others = self._favor(population, shadows.population, inside).sort().values
        below = torch.searchsorted(others * self.gamma, candidates, right=True)
        return below.double() / len(others)

    def _favor(
        self,
        observed: Float[Tensor, "examples"],
        signals: Float[Tensor, "models examples"],
        members: Bool[Tensor, "models examples"],
    ) -> Float[Tensor, "examples"]:
        """p(x | model) / p(x)."""
        usual = self._usual(signals.double().sigmoid(), members).clamp_min(torch.finfo(torch.float64).tiny)
        return observed.double().sigmoid() / usual

    def _usual(
        self, shares: Float[Tensor, "models examples"], members: Bool[Tensor, "models examples"]
    ) -> Float[Tensor, "examples"]:
        """p(x)."""
        without, with_it = (~members).sum(0), members.sum(0)
        outside = (shares * ~members).sum(0) / without
        if self.mode == "offline":
            if not bool(without.all()):
                raise InputError(
                    f"Rmia: {int((without == 0).sum())} examples have no shadow model trained without them"
                )
            return ((1 + self.a) * outside + 1 - self.a) / 2
        # Where a side was never trained, as of a population apart, the other one is all there is.
        inside = (shares * members).sum(0) / with_it
        inside, outside = torch.where(with_it == 0, outside, inside), torch.where(without == 0, inside, outside)
        return (inside + outside) / 2
