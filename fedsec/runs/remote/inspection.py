"""Whether a node would compute the same numbers: its code, its versions, its data."""

from typing import TYPE_CHECKING

from fedsec.data import check, load
from fedsec.errors import FedsecError
from fedsec.runs.provenance import differences, provenance

if TYPE_CHECKING:
    from fedsec.runs.tasks import CellTask


def missing(task: "CellTask") -> list[str]:
    """What stands in the way of a cell here, a line each; data that may be downloaded are.

    Args:
        task: the cell, with what it would be made with where the run was started.
    """
    from fedsec.scenario import CellConfig

    config = CellConfig.model_validate(task.config)
    expected = task.made_with
    dataset = config.dataset
    try:
        where, options = (dataset.name, dataset.root), dataset.options
        survey = check(*where, download=dataset.download, options=options)
        if survey.source is None:
            load(*where, download=dataset.download, options=options)
            survey = check(*where, download=False, options=options)
        present = provenance(config, task.settings.device, survey.fingerprint or None)
    except FedsecError as error:
        return [" ".join(str(error).split())]
    if expected is None:
        return []
    return [
        f"has {name} {present.get(name, '(none)')}, expected {expected.get(name, 'none')}"
        for name in differences(expected, present)
    ]
