"""What a cell's record needs of a finished round: numbers instead of a list of everybody who took part."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any

from fedsec.metrics.metric import Metric, of_source
from fedsec.runs.experiment import finite
from fedsec.runs.outcomes.client_tests import CLIENT_TESTS

_BY_CLIENT = (
    *("clients", "byzantine_in_round", "rejected", "influence", "dropped", "spent", "suspected", "refused"),
    CLIENT_TESTS,
)


def in_short(line: Mapping[str, Any], primary: Metric) -> dict[str, Any]:
    """A line of a cell's log without its lists of clients, and with what is counted of them.

    Args:
        line: as `rounds.jsonl` has it.
        primary: the metric that sums a model up.
    """
    own = f"client_{primary.name}"
    attackers = set(line["byzantine_in_round"])
    influence = zip(line["influence"], line["clients"], strict=True)
    return {
        **{key: value for key, value in line.items() if key not in (*_BY_CLIENT, own)},
        "byzantine_influence": sum(share for share, client in influence if client in attackers),
        # A round may have no clients at all.
        "byzantine_majority": 0 < len(line["clients"]) <= 2 * len(line["byzantine_in_round"]),
        # More than the rule withstands, whatever it says of lost rows where it withstands nobody.
        "too_many_byzantine": len(line["byzantine_in_round"]) > line.get("withstands", len(line["clients"])),
        "num_rejected": len(line["rejected"]),
        **_of_inspections(line, attackers),
        "worst_client": None if line[own] is None else _worst_client(line, line[own], primary),
    }


def _of_inspections(line: Mapping[str, Any], attackers: Collection[int]) -> dict[str, int]:
    """How many clients looked at the model before they trained, and how many of them refused it."""
    if "refused" not in line:
        return {}
    refused, trained = len(line["refused"]), len([client for client in line["clients"] if client not in attackers])
    return {"num_refused": refused, "num_inspected": refused + trained}


def models_refused(history: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """How often clients would not train on what an honest server sent; nothing where nobody looks at it.

    Args:
        history: the rounds, as `in_short` leaves them.
    """
    asked = [line for line in history if "num_inspected" in line]
    inspected = sum(line["num_inspected"] for line in asked)
    return {"models_refused": sum(line["num_refused"] for line in asked) / inspected} if inspected else {}


def secure_sums(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a simulated protocol of secure aggregation cost and lost a round, on average; nothing where there is none.

    Args:
        history: the rounds, as `in_short` leaves them.
    """
    rounds = [line["secure_sums"] for line in history if "secure_sums" in line]
    if not rounds:
        return {}
    phases = {name: sums for one in rounds for name, sums in one["phases"].items()}
    sums = ("messages", "server_sent", "server_received", "protocol_rounds", "clipped")
    return {
        **{name: fmean(one[name] for one in rounds) for name in sums},
        "phases": {
            name: {key: fmean(one["phases"].get(name, {}).get(key, 0) for one in rounds) for key in keys}
            for name, keys in phases.items()
        },
        "clients_lost": fmean(len(one.get("before_sharing", ())) + len(one.get("before_upload", ())) for one in rounds),
        "aborted_sums": sum(len(one.get("aborted", ())) for one in rounds),
    }


def _worst_client(line: Mapping[str, Any], values: list[float], primary: Metric) -> float:
    """The worst value of an honest client's own model; of any client's if none was honest."""
    by_client = dict(zip(line["clients"], values, strict=True))
    honest = [value for client, value in by_client.items() if client not in line["byzantine_in_round"]]
    return primary.worst(honest or by_client.values())


def reported(report: Mapping[str, float | str]) -> dict[str, float | str | None]:
    """An attack's report of a round, as JSON can hold it: what is no finite number becomes None."""
    return {name: value if isinstance(value, str) else finite(value) for name, value in report.items()}


def over_rounds(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What an attack said of a cell's rounds, by name; nothing where no attack said anything.

    Args:
        history: the rounds, as `rounds.jsonl` has them.

    Returns:
        Of numbers their mean, least, largest and the number of rounds that have one; of words in how many rounds each
        was said.
    """
    reports = [line["attack"] for line in history if line.get("attack")]
    summary: dict[str, Any] = {}
    for name in dict.fromkeys(name for report in reports for name in report):
        values = [report[name] for report in reports if report.get(name) is not None]
        words = [value for value in values if isinstance(value, str)]
        numbers = [value for value in values if not isinstance(value, str)]
        if words:
            summary[name] = dict(Counter(words).most_common())
        elif numbers:
            mean = fmean(numbers)
            summary[name] = {"mean": mean, "min": min(numbers), "max": max(numbers), "rounds": len(numbers)}
    return summary


def leakage(history: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """What was reconstructed, averaged over the observed rounds, and in how many; nothing if nothing was.

    Of models that a malicious server made, where clients look at what they receive, the share that was refused as well;
    where it saw a sum of clients, how much of all of theirs it recovered.
    """
    observed = [line["leakage"] for line in history if line.get("leakage")]
    asked = [part["refused"] for part in observed if "refused" in part]
    refused: dict[str, float | None] = {"crafted_models_refused": fmean(map(float, asked))} if asked else {}
    leaked = [part["metrics"] for part in observed if part["metrics"] is not None]
    if not leaked:
        return refused
    columns = {name: [metrics[name] for metrics in leaked] for name in of_source("inversion") if name in leaked[0]}
    means = {name: None if None in values else fmean(values) for name, values in columns.items()}
    groups = [part["group_recovered"] for part in observed if "group_recovered" in part]
    of_groups = {"group_recovered": fmean(groups)} if groups else {}
    return {**means, **of_groups, "rounds_reconstructed": len(leaked), **refused}
