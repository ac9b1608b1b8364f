"""What is taken for rows, and what is given back."""

from typing import Any

import numpy as np
import pytest
import torch

from fedsec.attacks import SignFlip
from fedsec.defenses import ClipUpdate, DpSgd, Mean, Median, Prune, Soteria
from fedsec.errors import InputError

MATRIX = torch.tensor([[1.0, 2.0], [3.0, 5.0], [9.0, 0.0]])
KINDS: dict[str, Any] = {
    "tensor": MATRIX,
    "array": MATRIX.numpy(),
    "tensors": list(MATRIX),
    "tuple": tuple(MATRIX),
    "arrays": list(MATRIX.numpy()),
    "numbers": MATRIX.tolist(),
    "whole": [[1, 2], [3, 5], [9, 0]],
    "backwards": MATRIX.numpy()[::-1],
    "big-endian": MATRIX.numpy().astype(">f4"),
}


def plain(result: Any) -> Any:
    return result.tolist() if isinstance(result, torch.Tensor | np.ndarray) else result


@pytest.mark.parametrize("kind", KINDS)
def test_rules_give_back_the_kind_that_they_got(kind: str) -> None:
    updates = KINDS[kind]
    result = Median()(updates)
    assert plain(result) == [3.0, 2.0]
    if kind in ("tensor", "tensors", "tuple"):
        assert isinstance(result, torch.Tensor)
    elif kind in ("numbers", "whole"):
        assert isinstance(result, list)
    else:
        assert isinstance(result, np.ndarray)
        assert result.dtype == np.float32
    assert Median().aggregate(updates).vector.tolist() == [3.0, 2.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_keep_their_dtype_and_are_left_alone(dtype: type) -> None:
    matrix = MATRIX.numpy().astype(dtype)
    before = matrix.copy()
    matrix.flags.writeable = False
    assert Mean()(matrix).dtype == dtype
    assert ClipUpdate(0.5)(matrix).dtype == dtype
    assert np.array_equal(matrix, before)


@pytest.mark.parametrize("weights", [[1, 2, 3], (1.0, 2.0, 3.0), np.array([1, 2, 3]), torch.tensor([1.0, 2.0, 3.0])])
def test_weights_of_any_kind(weights: Any) -> None:
    torch.testing.assert_close(Mean()(MATRIX, weights=weights), torch.tensor([34 / 6, 2.0]))


def test_malformed_weights() -> None:
    for weights in ([1, 2], [1, 2, "3"], [[1, 2, 3]], [1, 2, -3], "abc"):
        with pytest.raises(InputError, match="Mean: weights"):
            Mean()(MATRIX, weights=weights)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ([{"w": MATRIX[0]}, {"w": MATRIX[1]}], r"not dictionaries by parameter name; expected .*torch\.cat"),
        ({"w": MATRIX}, "not dict: one row for each client"),
        ([MATRIX[0], MATRIX[1].numpy()], "rows of one kind.*Tensor, ndarray"),
        ([MATRIX[0], MATRIX[1, :1]], r"vectors of one length.*, not torch\.float32 of shape \(1,\) on cpu; torch"),
        (MATRIX.to_sparse(), r"floating-point matrix .* not sparse torch\.float32"),
        ([MATRIX, MATRIX], "vectors of one length"),
        ([[1.0, 2.0], [3.0]], "vectors of one length"),
        ([[1.0, "x"]], "floating-point numbers"),
        (["ab", "cd"], "rows of one kind"),
        ([], "a matrix or a list of rows, not list"),
        (3.0, "a matrix or a list of rows, not float"),
        (MATRIX.numpy().astype(complex), "floating-point matrix"),
        (np.array([["a"]]), "floating-point numbers"),
        (MATRIX.long(), "floating-point matrix"),
    ],
)
def test_what_is_no_matrix_is_told_so(updates: Any, message: str) -> None:
    for rule in (Median(), Mean()):
        with pytest.raises(InputError, match=message):
            rule(updates)
        with pytest.raises(InputError, match=message):
            rule.aggregate(updates)


@pytest.mark.parametrize("kind", ["tensor", "array", "tensors", "arrays", "numbers"])
def test_transforms_take_each_row_for_itself(kind: str) -> None:
    updates = KINDS[kind]
    clipped = ClipUpdate(1.0)(updates)
    assert isinstance(clipped, type(updates))
    expected = [plain(ClipUpdate(1.0)({"w": row})["w"]) for row in MATRIX]
    assert np.allclose(np.array([plain(row) for row in clipped]), expected, rtol=1e-6)
    one = ClipUpdate(max_norm=1.0)(updates[1])
    assert isinstance(one, type(updates[1]))
    assert plain(one) == pytest.approx(expected[1], rel=1e-6)
    assert plain(MATRIX) == MATRIX.tolist()


def test_a_row_counts_as_one_parameter() -> None:
    assert Prune(0.5)(torch.tensor([1.0, -4.0, 2.0, 3.0])).tolist() == [0, -4, 0, 3]
    broken = torch.tensor([[torch.nan, 1e3], [3e3, 4e3]])
    sent = ClipUpdate(5.0)(broken)
    assert sent[0].isnan().tolist() == [True, False]
    torch.testing.assert_close(sent[1], torch.tensor([3.0, 4.0]))
    with pytest.raises(InputError, match="layers by name; expected a dictionary"):
        Soteria()(MATRIX)
    with pytest.raises(InputError, match="ClipUpdate: updates must be a floating-point matrix"):
        ClipUpdate(1.0)(MATRIX.long())


@pytest.mark.parametrize("kind", ["tensor", "array", "tensors", "numbers"])
def test_an_attack_on_its_own_rows_takes_them(kind: str) -> None:
    rows = SignFlip(2.0).craft(KINDS[kind])
    assert np.array_equal(np.array(plain(rows)), -2 * MATRIX.numpy())


def test_per_example_gradients_may_be_an_array() -> None:
    private = DpSgd(1.0)
    noisy = private.noisy_mean(MATRIX, 3.0, torch.Generator().manual_seed(1))
    array = private.noisy_mean(MATRIX.numpy(), 3.0, torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    assert isinstance(array, np.ndarray)
    assert array.tolist() == noisy.tolist()
    for wrong in ([{"w": MATRIX}], "ab", MATRIX.tolist()[0], np.array([["a"]])):
        with pytest.raises(InputError, match="DpSgd: "):
            private.noisy_mean(wrong, 3.0, torch.Generator())  # type: ignore[arg-type]
