"""More rounds for a cell that was finished with fewer: what has to be the same, so that it ends with the same bits."""

from fedsec.scenario import CellConfig


def lineage(config: CellConfig) -> str | None:
    """What cells have in common whose first rounds are the same; None where a cell's rounds depend on their number."""
    if not continues(config):
        return None
    endless = config.federation.model_copy(update={"rounds": 0})
    return config.model_copy(update={"federation": endless}).id


def continues(config: CellConfig) -> bool:
    """Whether the first rounds of a cell are the same however many follow.

    They are not where noise is calibrated for a whole run, nor where a single round is trained client by client.
    """
    calibrated = any(part.options.get("target_epsilon") is not None for part in config.defense)
    return config.federation.rounds > 1 and not calibrated
