"""The regression of scikit-learn: standardized, all there once, and the fixed split."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

from fedsec.data import load


def test_it_is_the_published_table_standardized() -> None:
    dataset = load("diabetes")
    assert (len(dataset.train), len(dataset.test), dataset.input_shape, dataset.classes) == (354, 88, (10,), ())
    inputs = torch.cat([dataset.train.inputs, dataset.test.inputs])
    targets = torch.cat([dataset.train.targets, dataset.test.targets])
    published, progression = load_diabetes(return_X_y=True)
    ours = torch.cat([inputs, targets[:, None] * 77.00574586945044 + 152.13348416289594], 1).numpy()
    theirs = np.column_stack([published * np.sqrt(442), progression])
    assert ours[np.lexsort(ours.round(2).T)] == pytest.approx(theirs[np.lexsort(theirs.round(2).T)], abs=2e-3)


def test_the_split_is_fixed() -> None:
    # Golden: whoever changes it changes every published number on this dataset.
    dataset = load("diabetes")
    assert dataset.fingerprint == load("diabetes").fingerprint
    assert dataset.test.targets[:3].tolist() == pytest.approx([-0.1446, -0.6640, -0.8718], abs=1e-4)
