"""The clock that every search looks at, with a clock that ticks when it is looked at."""

from itertools import count

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedsec.attacks import DLG, IDLG, Decoupled, GradInversion, InvertingGradients
from fedsec.matching import limits
from fedsec.matching.limits import Deadline
from fedsec.threat import Inversion, Observation


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(limits, "monotonic", lambda: float(next(ticks)))


def test_a_deadline_passes_once_and_for_all() -> None:
    assert [Deadline(2.0).passed for _ in range(2)] == [False, False]  # each has its own
    deadline = Deadline(3.0)
    assert [deadline.passed for _ in range(5)] == [False, False, True, True, True]
    assert not Deadline(None).passed


def test_what_is_left_is_shared_out() -> None:
    assert not Deadline(100.0).share(2).passed
    assert Deadline(1.0).share(4).passed
    assert not Deadline(None).share(3).passed


@pytest.mark.parametrize(
    "attack",
    [
        InvertingGradients(iterations=10**6, plateau=None, seconds=20),
        GradInversion(iterations=10**6, restarts=2, seconds=20),
        DLG(iterations=10**6, tolerance=0, seconds=20),
        DLG(iterations=10**6, tolerance=0, seconds=20, variant="published"),
        IDLG(iterations=10**6, tolerance=0, seconds=20),
        Decoupled(iterations=10**6, tolerance=0, seconds=60),
    ],
    ids=lambda attack: f"{type(attack).__name__}-{getattr(attack, 'variant', '')}",
)
def test_every_attack_looks_at_it_in_its_inner_loop(attack: Inversion) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 5))
    evaluations = 0

    def counted(*_: object) -> None:
        nonlocal evaluations
        evaluations += 1

    images, labels = torch.rand(2, 1, 6, 6), torch.tensor([1, 4])
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    seen = Observation.of_gradient(model, rows, input_shape=(1, 6, 6), num_classes=5, batch_size=2)
    handle = nn.modules.module.register_module_forward_hook(counted)
    try:
        recovered = attack.reconstruct(seen)
    finally:
        handle.remove()
    assert recovered.images is not None
    # Five modules a forward pass: no more passes than looks, but for those that try the model beforehand.
    assert evaluations <= 5 * (60 + 30)
