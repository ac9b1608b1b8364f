"""What every loop of rounds asks the guards before anything is built of it."""

from typing import Any

from fedsec.federation import guards
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.rounds import RoundLoop


def check_loop(loop: RoundLoop, algorithm: Algorithm, task: str, **parts: Any) -> guards.RunDescription:
    """Refuse rounds that must not be played.

    Args:
        loop: whose clients and threat they are.
        algorithm: of the federation.
        task: what is learned, by name.
        parts: what else there is, by the names that `guards.RunDescription` gives them.

    Returns:
        What the rounds are made of.

    Raises:
        InputError: the first thing that is wrong.
    """
    threat = loop.threat
    run = guards.RunDescription(
        algorithm,
        loop.num_clients,
        loop.clients_per_round,
        attack=threat.attack,
        num_byzantine=threat.num_byzantine,
        schedule=threat.schedule,
        claimed_examples=threat.claimed_examples,
        task=task,
        **parts,
    )
    guards.check(run)
    return run
