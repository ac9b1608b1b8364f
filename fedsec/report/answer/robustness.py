"""What attacks did to models: which defense was hurt most, which held best, and how surely."""

from collections.abc import Iterator, Sequence

from fedsec.metrics.metric import Metric
from fedsec.report.accuracy_rows import Change, DefenseOutcome, OutcomeTable, compare, loss
from fedsec.report.answer.words import (
    listed,
    place,
    plain_name,
    reading,
    shorter,
    surely,
    varied_axes,
    with_interval,
)
from fedsec.report.intervals import direction
from fedsec.report.summary import DEFENSE, Group, Record, value_of

__all__ = ["robustness"]

_FEWEST_SEEDS = 3
_FEWEST_COUNTED = 4
_LARGE_GAP = 0.05
"""Of what a metric's range (or its value, without one) is: how far below the last round others are worth a sentence."""


def robustness(records: Sequence[Record]) -> list[str]:
    """Sentences on what models reached with and without attackers.

    Args:
        records: one for each model that was trained, in the matrix's order.
    """
    comparison = compare(records)
    valued = [outcome for outcome in comparison.outcomes if outcome.group.mean is not None]
    if not valued:
        return []
    calm = [outcome for outcome in valued if not outcome.group.attacked]
    attacked = [outcome for outcome in valued if outcome.group.attacked]
    sentences = []
    if calm:
        sentences.append(_range(comparison, calm, "Without an attack " if attacked else ""))
    if attacked and not any(outcome.change for outcome in attacked):
        sentences.append(_range(comparison, attacked, "Under attack "))
    if comparison.metric.better != "neither":
        sentences += _losses(comparison, attacked)
        sentences += _best_defense(comparison, attacked)
    sentences += _aims(records)
    sentences += _before_the_last(records, comparison)
    return sentences


def _range(comparison: OutcomeTable, outcomes: Sequence[DefenseOutcome], when: str) -> str:
    """Between which values models end, and where."""
    metric, varied = comparison.metric, varied_axes(comparison.summary)
    groups = [outcome.group for outcome in outcomes]
    low, high = (pick(groups, key=lambda group: group.mean or 0.0) for pick in (min, max))
    name = plain_name(metric)
    beginning = f"{when}{name}" if when else name[:1].upper() + name[1:]
    named = bool(when) and any(group.attacked for group in groups)
    where = [place(group, varied, attack=named) for group in (low, high)]
    if len(groups) == 1:
        return f"{beginning} is {with_interval(metric, low)}{' ' + where[0] if where[0] and not when else ''}."
    texts = [reading(metric, group.mean or 0.0) for group in (low, high)]
    if texts[0] == texts[1]:
        return f"{beginning} is {texts[0]} in all of {len(groups)} settings."
    ends = (f"{text} {setting}".rstrip() for text, setting in zip(texts, where, strict=True))
    return f"{beginning} is between {' and '.join(ends)}."


def _losses(comparison: OutcomeTable, attacked: Sequence[DefenseOutcome]) -> Iterator[str]:
    """What is lost most, and how much of all that was lost seeds bear out."""
    metric = comparison.metric
    changes = [(change, outcome) for outcome in attacked if (change := outcome.change) is not None]
    if not changes:
        return
    change, outcome = max(changes, key=lambda pair: loss(metric, pair[0]))
    if loss(metric, change) <= 0:
        yield f"No attack made {plain_name(metric)} worse on average over seeds."
    else:
        yield _largest(comparison, outcome, change)
    sure = [change for change, _ in changes if change.told_apart]
    if len(changes) >= _FEWEST_COUNTED and any(change.seeds >= _FEWEST_SEEDS for change, _ in changes):
        worse = sum(loss(metric, change) > 0 for change in sure)
        better = f", {len(sure) - worse} of them better" if len(sure) > worse else ""
        number = f"{len(sure)} {'is' if len(sure) == 1 else 'are'}" if sure else "none is"
        yield f"Of {len(changes)} settings under attack {number} told apart from the same without an attack{better}."


def _largest(comparison: OutcomeTable, outcome: DefenseOutcome, change: Change) -> str:
    metric, group = comparison.metric, outcome.group
    before = outcome.baseline.mean if outcome.baseline and outcome.baseline.mean is not None else None
    start = "" if before is None else f"from {reading(metric, before)} "
    end = with_interval(metric, group)
    verb = "rises" if metric.better == "lower" else "falls"
    where = place(group, varied_axes(comparison.summary))
    unit = " points" if metric.is_fraction else f" {metric.unit}".rstrip()
    seeds = "equal seeds" if change.seeds > 1 else "the same seed"
    return (
        f"The largest loss is {where or 'that under attack'}: {plain_name(metric)} {verb} {start}to {end} "
        f"({metric.write(change.mean, '+')}{unit} on {seeds}{surely(change)})."
    )


