"""What leaked to a curious server, and what privacy costs."""

from collections.abc import Iterator, Sequence

from fedsec.metrics.metric import described, of_source
from fedsec.report.answer.words import place, plain_name, reading, varied_axes
from fedsec.report.metric_tables import guarantees
from fedsec.report.missing_values import claims
from fedsec.report.summary import Group, Record, Summary, summarize, value_of

__all__ = ["leakage", "privacy"]


def leakage(records: Sequence[Record]) -> Iterator[str]:
    """Sentences on what was reconstructed, beside a picture that looks at nothing.

    Args:
        records: the cells' records, every inversion's.
    """
    summary = summarize(records, "psnr")
    groups = [group for group in summary.groups if group.n]
    if groups:
        closest, farthest = (pick(groups, key=lambda group: group.mean or 0.0) for pick in (max, min))
        yield f"What a curious server reconstructs comes closest {_scored(summary, closest)}{_share(closest)}."
        if farthest is not closest:
            yield f"It stays farthest {_scored(summary, farthest)}{_share(farthest)}."
    labels = summarize(records, "label_accuracy")
    label_groups = [group for group in labels.groups if group.n]
    if label_groups and not groups:
        most, least = (pick(label_groups, key=lambda group: group.mean or 0.0) for pick in (max, min))
        metric, varied = labels.row, varied_axes(labels)
        low = f", and the fewest, {reading(metric, least.mean or 0.0)}, {place(least, varied)}" if most != least else ""
        yield (
            f"Of the labels that clients trained on a curious server finds up to {reading(metric, most.mean or 0.0)} "
            f"{place(most, varied)}".rstrip()
            + f"{low}."
        )


def privacy(records: Sequence[Record]) -> Iterator[str]:
    """Sentences on claims of differential privacy: what was spent, of how many settings, and what the numbers mean.

    Args:
        records: of finished cells.
    """
    claimed = False
    for name in of_source("privacy"):
        summary, metric = summarize(records, name), described(name)
        claiming = [group for group in summary.groups if any(claims(record, name) for record in group.records)]
        if not claiming:
            continue
        claimed = True
        values = sorted(group.mean for group in claiming if group.mean is not None)
        unbounded = sum(any(value_of(record, name) is None for record in group.records) for group in claiming)
        ends = list(dict.fromkeys(metric.write(value) for value in values[:1] + values[-1:]))
        parts = [f"{plain_name(metric)} is {' to '.join(ends)}"] if ends else []
        parts += [f"in {unbounded} there is no bound at all"] if unbounded else []
        yield (
            f"Differential privacy of one {metric.protects} is claimed in {len(claiming)} of {len(summary.groups)} "
            f"settings: {', and '.join(parts)}."
        )
    if claimed:
        meaning = "; ".join(guarantees(records))
        yield f"{meaning[:1].upper()}{meaning[1:]}."


def _scored(summary: Summary, group: Group) -> str:
    metric = summary.row
    gray = [value for record in group.records if (value := value_of(record, metric.baseline or "")) is not None]
    against = f", where a gray image scores {reading(metric, sum(gray) / len(gray))}" if gray else ""
    where = place(group, varied_axes(summary))
    return f"{where + ': ' if where else 'at '}PSNR {reading(metric, group.mean or 0.0)}{against}"


def _share(group: Group) -> str:
    values = [value for record in group.records if (value := value_of(record, "recovered")) is not None]
    return f" ({reading(described('recovered'), sum(values) / len(values))} of the images recovered)" if values else ""
