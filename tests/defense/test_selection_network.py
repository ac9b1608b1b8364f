"""Selection networks against sorting; the 0-1 principle makes small cases a proof."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.defense.selection_network import selection_network, sorting_network


def sizes_and_trims(largest: int) -> list[tuple[int, int]]:
    return [(rows, trim) for rows in range(1, largest + 1) for trim in range((rows + 1) // 2)]


def outputs(matrix: np.ndarray, trim: int, edges_only: bool) -> np.ndarray:
    network = selection_network(len(matrix), trim, edges_only)
    rows = torch.from_numpy(matrix).unbind(0)
    buffers = [torch.full_like(rows[0], torch.nan) for _ in range(network.num_buffers)]
    return torch.stack(network(rows, buffers)).numpy()


@pytest.mark.parametrize(("rows", "trim"), sizes_and_trims(11))
def test_all_zero_one_columns(rows: int, trim: int) -> None:
    # A comparator network that is right for every column of zeros and ones is right for every column.
    columns = np.array(list(itertools.product((0.0, 1.0), repeat=rows))).T.copy()
    middle = np.sort(columns, axis=0)[trim : rows - trim]
    np.testing.assert_array_equal(np.sort(outputs(columns, trim, edges_only=False), axis=0), middle)
    edges = middle[[0, -1]] if len(middle) > 1 else middle
    np.testing.assert_array_equal(outputs(columns, trim, edges_only=True), edges)


@pytest.mark.parametrize("rows", range(1, 12))
def test_sorting_all_zero_one_columns(rows: int) -> None:
    columns = np.array(list(itertools.product((0.0, 1.0), repeat=rows))).T.copy()
    network = sorting_network(rows)
    ranks = network(torch.from_numpy(columns).unbind(0), [None] * network.num_buffers)
    np.testing.assert_array_equal(torch.stack(ranks).numpy(), np.sort(columns, axis=0))


@settings(deadline=None, max_examples=30)
@given(st.data(), st.integers(1, 130))
def test_many_rows(data: st.DataObject, rows: int) -> None:
    trim = data.draw(st.integers(0, (rows - 1) // 2))
    columns = np.random.default_rng(rows).integers(0, rows, (rows, 50)).astype(np.float32)
    middle = np.sort(columns, axis=0)[trim : rows - trim]
    np.testing.assert_array_equal(np.sort(outputs(columns, trim, edges_only=False), axis=0), middle)
    np.testing.assert_array_equal(outputs(columns, trim, edges_only=True)[[0, -1]], middle[[0, -1]])


def test_inputs_are_left_alone_and_buffers_optional() -> None:
    matrix = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    before = matrix.clone()
    network = selection_network(9, 3)
    allocated = network(matrix.unbind(0), [None] * network.num_buffers)
    in_place = network(matrix.unbind(0), torch.empty(network.num_buffers, 4).unbind(0))
    assert torch.equal(matrix, before)
    assert torch.equal(torch.stack(allocated), torch.stack(in_place))


@pytest.mark.parametrize(
    ("rows", "trim", "most_steps"),
    [(9, 4, 36), (20, 9, 142), (20, 8, 156), (20, 4, 144), (20, 2, 94), (20, 1, 54), (50, 24, 610), (50, 5, 448)],
)
def test_no_step_too_many(rows: int, trim: int, most_steps: int) -> None:
    # Speed is proportional to the number of steps; this is where a loss of pruning shows.
    network = selection_network(rows, trim)
    assert len(network.steps) <= most_steps
    assert network.num_buffers <= rows + 1
