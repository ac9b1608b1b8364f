"""What is said of a comparison, on the page and in the terminal."""

from collections.abc import Sequence

from fedsec.errors import count_of
from fedsec.metrics.metric import Metric
from fedsec.report.comparison.differences import FEWEST, MetricDifferences, SettingDifference
from fedsec.report.comparison.run_comparison import RunComparison

__all__ = ["conditions_in_short", "counts", "outcome", "written_difference", "written_p_value"]

_MOST = 6


def written_difference(one: SettingDifference, metric: Metric, *, sign: str = "+-") -> str:
    """A difference and half the width of its interval, as in `+1.2 +- 0.8`."""
    mean = metric.write(one.mean, "+")
    return mean if one.half_width is None else f"{mean} {sign} {metric.write(one.half_width)}"


def written_p_value(one: SettingDifference) -> str:
    """A p-value as it is read."""
    if one.p_value is None:
        return "-"
    return "< 0.001" if one.p_value < 0.001 else f"{one.p_value:.3f}"


def counts(compared: MetricDifferences) -> str:
    """How many settings are better, worse, or not told apart."""
    verdicts = [one.verdict for one in compared.settings]
    with_words = {"too few seeds": "with too few seeds to tell"}
    parts = [
        f"{verdicts.count(verdict)} {with_words.get(verdict, verdict)}" for verdict in _ORDER if verdict in verdicts
    ]
    return f"of {count_of(len(verdicts), 'setting')} {', '.join(parts)}"


_ORDER = ("better", "worse", "higher", "lower", "not told apart", "equal", "too few seeds")


def outcome(compared: RunComparison, of_metric: MetricDifferences, *, sign: str = "+-") -> str:
    """One metric of a comparison in a sentence or two."""
    metric, (first, other) = of_metric.metric, (compared.first.name, compared.other.name)
    sentence = f"{metric.name}, {other} against {first}: {counts(of_metric)}."
    if of_metric.overall is not None:
        unit = " points" if metric.is_fraction else f" {metric.unit}" if metric.unit else ""
        width = of_metric.overall_half_width
        interval = f" {sign} {metric.write(width)}" if width is not None else ""
        sentence += f" On average over settings {metric.write(of_metric.overall, '+')}{interval}{unit}."
    if of_metric.settings and all(one.seeds < FEWEST for one in of_metric.settings):
        larger = sum(one.mean > 0 for one in of_metric.settings)
        smaller = sum(one.mean < 0 for one in of_metric.settings)
        sentence += (
            f" It is larger in {larger} and smaller in {smaller}; with fewer than {FEWEST} seeds nothing says whether "
            "by chance."
        )
    return sentence


def conditions_in_short(compared: RunComparison) -> list[str]:
    """What the runs were run with otherwise, a line each; the most of it."""
    lines = [f"differs: {condition}" for condition in (*compared.conditions, *compared.versions)]
    if not lines:
        return ["configuration, code, data and versions are the same"]
    rest = len(lines) - _MOST
    return lines if rest <= 1 else [*lines[:_MOST], f"and {rest} more, see the page"]


def legend(metric: Metric, settings: Sequence[SettingDifference], *, sign: str = "+-") -> str:
    """How to read a table of differences."""
    unit = " in points" if metric.is_fraction else ""
    tested = sum(one.p_value is not None for one in settings)
    parts = [f"difference{unit}: mean over equal seeds of the other run minus the first"]
    if tested:
        parts.append(f"after {sign} half the width of its 95% interval (Student's), of each setting by itself")
        parts.append(
            f"p: of the paired t-test, corrected for {count_of(tested, 'setting')} (Holm); better and worse are told "
            "where it is at most 0.05"
        )
    return "; ".join(parts)
