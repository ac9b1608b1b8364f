"""What a cell's record needs of a finished round: numbers instead of a list of everybody who took part."""

from collections.abc import Mapping
from typing import Any

from fedsec.metrics.metric import Metric

_BY_CLIENT = ("clients", "byzantine_in_round", "rejected", "influence", "dropped", "spent")


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
        "num_rejected": len(line["rejected"]),
        "worst_client": None if line[own] is None else _worst_client(line, line[own], primary),
    }


def _worst_client(line: Mapping[str, Any], values: list[float], primary: Metric) -> float:
    """The worst value of an honest client's own model; of any client's if none was honest."""
    by_client = dict(zip(line["clients"], values, strict=True))
    honest = [value for client, value in by_client.items() if client not in line["byzantine_in_round"]]
    return primary.worst(honest or by_client.values())
