"""Before a run: which of a scenario's cells cannot be spread over actors, and why."""

from collections.abc import Sequence

from fedsec.defense.updates import UpdateTransform
from fedsec.federation.algorithms import UpdateAlgorithm
from fedsec.federation.forgery import Forgery
from fedsec.federation.sharded_rounds import why_not_spread
from fedsec.plugins import registry
from fedsec.scenario import Cell, CellConfig
from fedsec.scenario.algorithm import make_algorithm
from fedsec.scenario.server_rule import server_rule
from fedsec.scenario.threat_config import NO_ATTACK
from fedsec.seeds import Streams

__all__ = ["notes_on_actors", "why_not_in_parts"]


def notes_on_actors(cells: Sequence[Cell]) -> list[str]:
    """What to say of cells that will fail with actors, a line for each reason.

    Args:
        cells: of a scenario that passed `check_scenario`.
    """
    reasons = [reason for cell in cells if (reason := why_not_in_parts(cell.config))]
    return [
        f"actors_per_cell: {reasons.count(reason)} of {len(cells)} cells will fail: {reason}"
        for reason in dict.fromkeys(reasons)
    ]


def why_not_in_parts(config: CellConfig) -> str:
    """What of a cell needs whole rows, or remembers them, in words; empty if nothing does.

    Args:
        config: the cell's, resolved; no data are looked at.
    """
    algorithm = make_algorithm(config.federation)
    if not isinstance(algorithm, UpdateAlgorithm):
        return f"{config.federation.algorithm} exchanges no updates; expected an algorithm of updates"
    if config.inversion is not None:
        return "an inversion looks at whole rows; expected none"
    if config.federation.secure_aggregation is not None:
        return "secure aggregation sums whole rows; expected none"
    if config.audit is not None:
        return "an audit looks at whole rows; expected none"
    defenses = [registry.load("defense", part.name)(**part.options) for part in config.defense]
    attack = None
    if config.attack.name != NO_ATTACK:
        attack = registry.load("attack", config.attack.name)(**config.attack.options)
    return why_not_spread(
        algorithm,
        [defense for defense in defenses if isinstance(defense, UpdateTransform)],
        server_rule(defenses),
        Forgery(attack, algorithm.sends, Streams(config.seed), lambda clients, round_number: ()),
    )
