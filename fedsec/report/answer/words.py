"""How sentences name settings and write values."""

from collections.abc import Collection, Sequence

from fedsec.metrics.metric import Metric
from fedsec.report.accuracy_rows import Change
from fedsec.report.summary import ATTACK, DEFENSE, Group, Summary
from fedsec.scenario.threat_config import NO_DEFENSE

__all__ = ["among", "listed", "place", "plain_name", "reading", "surely", "varied_axes", "with_interval"]

_MOST_NAMED = 3
_LONGEST_NAME = 60
_FEWEST_SEEDS = 3


def plain_name(metric: Metric) -> str:
    """A metric's name as words."""
    return metric.name.replace("_", " ")


def reading(metric: Metric, value: float, sign: str = "-") -> str:
    """A value with its unit."""
    if metric.is_fraction:
        return metric.write(value, sign) + "%"
    return f"{metric.write(value, sign)} {metric.unit}".rstrip()


def with_interval(metric: Metric, group: Group) -> str:
    """A mean with its unit, and what its seeds span where they differ."""
    if group.mean is None:
        return "unknown"
    text = reading(metric, group.mean)
    ends = [metric.write(end) for end in group.interval or ()] if metric.by_chance else []
    return f"{text} [{'..'.join(ends)}]" if len(set(ends)) > 1 else text


def varied_axes(summary: Summary) -> set[str]:
    """The axes whose values tell groups of a run apart."""
    return {axis for axis in summary.axes if len({group.axes.get(axis) for group in summary.groups}) > 1}


def place(group: Group, varied: Collection[str], *, attack: bool = True) -> str:
    """Where in the matrix a group stands, as in `with median under alie at partition=iid`.

    Args:
        group: of a run.
        varied: the axes that are worth a word.
        attack: whether to say who attacks.
    """
    named = {axis: text for axis, text in group.axes.items() if axis in varied}
    parts = []
    if DEFENSE in named:
        parts.append("without a defense" if named[DEFENSE] == NO_DEFENSE else f"with {shorter(named[DEFENSE])}")
    if attack and group.attacked and ATTACK in named:
        parts.append(f"under {shorter(named[ATTACK])}")
    further = [f"{axis}={shorter(text)}" for axis, text in named.items() if axis not in (ATTACK, DEFENSE)]
    further = [text for text in further if attack or not text.startswith(f"{ATTACK}.")]
    return " ".join(parts + ([f"at {', '.join(further)}"] if further else []))


def shorter(name: str) -> str:
    """A name that does not fill a paragraph."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."


def among(texts: Sequence[str]) -> str:
    """Distinct texts as a list in words, the last ones counted where they are many."""
    distinct = list(dict.fromkeys(filter(None, texts)))
    shown = distinct[:_MOST_NAMED]
    if rest := len(distinct) - len(shown):
        shown.append(f"{rest} more")
    return listed(shown)


def listed(texts: Sequence[str]) -> str:
    """Texts as a list in words."""
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else "".join(texts)


def surely(change: Change) -> str:
    """What seeds say of a change, as the end of a sentence; nothing where they are too few to say anything."""
    if change.seeds < _FEWEST_SEEDS:
        return ""
    verdict = "tell it apart" if change.told_apart else "do not tell it apart"
    return f"; {change.seeds} equal seeds {verdict} from no attack"
