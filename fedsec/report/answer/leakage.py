"""What leaked to a curious server, what audits showed, and what privacy costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fedsec.metrics.metric import described, of_source
from fedsec.report.answer.words import place, plain_name, reading, varied_axes
from fedsec.report.metric_tables import guarantees
from fedsec.report.missing_values import claims
from fedsec.report.summary import Group, Record, Summary, summarize, value_of

__all__ = ["audits", "leakage", "privacy"]

_TEXTS = {
    "exact_match": "Of the texts that clients trained on a curious server recovers {} to the last token",
    "token_set": "Of the tokens in them it tells {}",
}
_AUDITED = {
    "label_leak_auc": "A party without labels orders pairs of examples by class with an AUC of {}",
    "label_leak_accuracy": "A party without labels tells {} of the labels",
    "membership_auc": "Members are told from others with an AUC of {}",
    "site_identification": "Of clients' updates {} are told to be of the client that sent them",
}
"""Metric -> what an attacker does so well; of audits, not all of them beside each other."""
_AGAINST = {
    "token_set_null": "drawn ones would score",
    "label_leak_auc_blind": "before training",
    "label_leak_accuracy_blind": "before training",
    "membership_auc_blind": "without a look at the model",
    "site_identification_chance": "by chance",
}
"""Null baseline -> what it is."""


def leakage(records: Sequence[Record]) -> Iterator[str]:
    """Sentences on what was reconstructed, beside a picture that looks at nothing.

    Args:
        records: the cells' records, every inversion's.
    """
    summary = summarize(records, "psnr")
    groups = [group for group in summary.groups if group.n]
    if groups:
        closest, farthest = (pick(groups, key=lambda group: group.mean or 0.0) for pick in (max, min))
        yield f"What the server reconstructs comes closest {_scored(summary, closest)}{_share(closest)}."
        if farthest is not closest:
            yield f"It stays farthest {_scored(summary, farthest)}{_share(farthest)}."
    yield from _extremes(records, _TEXTS)
    labels = summarize(records, "label_accuracy")
    label_groups = [group for group in labels.groups if group.n]
    if label_groups and not groups:
        most, least = (pick(label_groups, key=lambda group: group.mean or 0.0) for pick in (max, min))
        metric, varied = labels.row, varied_axes(labels)
        low = f", and the fewest, {reading(metric, least.mean or 0.0)}, {place(least, varied)}" if most != least else ""
        yield (
            f"Of the labels that clients trained on the server finds up to {reading(metric, most.mean or 0.0)} "
            f"{place(most, varied)}".rstrip()
            + f"{low}."
        )


def audits(records: Sequence[Record]) -> Iterator[str]:
    """Sentences on what audits told of labels, members and clients, beside what is known without the federation.

    Args:
        records: the cells' records.
    """
    yield from _extremes(records, _AUDITED)


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


def _extremes(records: Sequence[Record], words: Mapping[str, str]) -> Iterator[str]:
    """Where an attacker does best and where worst, in the words of each metric that was measured."""
    for name, text in words.items():
        summary = summarize(records, name)
        groups = [group for group in summary.groups if group.n]
        if not groups:
            continue
        most, least = (pick(groups, key=lambda group: group.mean or 0.0) for pick in (max, min))
        best, worst = (_beside(summary, group) for group in (most, least))
        if reading(summary.row, most.mean or 0.0) == reading(summary.row, least.mean or 0.0):
            where = f", in all of {len(groups)} settings" if len(groups) > 1 else ""
            yield f"{text.format(best)}{where}."
            continue
        first, last = (place(group, varied_axes(summary)) for group in (most, least))
        yield f"{text.format('up to ' + best)} {first}, and in the worst case for it {worst} {last}."


def _beside(summary: Summary, group: Group) -> str:
    """A value, and in parentheses what it takes no attack for."""
    baseline, metric = summary.row.baseline or "", summary.row
    null = replace(group, metric=baseline).mean if baseline in _AGAINST else None
    against = "" if null is None else f" ({_AGAINST[baseline]} {reading(metric, null)})"
    return f"{reading(metric, group.mean or 0.0)}{against}"


def _scored(summary: Summary, group: Group) -> str:
    metric = summary.row
    images = {"psnr_mean_image": "the mean of the server's own images", "psnr_gray": "a gray image"}
    nulls = [(words, null) for name, words in images.items() if (null := replace(group, metric=name).mean) is not None]
    against = f", where {nulls[0][0]} scores {reading(metric, nulls[0][1])}" if nulls else ""
    where = place(group, varied_axes(summary))
    return f"{where + ': ' if where else 'at '}PSNR {reading(metric, group.mean or 0.0)}{against}"


def _share(group: Group) -> str:
    values = [value for record in group.records if (value := value_of(record, "recovered")) is not None]
    return f" ({reading(described('recovered'), sum(values) / len(values))} of the images recovered)" if values else ""
