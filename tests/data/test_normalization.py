"""Normalization constants and what a scenario may say about them."""

from typing import Any

import pytest
import torch

from fedsec.data import Normalization, normalization
from fedsec.data.images import normalize
from fedsec.errors import DataError


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("unit", Normalization((0.0,), (1.0,))),
        ("half", Normalization((0.5,), (0.5,))),
        ({"mean": [0.1, 0.2, 0.3], "std": 1}, Normalization((0.1, 0.2, 0.3), (1.0,))),
        ({"mean": 0, "std": [2]}, Normalization((0.0,), (2.0,))),
        (Normalization((0.1,), (0.2,)), Normalization((0.1,), (0.2,))),
    ],
)
def test_specs(spec: Any, expected: Normalization) -> None:
    assert normalization(spec) == expected


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("imagenet", "must be 'unit', 'half' or"),
        (None, "must be 'unit'"),
        ({"mean": [0.5]}, "must be 'unit'"),
        ({"mean": [0.5], "std": [0.5], "var": 1}, "must be 'unit'"),
        ({"mean": "0.5", "std": 1}, "mean must be a number or a list of numbers, got '0.5'"),
        ({"mean": [True], "std": 1}, "mean must be a number"),
        ({"mean": [], "std": 1}, "mean must hold one value"),
        ({"mean": [float("nan")], "std": 1}, "mean must be finite"),
        ({"mean": 0, "std": float("inf")}, "std must be finite"),
        ({"mean": 0, "std": 0}, "std must be greater than 0"),
        ({"mean": [0, 0], "std": [1, -1]}, "std must be greater than 0"),
        ({"mean": [0, 0], "std": [1, 1, 1]}, "mean has 2 values and std has 3"),
    ],
)
def test_bad_specs(spec: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        normalization(spec)


def test_channels_must_fit() -> None:
    normalization("unit").check_shape((1, 4, 4))
    normalization("half").check_shape((3, 4, 4))
    three = normalization({"mean": [0, 0, 0], "std": 1})
    three.check_shape((3, 4, 4))
    with pytest.raises(DataError, match=r"mean has 3 values, but the images have 1 channel"):
        three.check_shape((1, 4, 4))
    three.check_shape((3,))
    with pytest.raises(
        DataError, match=r"but the vectors have 5 feature\(s\); give one value, or one for each feature"
    ):
        three.check_shape((5,))


def test_vectors_are_taken_as_they_are_and_images_as_parts_of_255() -> None:
    vectors = torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    assert torch.equal(normalize(vectors, normalization("unit")), vectors)
    each = normalize(vectors, Normalization((1.0, 0.5), (2.0, 4.0)))
    assert torch.allclose(each, torch.tensor([[0.0, 0.375], [-2.0, 0.0]]))
    assert vectors.tolist() == [[1.0, 2.0], [-3.0, 0.5]]  # the data stay as they were
    pixels = torch.tensor([[[[0, 51]], [[255, 102]]]], dtype=torch.uint8)
    shown = normalize(pixels, Normalization((0.2, 0.4), (0.5, 2.0)))
    assert torch.allclose(shown, torch.tensor([[[[-0.4, 0.0]], [[0.3, 0.0]]]]), atol=1e-6)
