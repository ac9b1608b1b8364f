"""Statistics of privacy audits, on plain numbers: rates with intervals, lower bounds of epsilon, curves of membership.

Nothing here trains, loads or knows a federation: scores and counts come in, bounds with their confidence go out. Names
are loaded when they are first used.

    from fedsec.auditing import audit_one_run, membership_rates

    bounds = audit_one_run(scores, included, delta=1e-5)     # one training run, canaries in with probability 1/2
    rates = membership_rates(members, nonmembers)            # AUC, and TPR at 0.1% and 1% FPR, with intervals
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsec.auditing.approximate_dp import approximate_dp_bound, approximate_dp_p_value
    from fedsec.auditing.bound import EpsilonBound
    from fedsec.auditing.canaries import check_canaries, check_distinct
    from fedsec.auditing.gaussian_curve import delta_of_mu, epsilon_of_mu, mu_of_epsilon
    from fedsec.auditing.gaussian_dp import gaussian_dp_bound, is_refuted
    from fedsec.auditing.guesses import Bonferroni, Explicit, Guesses, SplitCanaries, guess_grid
    from fedsec.auditing.membership import Auc, MembershipRates, RateAtFpr, Roc, auc, membership_rates, roc, tpr_at_fpr
    from fedsec.auditing.one_run import audit_one_run, ceiling
    from fedsec.auditing.one_shot import OneShotEstimate, one_shot_estimate
    from fedsec.auditing.rates import Rate, clopper_pearson, clustered_rate
    from fedsec.auditing.two_samples import audit_two_samples, two_sample_bound

__all__ = [
    # Rates and curves
    "Rate",
    "clopper_pearson",
    "clustered_rate",
    "MembershipRates",
    "RateAtFpr",
    "Auc",
    "Roc",
    "membership_rates",
    "auc",
    "roc",
    "tpr_at_fpr",
    # Lower bounds of epsilon
    "EpsilonBound",
    "audit_one_run",
    "audit_two_samples",
    "ceiling",
    "check_canaries",
    "check_distinct",
    "Bonferroni",
    "Explicit",
    "SplitCanaries",
    "Guesses",
    "guess_grid",
    # From counts
    "approximate_dp_bound",
    "approximate_dp_p_value",
    "gaussian_dp_bound",
    "is_refuted",
    "two_sample_bound",
    # Estimates
    "OneShotEstimate",
    "one_shot_estimate",
    # The Gaussian trade-off curve
    "delta_of_mu",
    "epsilon_of_mu",
    "mu_of_epsilon",
]

_HOMES = {
    "fedsec.auditing.approximate_dp": ("approximate_dp_bound", "approximate_dp_p_value"),
    "fedsec.auditing.bound": ("EpsilonBound",),
    "fedsec.auditing.canaries": ("check_canaries", "check_distinct"),
    "fedsec.auditing.gaussian_curve": ("delta_of_mu", "epsilon_of_mu", "mu_of_epsilon"),
    "fedsec.auditing.gaussian_dp": ("gaussian_dp_bound", "is_refuted"),
    "fedsec.auditing.guesses": ("Bonferroni", "Explicit", "Guesses", "SplitCanaries", "guess_grid"),
    "fedsec.auditing.membership": (
        "MembershipRates",
        "RateAtFpr",
        "Auc",
        "Roc",
        "auc",
        "membership_rates",
        "roc",
        "tpr_at_fpr",
    ),
    "fedsec.auditing.one_run": ("audit_one_run", "ceiling"),
    "fedsec.auditing.one_shot": ("OneShotEstimate", "one_shot_estimate"),
    "fedsec.auditing.rates": ("Rate", "clopper_pearson", "clustered_rate"),
    "fedsec.auditing.two_samples": ("audit_two_samples", "two_sample_bound"),
}
"""Module -> what it has of the public names."""

if not TYPE_CHECKING:  # a type checker is to know the names, not to take any name for one

    def __getattr__(name: str) -> Any:
        """Load a public name when it is first used."""
        for module, names in _HOMES.items():
            if name in names:
                value = getattr(import_module(module), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module 'fedsec.auditing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
