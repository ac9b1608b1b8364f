"""Cells whose rule cannot withstand as many Byzantine clients as it is told, where that was left to fedsec.

Nothing in the file is wrong then: the cells have their place in tables, and the others go on.
"""

import json
from collections.abc import Sequence

from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.scenario.config import CellConfig
from fedsec.scenario.declared import is_derived
from fedsec.scenario.scenario import Cell
from fedsec.scenario.server_rule import server_rule


def refusals(cells: Sequence[Cell]) -> dict[str, str]:
    """Cell id -> why its rule cannot work, of cells that say themselves how many Byzantine clients there may be.

    A number that stands in the file as it is is a mistake of the file's, see `fedsec.scenario.checks`.

    Args:
        cells: of a scenario.
    """
    reasons: dict[str, str | None] = {}
    refused = {}
    for cell in cells:
        if not is_derived(cell.draft.values) or cell.config.federation.traits["exchanges"] != "updates":
            continue
        key = json.dumps([cell.resolved["defense"], cell.config.heard])
        if key not in reasons:
            reasons[key] = _reason(cell.config)
        if (reason := reasons[key]) is not None:
            refused[cell.id] = reason
    return refused


def _reason(config: CellConfig) -> str | None:
    try:
        defenses = [registry.load("defense", part.name)(**part.options) for part in config.defense]
        server_rule(defenses).max_rejected(config.heard)
    except InputError as error:
        return " ".join(str(error).split())
    return None
