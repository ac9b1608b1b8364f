"""How a client trained, from what it sent: the true one is found where the update tells it, and doubts are said."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import InvertingGradients, Labels, search_local
from fedsec.errors import InputError
from fedsec.threat import LocalSteps

KNOWN: dict[str, Any] = {"input_shape": (1, 6, 6), "num_classes": 5, "batch_size": 1}
CANDIDATES = [LocalSteps(0.1, 1), LocalSteps(0.5, 3), LocalSteps(3.0, 1)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 5))


def trained(local: LocalSteps) -> dict[str, Tensor]:
    client = deepcopy(network())
    optimizer = torch.optim.SGD(client.parameters(), lr=local.lr)
    image = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    for _ in range(local.steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(client(image), torch.tensor([3])).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return client.state_dict()


ATTACK = InvertingGradients(iterations=40)


@pytest.mark.parametrize("true", CANDIDATES, ids=lambda local: f"{local.lr}x{local.steps}")
def test_the_true_training_is_the_likeliest(true: LocalSteps) -> None:
    found = search_local(network().state_dict(), trained(true), ATTACK, CANDIDATES, model=network(), **KNOWN)
    assert found.local == true == found.observation.local
    assert next(iter(found.mismatches)) == true
    assert found.mismatches[true] < 0.1
    assert found.reconstruction.labels is not None
    assert found.reconstruction.labels.tolist() == [3]
    assert not found.remarks


def test_the_rate_of_one_plain_step_has_a_closed_form() -> None:
    found = search_local(network().state_dict(), trained(LocalSteps(0.02, 1)), ATTACK, model=network(), **KNOWN)
    assert found.local.lr == pytest.approx(0.02, rel=0.1)
    assert found.local.steps == 1
    assert "read as one plain step" in found.remarks[0]


def test_what_cannot_be_told_is_said() -> None:
    twins = [LocalSteps(1e-3, 2), LocalSteps(2e-3, 1)]
    found = search_local(network().state_dict(), trained(twins[0]), ATTACK, twins, model=network(), **KNOWN)
    assert "cannot be told from (lr=0.00" in found.remarks[0]
    wrong = search_local(network().state_dict(), trained(twins[0]), ATTACK, CANDIDATES[1:], model=network(), **KNOWN)
    assert wrong.remarks[0].startswith("no training explains the update")
    with pytest.raises(InputError, match="Labels recovers no images"):
        search_local(network().state_dict(), trained(twins[0]), Labels(), twins, model=network(), **KNOWN)
