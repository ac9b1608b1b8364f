"""What a robust strategy has to say of a round: whom it heard, believed and left out, by node id."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from flwr.app import MetricRecord

__all__ = ["Report", "NodeVerdicts"]

Report = Literal["nodes", "counts"]
"""What of a verdict goes into Flower's metrics: lists of node ids, or only how many they are."""


@dataclass(frozen=True)
class NodeVerdicts:
    """One round of a robust strategy.

    Attributes:
        round: its number, from 1; counted on where a strategy was restored.
        influence: node id -> which part of the aggregate its update contributed; they sum to one, or to zero where
            none counted. Nothing where there was no aggregate.
        rejected: node id -> why its reply was not used: not finite, other arrays than were sent, no number of examples.
        suspected: nodes that the rule takes for Byzantine and left out, rejected ones included; None of a rule that
            does not say.
        failed: node id -> the error that it replied with.
        missing: nodes that were asked and did not reply.
        withstands: how many Byzantine nodes of so many the rule withstands; None where it cannot work with so many.
        broken: why there is no new model, or why the rule was relaxed; empty in an ordinary round.
        byzantine: nodes whose updates the simulated attack replaced.
        attack: what the simulated attack had to say.
        epsilon: user-level privacy that the rounds so far have spent, of a private rule.
    """

    round: int
    influence: Mapping[int, float] = field(default_factory=dict)
    rejected: Mapping[int, str] = field(default_factory=dict)
    suspected: tuple[int, ...] | None = None
    failed: Mapping[int, str] = field(default_factory=dict)
    missing: tuple[int, ...] = ()
    withstands: int | None = None
    broken: str = ""
    byzantine: tuple[int, ...] = ()
    attack: Mapping[str, float | str] = field(default_factory=dict)
    epsilon: float | None = None

    def metrics(self, report: Report = "nodes") -> MetricRecord:
        """The verdict as Flower's metrics; all names begin with `fedsec-`.

        Args:
            report: `nodes` lists ids, with an influence each in the order of `fedsec-nodes`; `counts` gives numbers,
                for federations of thousands.
        """
        record = MetricRecord({"fedsec-aggregated": int(bool(self.influence))})
        lists: dict[str, list[int] | None] = {
            "rejected": list(self.rejected),
            "suspected": None if self.suspected is None else list(self.suspected),
            "missing": [*self.failed, *self.missing],
        }
        for name, nodes in lists.items():
            if nodes is not None:
                record[f"fedsec-{name}"] = nodes if report == "nodes" else len(nodes)
        if report == "nodes":
            record["fedsec-nodes"] = list(self.influence)
            record["fedsec-influence"] = list(self.influence.values())
        elif self.influence:
            record["fedsec-largest-influence"] = max(self.influence.values())
        if self.withstands is not None:
            record["fedsec-withstands"] = self.withstands
        if self.epsilon is not None:
            record["fedsec-epsilon"] = self.epsilon
        return record

    def lines(self) -> list[str]:
        """What a log should tell, a line each; nothing of an ordinary round."""
        lines = [f"node {node} was rejected: {problem}" for node, problem in self.rejected.items()]
        others = [node for node in self.suspected or () if node not in self.rejected]
        if others:
            lines.append(f"the rule takes these nodes for Byzantine: {', '.join(map(str, others))}")
        if self.missing:
            lines.append(f"no reply came from: {', '.join(map(str, self.missing))}")
        if self.broken:
            lines.append(f"{'' if self.influence else 'the model stays as it is: '}{self.broken}")
        return lines
