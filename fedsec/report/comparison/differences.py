"""Differences of two runs over equal seeds, setting by setting, and which of them seeds tell apart.

Of each seed the difference counts: equal seeds have the same clients, attackers and start. A setting's interval is
Student's, 95% by itself. Many settings are tested at once, so that by chance one in twenty would look different: a
difference is told apart where its p-value, by the paired t-test, is below 5% after Holm's correction over the metric's
settings, which keeps the chance of any false one at 5%. Fewer than three seeds tell nothing apart.

Reference: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 1979.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from fedsec.metrics.metric import Metric
from fedsec.report.comparison.pairing import CellPair
from fedsec.report.intervals import half_width
from fedsec.report.summary import value_of

__all__ = ["MetricDifferences", "SettingDifference", "Verdict", "differences_of", "holm", "paired_p_value"]

Verdict = Literal["better", "worse", "higher", "lower", "not told apart", "equal", "too few seeds"]
LEVEL = 0.05
FEWEST = 3


@dataclass(frozen=True)
class SettingDifference:
    """One setting of two runs, over the seeds that both have.

    Args:
        setting: axis -> value, without the seed.
        first: mean of the first run.
        other: mean of the other run.
        mean: of the differences, other minus first.
        half_width: of their 95% interval; None for fewer than three seeds.
        p_value: of the paired t-test, corrected for all settings of the metric; None for fewer than three seeds.
        seeds: on how many it rests.
        all_seeds: how many pairs there are.
        verdict: what can be said of it.
    """

    setting: Mapping[str, str]
    first: float
    other: float
    mean: float
    half_width: float | None
    p_value: float | None
    seeds: int
    all_seeds: int
    verdict: Verdict = "too few seeds"


@dataclass(frozen=True)
class MetricDifferences:
    """All settings of one metric.

    Args:
        metric: what the values are.
        settings: those with a pair of values, in the order of the first run.
        missing: settings whose pairs lack a value on either side.
        overall: the mean over settings, seed by seed; None where no seed has all settings.
        overall_half_width: of its 95% interval; None for fewer than three seeds.
    """

    metric: Metric
    settings: Sequence[SettingDifference]
    missing: Sequence[Mapping[str, str]] = ()
    overall: float | None = None
    overall_half_width: float | None = None

    def count(self, *verdicts: Verdict) -> int:
        """How many settings have one of these verdicts."""
        return sum(setting.verdict in verdicts for setting in self.settings)


def differences_of(pairs: Sequence[CellPair], metric: Metric) -> MetricDifferences:
    """Compare a metric of two runs.

    Args:
        pairs: cells that belong together.
        metric: a scalar of their records.
    """
    by_setting: dict[tuple[tuple[str, str], ...], list[CellPair]] = {}
    for pair in pairs:
        by_setting.setdefault(tuple(pair.setting.items()), []).append(pair)
    settings, missing, by_seed = [], [], []
    for key, alike in by_setting.items():
        values = {
            pair.seed: (first, other)
            for pair in alike
            if (first := value_of(pair.first, metric.name)) is not None
            and (other := value_of(pair.other, metric.name)) is not None
        }
        if not values:
            missing.append(dict(key))
            continue
        settings.append(_difference(dict(key), list(values.values()), len(alike)))
        by_seed.append({seed: other - first for seed, (first, other) in values.items()})
    settings = _judged(settings, metric)
    common = [seed for seed in (by_seed[0] if by_seed else {}) if all(seed in values for values in by_seed)]
    averages = [fmean(values[seed] for values in by_seed) for seed in common]
    return MetricDifferences(
        metric,
        settings,
        missing,
        fmean(averages) if averages else None,
        half_width(averages) if len(averages) >= FEWEST else None,
    )


def paired_p_value(differences: Sequence[float]) -> float:
    """The two-sided p-value of the paired t-test that differences are 0 on average.

    Args:
        differences: at least two; equal ones that are not 0 have the p-value 0, and zeros have 1.
    """
    from scipy.special import stdtr

    mean, spread = fmean(differences), stdev(differences)
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(stdtr(len(differences) - 1, -abs(mean) / spread * math.sqrt(len(differences))))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests, corrected so that the chance of any false one among them stays what it is for one."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def _difference(setting: Mapping[str, str], values: Sequence[tuple[float, float]], pairs: int) -> SettingDifference:
    paired = [other - first for first, other in values]
    enough = len(paired) >= FEWEST
    return SettingDifference(
        setting,
        fmean(first for first, _ in values),
        fmean(other for _, other in values),
        fmean(paired),
        half_width(paired) if enough else None,
        paired_p_value(paired) if enough else None,
        len(paired),
        pairs,
        "equal" if not any(paired) else "too few seeds",
    )


def _judged(settings: Sequence[SettingDifference], metric: Metric) -> list[SettingDifference]:
    tested = [setting.p_value for setting in settings if setting.p_value is not None]
    corrected = iter(holm(tested))
    judged = []
    for setting in settings:
        if setting.p_value is None:
            judged.append(setting)
            continue
        p_value = next(corrected)
        verdict = setting.verdict if setting.verdict == "equal" else _verdict(setting.mean, p_value, metric)
        judged.append(replace(setting, p_value=p_value, verdict=verdict))
    return judged


def _verdict(mean: float, p_value: float, metric: Metric) -> Verdict:
    if p_value > LEVEL:
        return "not told apart"
    if metric.better == "neither":
        return "higher" if mean > 0 else "lower"
    return "better" if (mean > 0) == (metric.better == "higher") else "worse"
