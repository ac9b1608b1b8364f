"""The canaries of a cell: by the unit that is asked for."""

from fedsec.runs.audits.canaries_clients import ClientCanaries
from fedsec.runs.audits.canaries_examples import ExampleCanaries
from fedsec.runs.audits.canaries_part import CanaryPart
from fedsec.scenario import CellConfig


def canaries(config: CellConfig) -> CanaryPart:
    """What carries out `audit.canaries` of a cell.

    Args:
        config: the cell's.
    """
    assert config.audit is not None
    assert config.audit.canaries is not None
    return ClientCanaries(config) if config.audit.canaries.unit == "client" else ExampleCanaries(config)
