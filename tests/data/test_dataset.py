"""Splits and datasets in memory, and random parts of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.data import Dataset, Split, load
from fedsec.errors import DataError


def make(train: int = 20, test: int = 10, classes: int = 4) -> Dataset:
    """Image i is filled with i, so that examples can be told apart."""

    def split(number: int) -> Split:
        images = torch.arange(number, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 5).contiguous()
        return Split(images, torch.arange(number) % classes)

    return Dataset("made", split(train), split(test), tuple("abcdefgh"[:classes]), "nowhere")


def numbers(split: Split) -> list[int]:
    return split.images[:, 0, 0, 0].tolist()


def test_shape_and_classes() -> None:
    dataset = make()
    assert dataset.input_shape == (3, 4, 5)
    assert dataset.num_classes == 4
    assert len(dataset.train) == 20


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 10), st.integers(0, 2**32))
def test_subset(small: int, large: int, test_size: int, seed: int) -> None:
    small, large = sorted((small, large))
    dataset = make()
    one = dataset.subset(small, test_size, np.random.default_rng(seed))
    assert len(one.train) == small
    assert len(one.test) == test_size
    assert numbers(one.train) == sorted(set(numbers(one.train)))
    assert one.train.labels.tolist() == [number % 4 for number in numbers(one.train)]
    assert one.classes == dataset.classes
    other = dataset.subset(large, None, np.random.default_rng(seed))
    assert set(numbers(one.train)) <= set(numbers(other.train))
    assert numbers(other.test) == list(range(10))
    again = dataset.subset(None, test_size, np.random.default_rng(seed))
    assert numbers(again.test) == numbers(one.test)


def test_subsets_are_random() -> None:
    dataset = make()
    chosen = {tuple(numbers(dataset.subset(5, None, np.random.default_rng(seed)).train)) for seed in range(20)}
    assert len(chosen) > 15


@pytest.mark.parametrize(
    ("train_size", "test_size", "says"),
    [
        (0, None, "train_size must be between 1 and 20, got 0"),
        (21, None, "got 21"),
        (None, 11, "test_size.*10, got 11"),
    ],
)
def test_impossible_subset(train_size: int | None, test_size: int | None, says: str) -> None:
    with pytest.raises(DataError, match=says):
        make().subset(train_size, test_size, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (torch.zeros(2, 1, 3, 3), torch.zeros(2, dtype=torch.int64), "uint8 tensor"),
        (torch.zeros(2, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "shape"),
        (torch.zeros(0, 1, 3, 3, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64), "non-empty"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32), "int64"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), "each of the 2 images"),
    ],
)
def test_malformed_split(images: torch.Tensor, labels: torch.Tensor, says: str) -> None:
    with pytest.raises(DataError, match=says):
        Split(images, labels)


def test_inconsistent_dataset() -> None:
    dataset = make()
    gray = Split(dataset.test.images[:, :1], dataset.test.labels)
    with pytest.raises(DataError, match="training images are 3x4x5, test images 1x4x5"):
        Dataset("x", dataset.train, gray, dataset.classes, "here")
    with pytest.raises(DataError, match=r"training labels run from 0 to 3, but there are 3 classes.*here"):
        Dataset("x", dataset.train, dataset.test, ("a", "b", "c"), "here")
    with pytest.raises(DataError, match="at least two classes"):
        Dataset("x", dataset.train, dataset.test, ("a",), "here")


def vectors(number: int, targets: torch.dtype = torch.float32) -> Split:
    inputs = torch.arange(3 * number, dtype=torch.float32).view(number, 3)
    return Split(inputs, inputs.sum(1).to(targets) % 2)


def test_vectors_with_numbers_or_classes_as_targets() -> None:
    numbers_of = Dataset("made", vectors(6), vectors(4), (), "nowhere")
    assert numbers_of.input_shape == (3,)
    assert numbers_of.num_classes == 0
    assert numbers_of.subset(2, 2, np.random.default_rng(0)).train.targets.dtype == torch.float32
    classes_of = Dataset("made", vectors(6, torch.int64), vectors(4, torch.int64), ("even", "odd"), "nowhere")
    assert classes_of.train.labels.tolist() == [1, 0, 1, 0, 1, 0]
    for access, says in (
        (lambda: numbers_of.train.images, "images are needed, but the inputs are vectors of 3 numbers"),
        (lambda: numbers_of.image_shape, "images are needed"),
        (lambda: numbers_of.train.labels, "classes are needed, but the targets are numbers"),
        (lambda: replace(numbers_of, classes=("a", "b")), "targets are numbers, so there can be no classes"),
        (lambda: replace(numbers_of, test=classes_of.test), "targets of one split are classes"),
        (lambda: replace(make(), test=classes_of.test), "training images are 3x4x5, test images 3"),
        (lambda: Split(torch.full((2, 3), torch.nan), torch.zeros(2)), "inputs must be finite"),
        (lambda: Split(torch.zeros(2, 3), torch.tensor([0, torch.inf])), "targets must be finite"),
        (lambda: Split(torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2)), "vectors a float32 one"),
    ):
        with pytest.raises(DataError, match=says):
            access()


def test_the_fingerprint_changes_with_content_only() -> None:
    dataset = make()
    assert dataset.fingerprint == make().fingerprint
    assert replace(dataset, name="other", source="elsewhere", notes=("a note",)).fingerprint == dataset.fingerprint
    changed = dataset.train.images.clone()
    changed[7, 1, 2, 3] += 1
    relabeled = dataset.test.labels.clone()
    relabeled[0] = 3
    others = [
        replace(dataset, train=Split(changed, dataset.train.labels)),
        replace(dataset, test=Split(dataset.test.images, relabeled)),
        replace(dataset, classes=("a", "b", "c", "x")),
        replace(dataset, train=dataset.test, test=dataset.train),
        replace(
            dataset,
            train=Split(dataset.train.images.view(20, 3, 5, 4), dataset.train.labels),
            test=Split(dataset.test.images.view(10, 3, 5, 4), dataset.test.labels),
        ),
        dataset.subset(19, None, np.random.default_rng(0)),
    ]
    assert len({dataset.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)
    assert load("digits").fingerprint == "89ecbedb48c57b3d1dc4533d71eda44a"  # the same on every machine


def test_classes_are_found_by_name_or_number() -> None:
    dataset = replace(make(), classes=("Cat", "dog", "Dog", "bird"))
    assert [dataset.class_number(name) for name in ("cat", "dog", "Dog", "BIRD", 3, 0)] == [0, 1, 2, 3, 3, 0]
    for name, says in (
        ("brid", r"made: unknown class 'brid'; known: Cat, dog, Dog, bird; did you mean 'bird'\?"),
        ("DOG", "unknown class 'DOG'"),
        (4, r"classes are numbered 0\.\.3, got 4"),
        (-1, "got -1"),
        (True, "unknown class True"),
    ):
        with pytest.raises(DataError, match=says):
            dataset.class_number(name)
