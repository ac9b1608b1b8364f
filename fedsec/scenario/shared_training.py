"""Local training that several one-round cells have in common: which it is, and what it is called.

In a one-round experiment every client starts from the same initial parameters, so its update depends
neither on the defense nor on who else is attacked. Each (client, poisoning) pair is trained once.
"""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from fedsec import __version__
from fedsec.federation.rounds import sample_clients
from fedsec.federation.threat import Threat
from fedsec.scenario.config import CellConfig, unlabeled
from fedsec.scenario.threat import drawn_threat
from fedsec.seeds import Streams
from fedsec.threat import ByzantineAttack, DataPoisoning


def is_shared(config: CellConfig) -> bool:
    """Whether a cell shares local training with its neighbors: one round of updates, nobody slow, chosen or audited."""
    federation = config.federation
    alike = bool(federation.traits["first_round_alike"]) and not federation.stragglers
    return federation.rounds == 1 and alike and config.audit is None and federation.selection is None


_AFTER_TRAINING = (
    *("declared_byzantine", "broken_condition", "secure_aggregation", "fine_tune"),
    *("rounds", "clients_per_round", "sampling", "selection", "weighting", "server_lr", "evaluate_every"),
)
"""Keys of a federation on which a client's first update does not depend."""
_AROUND_TRAINING = ("federation", "attack", "inversion", "defense", "metrics")
"""Sections of a cell that are looked at in parts, or on which training does not depend."""


class SharingKeys:
    """Names the training of each client of a cell: a hash of all that it depends on.

    Args:
        config: the cell.
        device: where it trains; a GPU's rows must not end up in a CPU's result.
    """

    def __init__(self, config: CellConfig, device: str) -> None:
        dump = unlabeled(config.model_dump(mode="json"))
        # All but what is known to come after training: an option that nobody thought of here shares nothing by mistake.
        federation = {key: value for key, value in dump["federation"].items() if key not in _AFTER_TRAINING}
        depends = {key: value for key, value in dump.items() if key not in _AROUND_TRAINING}
        versions = [__version__, version("torch")]
        private = [part for part, held in zip(dump["defense"], config.defense, strict=True) if held.role == "local"]
        self._common: list[Any] = [depends, federation, private, device, versions]
        self._attack = {k: dump["attack"][k] for k in ("name", "options")}

    def __call__(self, client: int, *, poisoned: bool, part: Sequence[int] = ()) -> str:
        """The name of one client's training.

        Args:
            client: who trains.
            poisoned: whether the cell's attack corrupted its data.
            part: which part of an attack that attackers divide; see `part_of`.
        """
        content = [*self._common, self._attack if poisoned else None, client, *([list(part)] if part else [])]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def part_of(client: int, attack: type, threat: Threat) -> tuple[int, ...]:
    """Its place among the attackers and their number, for attacks that they divide; nothing for others.

    Args:
        client: an attacker.
        attack: the attack's class.
        threat: who attacks.
    """
    if not (issubclass(attack, ByzantineAttack) and attack.divided):
        return ()
    return sorted(threat.byzantine).index(client), threat.num_byzantine


class SharedTraining(NamedTuple):
    """The training of one client that cells have in common.

    Attributes:
        cell: index of the first cell that needs it.
        client: who trains.
        key: its name, see `SharingKeys`.
        poisoned: whether the cell's attack corrupted the client's data.
    """

    cell: int
    client: int
    key: str
    poisoned: bool


def shared_work(configs: Sequence[CellConfig], device: str = "cpu") -> list[SharedTraining]:
    """The distinct trainings that the given cells have in common, in the order in which cells need them."""
    from fedsec.plugins import registry

    trainings: dict[str, SharedTraining] = {}
    for index, config in enumerate(configs):
        if not is_shared(config):
            continue
        clients = config.partition.clients
        count = config.attack.count(clients)
        attack = registry.load("attack", config.attack.name) if count else object
        poisons = issubclass(attack, DataPoisoning)
        streams, keys = Streams(config.seed), SharingKeys(config, device)
        threat = drawn_threat(config, streams)
        attackers = threat.in_round(1)
        sampling = config.federation.sampling or "fixed"
        for client in sample_clients(clients, config.cohort, 1, streams, sampling):
            poisoned = poisons and client in attackers
            part = part_of(client, attack, threat) if poisoned else ()
            key = keys(client, poisoned=poisoned, part=part)
            trainings.setdefault(key, SharedTraining(index, client, key, poisoned))
    return list(trainings.values())
