"""How much disk one-round cells take for the training that they share, before they take it."""

from collections import Counter

from fedsec.runs.datasets import Datasets
from fedsec.scenario import CellConfig, Scenario

_NUMBER = 4  # bytes


def shared_space(scenario: Scenario, datasets: Datasets) -> int | None:
    """Bytes of all rows in shared/; None where nobody knows the models' sizes, as where a dataset is not there yet.

    Args:
        scenario: it has passed `check_scenario`.
        datasets: what its datasets are.
    """
    from fedsec.scenario.shared_training import shared_work

    configs = [cell.config for cell in scenario.cells()]
    rows = Counter(index for index, *_ in shared_work(configs))
    space = 0
    for index, number in rows.items():
        numbers = _numbers(configs[index], datasets)
        if numbers is None:
            return None
        space += number * numbers * _NUMBER
    return space


def _numbers(config: CellConfig, datasets: Datasets) -> int | None:
    shape = datasets.shape(config)
    return None if shape is None else model_size(config, *shape)


def model_size(config: CellConfig, input_shape: tuple[int, ...], num_classes: int) -> int | None:
    """Parameters and running statistics of a cell's model; None where only a tensor with storage could tell.

    Args:
        config: the cell's.
        input_shape: of its dataset.
        num_classes: likewise.
    """
    import torch

    from fedsec.models import build

    try:
        with torch.device("meta"):
            model = build(config.model.name, input_shape, num_classes, **config.model.options)
    except Exception:  # whatever a user's constructor does with numbers, which tensors without storage have not
        return None
    tensors = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    return sum(tensor.numel() for tensor in tensors)
