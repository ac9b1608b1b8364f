"""A small recorded federation in which one client sends something else than the others."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fedsec.recording import record

SHAPES = {"weight": (3, 4), "bias": (3,)}
LIAR = "site-2"


def states(number: int, sent: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What seven clients train to; one of them goes far the other way."""
    generator = torch.Generator().manual_seed(number)
    direction = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    received = {}
    for place in range(7):
        sign = -8.0 if f"site-{place}" == LIAR else 1.0
        received[f"site-{place}"] = {
            name: sent[name] + sign * direction[name] + 0.1 * torch.randn(shape, generator=generator)
            for name, shape in SHAPES.items()
        }
    return received


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """Three rounds of a loop that takes the mean, weighted by examples."""
    folder = tmp_path / "seen"
    model = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    sizes = [10.0, 20, 30, 10, 20, 30, 10]
    with record(folder, num_clients=20) as recording:
        for number in (1, 2, 3):
            received = states(number, model)
            named = dict(zip(received, sizes, strict=True))
            recording.round(number, sent=model, received=received, num_examples=named, byzantine=[LIAR])
            weighed = {name: sum(named[who] * state[name] for who, state in received.items()) for name in SHAPES}
            model = {name: total / sum(sizes) for name, total in weighed.items()}
    return folder
