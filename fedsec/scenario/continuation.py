"""Which finished cell another one can go on from: more rounds of the same experiment."""

from typing import Any

from fedsec.scenario.config import CellConfig, unlabeled
from fedsec.scenario.shared_training import is_shared

_CALIBRATED = "target_epsilon"
"""The option of defenses whose noise is found for so many rounds."""


def extends(longer: CellConfig, shorter: CellConfig) -> bool:
    """Whether a cell's first rounds are, to the bit, all rounds of another.

    They are where only `federation.rounds` grew, unless something looks ahead: noise that is calibrated for all rounds,
    an evaluation that only the last round had, an audit that watches other rounds of more, or a single round that was
    trained client by client for many cells.

    Args:
        longer: the cell that would go on.
        shorter: the one that is finished.
    """
    rounds, every = shorter.federation.rounds, shorter.federation.evaluate_every
    calibrated = any(part.options.get(_CALIBRATED) is not None for part in shorter.defense)
    if rounds >= longer.federation.rounds or rounds % every or calibrated or is_shared(shorter):
        return False
    properties = None if shorter.audit is None else shorter.audit.properties
    if properties is not None and {*properties.watched(rounds)} != {
        number for number in properties.watched(longer.federation.rounds) if number <= rounds
    }:
        return False
    return _but_rounds(longer) == _but_rounds(shorter)


def _but_rounds(config: CellConfig) -> dict[str, Any]:
    content = unlabeled(config.model_dump(mode="json"))
    del content["federation"]["rounds"], content["dataset"]["download"]
    return content