def _best_defense(comparison: OutcomeTable, attacked: Sequence[DefenseOutcome]) -> Iterator[str]:
    """Which defense keeps most where the attack on it that is worst; only of those with a value under every attack."""
    metric = comparison.metric
    settings: dict[str, list[DefenseOutcome]] = {}
    for outcome in attacked:
        settings.setdefault(outcome.group.axes.get(DEFENSE, ""), []).append(outcome)
    everywhere = max(map(len, settings.values()), default=0)
    worst = {
        name: _extreme(metric, [outcome.group for outcome in outcomes])
        for name, outcomes in settings.items()
        if len(outcomes) == everywhere
    }
    if len(worst) < 2:
        return
    ordered = sorted(worst, key=lambda name: worst[name].mean or 0.0, reverse=metric.better != "lower")
    written = {name: reading(metric, group.mean or 0.0) for name, group in worst.items()}
    best = [name for name in ordered if written[name] == written[ordered[0]]]
    names, last = listed([shorter(name) for name in best[:4]]), worst[ordered[0]]
    hold = "holds" if len(best) == 1 else "hold"
    where = place(last, varied_axes(comparison.summary) - {DEFENSE})
    when = "under attack "
    if everywhere > 1:
        when = f"at its worst, {where}, " if len(best) == 1 and where else "where attacks hurt them most "
    doubt = ""
    if len(best) < len(ordered):
        second = worst[ordered[len(best)]]
        enough = len(set(last.by_seed) & set(second.by_seed)) >= _FEWEST_SEEDS
        if enough and direction(last.by_seed, second.by_seed, settings=len(worst)) == 0:
            next_name = shorter(ordered[len(best)])
            doubt = f", which seeds do not tell from {next_name} ({reading(metric, second.mean or 0.0)})"
    whole = "" if len(worst) == len(settings) else " with numbers under every attack"
    value = f"{plain_name(metric)} is {written[ordered[0]]}"
    yield f"Of {len(worst)} defenses{whole} {names} {hold} best: {when}{value}{doubt}."


def _aims(records: Sequence[Record]) -> Iterator[str]:
    """How often attackers with an aim of their own reach it."""
    name = "attack_success_rate"
    if not any(value_of(record, name) is not None for record in records):
        return
    comparison = compare(records, name)
    groups = [outcome.group for outcome in comparison.outcomes if outcome.group.attacked and outcome.group.n]
    if not groups:
        return
    most, least = (pick(groups, key=lambda group: group.mean or 0.0) for pick in (max, min))
    varied, metric = varied_axes(comparison.summary), comparison.metric
    text = f"What the attackers want succeeds in up to {reading(metric, most.mean or 0.0)} of their tests"
    if len(groups) == 1:
        yield f"{text.replace('up to ', '')}."
        return
    if reading(metric, most.mean or 0.0) == reading(metric, least.mean or 0.0):
        yield f"{text.replace('up to ', '')}, in all of {len(groups)} settings under attack."
        return
    fewest = f"{reading(metric, least.mean or 0.0)}, {place(least, varied)}"
    yield f"{text}, {place(most, varied)}, and in the fewest, {fewest}."


def _before_the_last(records: Sequence[Record], comparison: OutcomeTable) -> Iterator[str]:
    """That models of the last rounds were far worse than that of the very last one."""
    metric = comparison.metric
    if metric.better == "neither":
        return
    worst = compare(records, metric.worst_of_last.name)
    gaps = [
        (gap, outcome.group, earlier.group)
        for key, row in comparison.rows.items()
        for name, outcome in row.items()
        if (earlier := worst.rows[key].get(_column(comparison, worst, name))) is not None
        and (gap := _gap(outcome.group, earlier.group)) is not None
    ]
    large = [(gap, last, earlier) for gap, last, earlier in gaps if gap > _LARGE_GAP * _scale(metric, last)]
    if not large:
        return
    _, group, worst_group = max(large, key=lambda entry: entry[0])
    where = place(group, varied_axes(comparison.summary))
    many = f"{len(large)} settings: most of all" if len(large) > 1 else "one setting:"
    yield (
        f"The last round alone would flatter {many} that {where or 'of this run'}, "
        f"where the worst of the last five evaluated rounds had {plain_name(metric)} "
        f"{reading(metric, worst_group.mean or 0.0)} and the last {reading(metric, group.mean or 0.0)}."
    )


def _scale(metric: Metric, group: Group) -> float:
    """What a gap is measured against: a fraction's range, or else the value itself."""
    return 1.0 if metric.is_fraction else abs(group.mean or 0.0)


def _column(comparison: OutcomeTable, other: OutcomeTable, name: str) -> str:
    """The same column in another comparison; a column without a defense is called as its metric."""
    return other.summary.metric if name == comparison.summary.metric else name


def _gap(last: Group, earlier: Group) -> float | None:
    return None if last.mean is None or earlier.mean is None else abs(last.mean - earlier.mean)


def _extreme(metric: Metric, groups: Sequence[Group]) -> Group:
    """The group that is worst off."""
    by_mean = {group.mean: group for group in reversed(groups) if group.mean is not None}
    return by_mean[metric.worst(by_mean)]
