"""From what a scenario says of attackers to who they are."""

from fedsec.federation.threat import Attack, AttackRounds, Threat
from fedsec.scenario.config import CellConfig
from fedsec.scenario.threat_config import AttackConfig
from fedsec.seeds import Streams


def schedule_of(config: AttackConfig) -> AttackRounds:
    """In which rounds the attackers of a cell attack, and how often they are drawn."""
    return AttackRounds(config.since or 1, config.until, config.redraw)


def drawn_threat(config: CellConfig, streams: Streams, attack: Attack | None = None) -> Threat:
    """The Byzantine clients of a cell.

    Args:
        config: the cell.
        streams: of its seed.
        attack: what they do, built; None where only who they are is asked for.
    """
    clients = config.partition.clients
    return Threat.draw(
        attack,
        config.attack.count(clients),
        clients,
        streams,
        schedule=schedule_of(config.attack),
        claimed_examples=config.attack.claimed_examples,
        claimed_loss=config.attack.claimed_loss,
        speed=config.attack.speed,
    )
