"""Evidence on malicious servers: rows that stand side by side were measured by the same code."""

import csv
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "docs/results/malicious_servers.csv"


def test_rows_of_an_attack_come_from_one_state_of_the_code() -> None:
    with RESULTS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    states: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        states.setdefault((row["attack"], row["clients"]), set()).add(row["code"])
    assert all(len(codes) == 1 and "" not in codes for codes in states.values()), states
    assert {"imprint", "loki", "trap_weights", "fishing"} <= {attack for attack, _ in states}
    seeds: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("attack", "options", "model", "batch_size", "clients", "local", "defense"))
        seeds.setdefault(key, []).append(row["seed"])
    assert all(drawn == ["0", "1", "2"] for drawn in seeds.values()), seeds
