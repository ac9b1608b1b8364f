"""The affine correction of the gradient, in both engines, against a loop that anybody would write."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data.datasets import Normalization, Split
from fedsec.engine import BatchPlan, CohortTrainer, Correction, LocalTraining, ResidentData, Start
from fedsec.engine.batches import plan_batches
from fedsec.engine.precision import Compute
from fedsec.errors import InputError

SIZES, SHAPE, CLASSES = (3, 11, 1, 7), (2, 5, 5), 3
LOCAL = LocalTraining(epochs=2, batch_size=4, lr=0.1, momentum=0.5, weight_decay=0.01)
ADAM = LocalTraining(steps=3, batch_size=4, lr=0.01, optimizer="adam")


def world() -> tuple[nn.Module, ResidentData]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (sum(SIZES), *SHAPE), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (sum(SIZES),), generator=generator)
    clients = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    data = ResidentData.build(Split(images, labels), clients, Normalization((0.4,), (0.3,)), torch.device("cpu"))
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(36, CLASSES)), data


def plans(data: ResidentData, local: LocalTraining) -> list[BatchPlan]:
    return [plan_batches(c, local, np.random.default_rng(i)) for i, c in enumerate(data.clients)]


def flat(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def corrections(size: int) -> dict[str, Correction]:
    generator = torch.Generator().manual_seed(1)
    center, shift = (torch.randn(len(SIZES), size, generator=generator) for _ in range(2))
    return {
        "FedProx": Correction(0.7),
        "SCAFFOLD": Correction(shift=shift),
        "FedDyn": Correction(0.3, shift=shift),
        "one center": Correction(0.3, center[0]),
        "a center each, pushed away": Correction(-0.3, center, shift),
        "masked": Correction(0.3, shift=shift, mask=(center > 0).float()),
    }


def plain(
    module: nn.Module, data: ResidentData, plan: BatchPlan, local: LocalTraining, correction: Correction, client: int
) -> Tensor:
    """One client's update by torch.optim, with the correction as the gradient of a penalty."""
    module = copy.deepcopy(module)
    received = flat(module)
    parameters = list(module.parameters())
    if local.optimizer == "adam":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, local.lr)
    else:
        optimizer = torch.optim.SGD(parameters, local.lr, local.momentum, weight_decay=local.weight_decay)
    center = received if correction.center is None else correction.center
    center = center[client] if center.ndim == 2 else center
    for step in range(plan.steps):
        chosen = torch.from_numpy(plan.examples[step][: plan.sizes[step]])
        images = (data.images[chosen].float() / 255 - 0.4) / 0.3
        weights = torch.cat([p.flatten() for p in parameters])
        penalty = correction.alpha / 2 * (weights - center).square().sum()
        if correction.shift is not None:
            penalty = penalty + correction.shift[client] @ weights
        optimizer.zero_grad()
        (F.cross_entropy(module(images), data.label_of[chosen]) + penalty).backward()
        if correction.mask is not None:
            masks = correction.mask[client].split([p.numel() for p in parameters])
            for parameter, mask in zip(parameters, masks, strict=True):
                assert parameter.grad is not None
                parameter.grad.mul_(mask.view_as(parameter))
        optimizer.step()
    return flat(module) - received


@pytest.mark.parametrize("kind", corrections(1))
@pytest.mark.parametrize("local", [LOCAL, ADAM], ids=["sgd", "adam"])
def test_both_engines_add_it_to_every_gradient(kind: str, local: LocalTraining) -> None:
    """Rows follow their clients through sorting by length, chunks and threads."""
    module, data = world()
    correction, cohort = corrections(len(flat(module)))[kind], plans(data, local)
    expected = torch.stack([plain(module, data, plan, local, correction, i) for i, plan in enumerate(cohort)])
    free = torch.stack([plain(module, data, plan, local, Correction(), i) for i, plan in enumerate(cohort)])
    assert ((expected - free).abs().amax(1) > 1e-4).all()
    engines: list[dict[str, Any]] = [
        {"engine": "loop", "compute": Compute(memory_format="channels_last")},
        {"engine": "vectorized"},
        {"engine": "vectorized", "memory_gib": 1e-9, "threads": 2},
    ]
    for options in engines:
        trainer = CohortTrainer(module, data, **options)
        found = trainer.train(trainer.start(module), cohort, local, correction=correction)
        torch.testing.assert_close(found.updates, expected, rtol=1e-3, atol=2e-5)
    assert trainer.used == "vectorized, 2 clients at once"


def test_the_center_is_by_default_what_each_client_received() -> None:
    module, data = world()
    own = flat(module) + torch.linspace(-0.5, 0.5, len(SIZES))[:, None]
    start, cohort = Start(own, torch.zeros(0)), plans(data, LOCAL)
    for engine in ("loop", "vectorized"):
        trainer = CohortTrainer(module, data, engine=engine)  # type: ignore[arg-type]
        default = trainer.train(start, cohort, LOCAL, correction=Correction(2.0))
        said = trainer.train(start, cohort, LOCAL, correction=Correction(2.0, own))
        assert torch.equal(default.updates, said.updates)
        common = trainer.train(start, cohort, LOCAL, correction=Correction(2.0, own[0]))
        assert not torch.equal(default.updates, common.updates)


def test_a_client_is_corrected_alike_alone_and_among_others() -> None:
    module, data = world()
    correction, cohort = corrections(len(flat(module)))["FedDyn"], plans(data, LOCAL)
    trainer = CohortTrainer(module, data, engine="loop")
    together = trainer.train(trainer.start(module), cohort, LOCAL, correction=correction).updates
    for place in (2, 0):
        alone = trainer.train(trainer.start(module), [cohort[place]], LOCAL, correction=correction.rows([place]))
        assert torch.equal(alone.updates[0], together[place])
    nothing = trainer.train(trainer.start(module), cohort, LOCAL)
    again = trainer.train(trainer.start(module), cohort, LOCAL, correction=Correction())
    assert torch.equal(nothing.updates, again.updates)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Correction(float("inf")), "alpha must be finite"),
        (lambda: Correction(1.0, torch.zeros(2, 3, 4)), "center must be a vector or a row for each client"),
        (lambda: Correction(shift=torch.zeros(3)), r"shift must be a row for each client, got shape \(3,\)"),
        (lambda: Correction(shift=torch.zeros(3, 7)), r"shift has shape \(3, 7\); expected \(4, 187\) for 4 clients"),
        (lambda: Correction(1.0, torch.zeros(7)), r"center has shape \(7,\); expected \(187,\)"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    module, data = world()
    trainer = CohortTrainer(module, data)
    with pytest.raises(InputError, match=message):
        trainer.train(trainer.start(module), plans(data, LOCAL), LOCAL, correction=make())


def test_rows_that_follow_each_other_are_not_copied() -> None:
    shift = torch.arange(12.0).view(4, 3)
    correction = Correction(shift=shift, mask=shift, center=shift[0])
    for places in ([0, 1, 2, 3], [1, 2], [2], [2, 1], [0, 2], [3, 3]):
        part = correction.rows(places)
        assert part.shift is not None
        assert torch.equal(part.shift, shift[places])
        shared = part.shift.untyped_storage().data_ptr() == shift.untyped_storage().data_ptr()
        assert shared == (places in ([0, 1, 2, 3], [1, 2], [2]))
        assert part.center is correction.center
