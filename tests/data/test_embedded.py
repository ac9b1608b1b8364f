"""The datasets that need no file: fixed splits, and pictures that show what they should."""

import numpy as np
import pytest
import torch
from skimage import data
from sklearn.datasets import load_digits

from fedsec.data import Dataset, load


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def photos() -> Dataset:
    return load("photos")


def test_digits_split(digits: Dataset) -> None:
    assert digits.train.images.shape == (1437, 1, 8, 8)
    assert digits.test.images.shape == (360, 1, 8, 8)
    whole = load_digits().target
    share = digits.test.labels.bincount().numpy() / np.bincount(whole)
    assert share == pytest.approx(0.2, abs=1 / 170)
    assert digits.source == "embedded in sklearn"


def test_digits_are_all_there_once(digits: Dataset) -> None:
    both = torch.cat([digits.train.images, digits.test.images]).flatten(1).to(torch.float64)
    labels = torch.cat([digits.train.labels, digits.test.labels])
    ours = sorted(zip(map(tuple, (both * 16 / 255).round().tolist()), labels.tolist(), strict=True))
    published = load_digits()
    assert ours == sorted(zip(map(tuple, published.data.tolist()), published.target.tolist(), strict=True))
    assert sorted(set(both.flatten().tolist())) == [round(value * 255 / 16) for value in range(17)]


def test_digits_golden_values(digits: Dataset) -> None:
    # The split is fixed: whoever changes it changes every published number on digits.
    assert digits.train.labels[:20].tolist() == [1, 3, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 8, 9, 0, 2, 3, 4]
    assert digits.test.labels[:20].tolist() == [0, 2, 4, 7, 1, 6, 8, 9, 5, 3, 0, 2, 7, 6, 4, 0, 1, 3, 9, 8]


def test_photos_views(photos: Dataset) -> None:
    assert photos.train.images.shape == (160, 3, 32, 32)
    assert photos.test.images.shape == (48, 3, 32, 32)
    assert photos.train.labels.bincount().tolist() == [20] * 8
    assert photos.test.labels.bincount().tolist() == [6] * 8
    assert list(photos.classes) == sorted(photos.classes)
    # The first test images are the photographs themselves, scaled down by averaging.
    assert photos.test.labels[:8].tolist() == list(range(8))
    astronaut = np.asarray(data.astronaut()).reshape(32, 16, 32, 16, 3).mean(axis=(1, 3))
    ours = photos.test.images[photos.classes.index("astronaut")].permute(1, 2, 0).numpy()
    assert np.abs(ours - astronaut).max() <= 1


def test_photos_are_all_different(photos: Dataset) -> None:
    both = torch.cat([photos.train.images, photos.test.images]).flatten(1).double()
    distance = torch.cdist(both, both) + 1e6 * torch.eye(len(both))
    # Galaxies on black come closest; even they are far apart.
    assert distance.min() > 300
    assert both.std(dim=1).min() > 5


@pytest.mark.parametrize("name", ["digits", "photos"])
def test_loading_again_gives_the_same(name: str, digits: Dataset, photos: Dataset) -> None:
    before, after = {"digits": digits, "photos": photos}[name], load(name)
    assert torch.equal(before.train.images, after.train.images)
    assert torch.equal(before.test.labels, after.test.labels)
