"""What an attack said of a cell's rounds, and which of its settings did nothing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedsec.federation.updates import Federation
from fedsec.runs.experiment import Experiment
from fedsec.runs.round_summary import over_rounds


def attack_report(experiment: Experiment, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the attack said of the rounds, and what can be said of its settings beside this federation.

    Args:
        experiment: the cell.
        history: its rounds, as `rounds.jsonl` has them.
    """
    report = over_rounds(history)
    for remark in _idle_claims(experiment):
        report["remark"] = {**report.get("remark", {}), remark: len(history)}
    return report


def _idle_claims(experiment: Experiment) -> Iterator[str]:
    threat, federation = experiment.threat, experiment.federation
    if threat.claimed_examples != 1 and isinstance(federation, Federation) and not federation.aggregator.uses_weights:
        yield "claimed_examples does nothing: the rule weighs nobody by a number of examples"
    asked = federation.selection is not None and federation.selection.by_loss
    if threat.claimed_loss != 1 and not asked:
        yield "claimed_loss does nothing: the server asks nobody for a loss"
    if threat.speed != 1 and not experiment.config.federation.traits["by_arrival"]:
        yield "speed does nothing: the server waits for everybody"
