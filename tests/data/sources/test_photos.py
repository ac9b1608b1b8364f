"""The photographs of scikit-image: pictures that show what they should."""

import numpy as np
import pytest
import torch
from skimage import data

from fedsec.data import Dataset, load


@pytest.fixture(scope="module")
def photos() -> Dataset:
    return load("photos")


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


def test_loading_again_gives_the_same(photos: Dataset) -> None:
    again = load("photos")
    assert torch.equal(again.train.images, photos.train.images)
    assert torch.equal(again.test.labels, photos.test.labels)
