"""Averages of what nodes say of their training."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from fedsec.flower.claims import Claims
from fedsec.flower.node_verdicts import NodeVerdicts
from fedsec.flower.replies import Reply, read_replies

__all__ = ["averaged_metrics", "usable_evaluations"]


def usable_evaluations(messages: Sequence[Message], key: str) -> tuple[list[Message], list[int]]:
    """Replies to an evaluation that an average can be taken of, errors among them, and the nodes of all others.

    Flower's strategies give up the run where the metrics of one reply have other names than the rest, or no weight.

    Args:
        messages: as the grid gave them.
        key: the metric that says how many examples a node has.
    """
    replies, _ = read_replies(messages, key)
    counted = [reply for reply in replies if reply.num_examples and reply.metrics and _finite(reply.metrics)]
    forms = {reply.node: (*reply.message.content.metric_records, _shape(reply.metrics or {})) for reply in counted}
    usual = Counter(forms.values()).most_common(1)[0][0] if forms else None
    usable = [reply for reply in counted if forms[reply.node] == usual]
    left_out = sorted({reply.node for reply in replies} - {reply.node for reply in usable})
    return [*(reply.message for reply in usable), *(one for one in messages if one.has_error())], left_out


def averaged_metrics(strategy: FedAvg, replies: Sequence[Reply], claims: Claims, verdict: NodeVerdicts) -> MetricRecord:
    """What the strategy's own function makes of the nodes' metrics; empty where there is nothing to average.

    Left out are nodes that were rejected or suspected, metrics that are not finite, and names that most do not have: a
    single Byzantine node would otherwise decide what an average is. Of the others an average remains one, and each of
    them moves it as far as it likes.

    Args:
        strategy: with the function, and the name of the weights.
        replies: of a round.
        claims: how far the nodes' numbers of examples are believed.
        verdict: on the round.
    """
    outside = {*verdict.rejected, *(verdict.suspected or ())}
    counted = [
        (reply, weight)
        for reply, weight in zip(replies, claims.weights(replies), strict=True)
        if weight > 0 and reply.node not in outside and reply.metrics and _finite(reply.metrics)
    ]
    if not counted:
        return MetricRecord()
    names = Counter(_shape(reply.metrics or MetricRecord()) for reply, _ in counted)
    usual = names.most_common(1)[0][0]
    key = strategy.weighted_by_key
    contents = [
        _content(reply, key, weight) for reply, weight in counted if _shape(reply.metrics or MetricRecord()) == usual
    ]
    return MetricRecord(dict(strategy.train_metrics_aggr_fn(contents, key)))


def _shape(metrics: Mapping[str, object]) -> frozenset[tuple[str, int]]:
    """Names of the metrics, and of lists their length."""
    return frozenset((name, len(value) if isinstance(value, list) else -1) for name, value in metrics.items())


def _finite(metrics: MetricRecord) -> bool:
    values: Iterable[float] = (
        number for value in metrics.values() for number in (value if isinstance(value, list) else (value,))
    )
    return all(isfinite(number) for number in values)


def _content(reply: Reply, key: str, weight: float) -> RecordDict:
    """The node's reply with the weight that it is granted."""
    content = RecordDict()
    for name, record in reply.message.content.items():
        content[name] = MetricRecord({**record, key: weight}) if record is reply.metrics else record
    return content
