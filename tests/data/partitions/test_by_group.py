"""The natural partition: whole groups, each once."""

import numpy as np
import pytest

from fedsec.data.partitions import ByGroup
from fedsec.errors import PartitionError

GROUPS = np.array([4, 0, 0, 2, 4, 4, 1])


def test_with_as_many_clients_as_groups_each_is_one_in_order() -> None:
    parts = ByGroup()(GROUPS, 4, rng=np.random.default_rng(0), num_classes=5)
    assert [part.tolist() for part in parts] == [[1, 2], [6], [3], [0, 4, 5]]


def test_fewer_clients_get_whole_groups_by_chance() -> None:
    dealt = [ByGroup()(GROUPS, 2, rng=np.random.default_rng(seed)) for seed in range(6)]
    for parts in dealt:
        owners = [{int(group) for group in GROUPS[part]} for part in parts]
        assert not owners[0] & owners[1]
        assert [len(groups) for groups in owners] == [2, 2]
    assert len({tuple(parts[0].tolist()) for parts in dealt}) > 1


def test_more_clients_than_groups_are_refused() -> None:
    with pytest.raises(PartitionError, match=r"5 clients, but the examples come from 4 groups; expected at most"):
        ByGroup()(GROUPS, 5, rng=np.random.default_rng(0))
