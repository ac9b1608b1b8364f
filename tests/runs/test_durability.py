"""What is left of a backdoor after its attackers are gone, in a run."""

from pathlib import Path
from typing import Any


def test_in_a_run(tmp_path: Path, tiny: Any) -> None:
    attack = "matrix.attack=[{name: backdoor, target: 1, size: 2, fraction: 0.34, until: 2}]"
    rounds = ("federation.rounds=5", "federation.evaluate_every=5", "matrix.defense=[mean]")
    (record,) = tiny.run(tmp_path, attack, *rounds).records
    metrics = record["metrics"]
    assert 0 <= metrics["attack_success_rate_at_until"] <= 1
    assert metrics["attack_success_rate"] is not None
    # Evaluated when the attackers left and in the end.
    assert metrics["backdoor_lifespan"] in (0, 3)
