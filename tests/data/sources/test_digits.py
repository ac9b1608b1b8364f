"""The digits of scikit-learn: all there once, and the fixed split."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from fedsec.data import Dataset, load
from fedsec.data.sources.digits import Digits


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


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


def test_where_the_table_lies_elsewhere_scikit_learn_reads_it(digits: Dataset, tmp_path: Path) -> None:
    train, test, _ = Digits().read(tmp_path)
    assert torch.equal(train.images, digits.train.images)
    assert torch.equal(test.labels, digits.test.labels)


def test_loading_again_gives_the_same(digits: Dataset) -> None:
    again = load("digits")
    assert torch.equal(again.train.images, digits.train.images)
    assert torch.equal(again.test.labels, digits.test.labels)
