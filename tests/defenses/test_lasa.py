"""LASA against a direct computation, layer by layer."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defenses import LASA
from fedsec.errors import AggregationError, InputError

SHAPES = {"conv": (2, 3, 2, 1), "conv bias": (2,), "nothing": (0,), "linear": (4, 5), "linear bias": (4,)}
SIZES = [12, 2, 0, 20, 4]


def direct(updates: np.ndarray, sparsity: float, norm_radius: float, sign_radius: float) -> tuple[np.ndarray, set[int]]:
    """The result, and who counts in some layer."""
    norms = np.linalg.norm(updates, axis=1)
    shortened = updates * np.minimum(1, np.median(norms) / norms)[:, None]
    bounds = np.cumsum([0, *SIZES])
    layers = [slice(first, last) for first, last in pairwise(bounds)]
    dense = [layer for layer, shape in zip(layers, SHAPES.values(), strict=True) if len(shape) > 1]
    for row in shortened:
        magnitudes = np.sort(np.abs(np.concatenate([row[layer] for layer in dense])))
        dropped = int(sparsity * len(magnitudes))
        for layer in dense if dropped else ():
            row[layer] = np.where(np.abs(row[layer]) > magnitudes[dropped - 1], row[layer], 0)
    result, counting = np.zeros(updates.shape[1]), set()
    for layer in layers:
        rows = shortened[:, layer]
        if rows.shape[1] == 0:
            continue
        lengths = np.linalg.norm(rows, axis=1)
        purity = [(1 + np.sign(row).sum() / np.abs(np.sign(row)).sum()) / 2 if row.any() else 0.5 for row in rows]

        def near(values: np.ndarray, radius: float) -> np.ndarray:
            spread = values.std() if values.std() > 1e-15 else np.inf
            return np.abs(values - np.median(values)) / spread < radius - 1e-8

        passing = near(lengths, norm_radius) & near(np.array(purity), sign_radius)
        passing = passing if passing.any() else np.ones_like(passing)
        result[layer] = rows[passing].mean(0)
        counting |= set(np.flatnonzero(passing).tolist())
    return result, counting


@given(st.integers(2, 9), st.sampled_from([0.0, 0.3, 0.8]), st.sampled_from([0.7, 1.0, 2.0]), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_it_is_the_direct_computation(count: int, sparsity: float, radius: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    updates = torch.randn(count, 38, generator=generator) * (1 + torch.rand(count, 1, generator=generator))
    vector, counting = direct(updates.double().numpy(), sparsity, radius, 1.0)
    aggregate = LASA(sparsity, norm_radius=radius).aggregate(updates, shapes=SHAPES)
    torch.testing.assert_close(aggregate.vector.double(), torch.from_numpy(vector), rtol=1e-5, atol=1e-6)
    assert aggregate.suspected == tuple(sorted({*range(count)} - counting))


def honest(count: int) -> Tensor:
    return torch.ones(38) + 0.3 * torch.randn(count, 38, generator=torch.Generator().manual_seed(1))


def test_rows_of_unusual_length_or_signs_count_in_no_layer() -> None:
    updates = torch.cat([honest(9), -2 * honest(1), torch.zeros(1, 38)])
    aggregate = LASA(norm_radius=1.5, sign_radius=1.5).aggregate(updates, shapes=SHAPES)
    assert aggregate.suspected == (9, 10)
    assert float(aggregate.influence[:9].sum()) == pytest.approx(1)


def test_a_layer_is_filtered_for_itself() -> None:
    updates = honest(9).abs()
    updates[2, :12] *= -1  # unusual signs, and a usual length, in the first layer only
    rule = LASA(sparsity=0.0, norm_radius=9.0, sign_radius=2.0)
    aggregate = rule.aggregate(updates, shapes={"first": (12, 1), "second": (26,)})
    norms = updates.norm(dim=1)
    shortened = updates * (norms.median() / norms).clamp_max(1)[:, None]
    torch.testing.assert_close(aggregate.vector[:12], shortened[[0, 1, 3, 4, 5, 6, 7, 8], :12].mean(0))
    torch.testing.assert_close(aggregate.vector[12:], shortened[:, 12:].mean(0))
    assert aggregate.suspected == ()
    assert float(aggregate.influence[2]) == float(aggregate.influence.min()) > 0


def test_the_smallest_weights_become_zero_and_vectors_stay_whole() -> None:
    row = torch.arange(1.0, 11.0)[None]
    vector = LASA(sparsity=0.5)(row, shapes={"weight": (2, 3), "bias": (4,)})
    assert vector.tolist() == [0, 0, 0, 4, 5, 6, 7, 8, 9, 10]
    assert LASA(sparsity=0.0)(row, shapes={"weight": (2, 5)}).tolist() == row[0].tolist()


@pytest.mark.parametrize("updates", [torch.ones(1, 38), torch.ones(5, 38), torch.zeros(3, 38)])
def test_of_equal_rows_all_count(updates: Tensor) -> None:
    aggregate = LASA(sparsity=0.0).aggregate(updates, shapes=SHAPES)
    torch.testing.assert_close(aggregate.vector, updates[0])
    assert aggregate.suspected in ((), tuple(range(len(updates)))[: len(updates) if not updates.any() else 0])


def test_rows_that_are_not_finite_and_settings_out_of_range() -> None:
    updates = honest(5)
    updates[1, 0] = torch.nan
    aggregate = LASA().aggregate(updates, shapes=SHAPES)
    assert aggregate.rejected == (1,)
    assert torch.equal(aggregate.vector, LASA()(updates[[0, 2, 3, 4]], shapes=SHAPES))
    updates[:3] = torch.nan
    with pytest.raises(AggregationError, match="at most 2 may be lost"):
        LASA()(updates, shapes=SHAPES)
    with pytest.raises(InputError, match="expected shapes"):
        LASA()(updates)
    for settings_, problem in (({"sparsity": 1.0}, "sparsity"), ({"sign_radius": 0.0}, "sign_radius")):
        with pytest.raises(InputError, match=problem):
            LASA(**settings_)
