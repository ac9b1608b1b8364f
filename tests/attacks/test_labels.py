"""Label recovery as an attack; the methods themselves are tested in tests/matching/test_labels.py."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedsec.attacks.labels import Labels
from fedsec.errors import InputError
from fedsec.threat import LocalSteps, Observation


def observe(labels: list[int], local: LocalSteps | None = None, granted: bool = False) -> Observation:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5))
    truth = torch.tensor(labels)
    gradient = torch.autograd.grad(F.cross_entropy(model(torch.rand(len(labels), 1, 4, 4)), truth), model.parameters())
    scale = 1.0 if local is None else -local.lr * local.steps
    update = {name: scale * row for (name, _), row in zip(model.named_parameters(), gradient, strict=True)}
    options: dict[str, Any] = {"labels": (truth + 1) % 5} if granted else {}
    return Observation(model, update, (1, 4, 4), 5, len(labels), local=local, **options)


@pytest.mark.parametrize("method", ["auto", "wainakh", "geng"])
def test_labels_without_images(method: Any) -> None:
    result = Labels(method).reconstruct(observe([4, 0, 4, 2]))
    assert result.images is None
    assert result.labels is not None
    assert result.labels.tolist() == [0, 2, 4, 4]
    assert len(result.losses) == 0
    assert f"by {'geng' if method == 'auto' else method}" in result.notes[0]


def test_single_image_and_distinct_labels() -> None:
    single, distinct = Labels("idlg").reconstruct(observe([3])), Labels("yin").reconstruct(observe([3, 1]))
    assert single.labels is not None
    assert single.labels.tolist() == [3]
    assert distinct.labels is not None
    assert distinct.labels.tolist() == [1, 3]


def test_granted_labels_are_not_looked_at() -> None:
    result = Labels().reconstruct(observe([1, 1, 2], granted=True))
    assert result.labels is not None
    assert result.labels.tolist() == [1, 1, 2]


def test_local_steps_are_noted() -> None:
    result = Labels().reconstruct(observe([1, 1, 2], LocalSteps(lr=0.01, steps=2)))
    assert result.labels is not None
    assert result.labels.tolist() == [1, 1, 2]
    assert "several local steps" in result.notes[1]


def test_several_observations_one_by_one() -> None:
    found = Labels().reconstruct_many([observe([1, 1, 2]), observe([0, 4, 0])])
    assert [result.labels.tolist() for result in found if result.labels is not None] == [[1, 1, 2], [0, 0, 4]]


def test_refusals() -> None:
    with pytest.raises(InputError, match="Labels: method must be auto, idlg"):
        Labels("best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="idlg reads the label of a single image"):
        Labels("idlg").reconstruct(observe([1, 2]))
    with pytest.raises(InputError, match="labels that are all different"):
        Labels("yin").reconstruct(observe([1] * 6))
