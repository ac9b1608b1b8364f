"""What the kit finds in Flower's rules, by wrappers around them."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.testing import check_known_values, examine_rule

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsec[flower]'")

from flwr.common import ArrayRecord, RecordDict
from flwr.serverapp.strategy.bulyan import aggregate_n_closest_weights
from flwr.serverapp.strategy.multikrum import select_multikrum


def records(rows: Tensor) -> list[RecordDict]:
    return [RecordDict({"arrays": ArrayRecord([row.numpy()])}) for row in rows]


def arrays(selected: Sequence[RecordDict]) -> list[list[np.ndarray]]:
    return [record.array_records["arrays"].to_numpy_ndarrays() for record in selected]


class FlowerMultiKrum:
    def __init__(self, num_byzantine: int, num_selected: int = 1) -> None:
        self.num_byzantine, self.num_selected = num_byzantine, num_selected

    def __call__(self, updates: Tensor) -> Tensor:
        selected = select_multikrum(records(updates), self.num_byzantine, self.num_selected)
        return torch.from_numpy(np.stack([row for (row,) in arrays(selected)])).mean(0)


class FlowerBulyan:
    """What `Bulyan.aggregate_train` does with the arrays that it received."""

    def __init__(self, num_byzantine: int) -> None:
        self.num_byzantine = num_byzantine

    def __call__(self, updates: Tensor) -> Tensor:
        theta = len(updates) - 2 * self.num_byzantine
        rows = arrays(select_multikrum(records(updates), self.num_byzantine, theta))
        middle = [np.median(layer, axis=0) for layer in zip(*rows, strict=True)]
        (result,) = aggregate_n_closest_weights(middle, rows, theta - 2 * self.num_byzantine)
        return torch.from_numpy(result)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_krum_is_krum_but_for_weights_that_are_nearly_equal() -> None:
    check_known_values("krum", FlowerMultiKrum)
    names = {finding.name for finding in examine_rule(FlowerMultiKrum)}
    assert {"near_duplicates", "range"} <= names
    assert not names & {"permutation", "breakdown", "repeats", "leaves_updates"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bulyan_ranks_once() -> None:
    with pytest.raises(AssertionError, match="one ranking"):
        check_known_values("bulyan", FlowerBulyan)
