"""Every way in which a received model may be another one than expected."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fedsec.defense.inspection.architecture import differences


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def test_weights_devices_and_modes_do_not_matter() -> None:
    assert differences(network().eval(), network()) == []
    assert differences(network(), network().to("meta")) == []


def front(model: nn.Sequential) -> Any:
    return nn.Sequential(nn.Linear(6, 6), model)


def replaced(place: int, layer: nn.Module) -> Callable[[nn.Sequential], None]:
    def change(model: nn.Sequential) -> None:
        model[place] = layer

    return change


def own_forward(model: nn.Sequential) -> None:
    model[4].forward = lambda inputs: inputs


def frozen(model: nn.Sequential) -> None:
    model[0].weight.requires_grad_(False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (front, "an unknown layer '0.weight'|an unknown layer '1.0'|'0' is a|0 is a Linear; expected a Conv2d"),
        (replaced(2, nn.GELU()), "2 is a GELU; expected a ReLU"),
        (replaced(0, nn.Conv2d(1, 4, 3, padding=1)), r"'0' \(Conv2d\) is made with"),
        (replaced(4, nn.Linear(64, 4)), r"parameter '4.weight' is float32 of shape \(4, 64\); expected"),
        (lambda model: model.double(), "float64"),
        (lambda model: model.append(nn.Identity()), r"an unknown layer '5' \(Identity\)"),
        (lambda model: model.__delitem__(2), "no layer '4'"),
        (lambda model: model[0].register_forward_hook(lambda *_: None), "has other forward hooks"),
        (own_forward, "has a forward of its own"),
        (frozen, "frozen"),
        (lambda model: model.register_buffer("secret", torch.ones(3)), "buffer 'secret' is float32"),
        (lambda model: model.register_parameter("secret", nn.Parameter(torch.ones(3))), "parameter 'secret'"),
    ],
)
def test_a_change_is_told(change: Callable[[Any], Any], words: str) -> None:
    model = network()
    changed = change(model)
    received = changed if isinstance(changed, nn.Sequential) and change is front else model
    found = "\n".join(differences(received, network()))
    assert found
    import re

    assert re.search(words, found), found
