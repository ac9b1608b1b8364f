"""Numbers learned from vectors: every engine, and private steps, against a plain loop over the examples."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import LabelFlip, TargetShift
from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import Mean
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batches import Noise, plan_batches
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, Threat
from fedsec.privacy import PrivateTraining
from fedsec.seeds import Streams
from fedsec.tasks import Regression

SIZES = (9, 5, 1)  # a batch of one would tell a squeeze of the wrong axis
LR = 0.05


def table(count: int) -> Split:
    generator = torch.Generator().manual_seed(count)
    inputs = torch.randn(count, 3, generator=generator)
    return Split(inputs, inputs @ torch.tensor([1.0, -2.0, 0.5]) + 0.3)


def world(hidden: bool = True) -> tuple[nn.Module, ResidentData]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)) if hidden else nn.Linear(3, 1)
    clients = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
    return module, ResidentData.build(table(sum(SIZES)), clients, Normalization((0.5,), (2.0,)), torch.device("cpu"))


def plain(module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    module = copy.deepcopy(module)
    before = torch.cat([p.detach().flatten() for p in module.parameters()])
    optimizer = torch.optim.SGD(module.parameters(), LR)
    for inputs, targets in batches:
        optimizer.zero_grad()
        errors = [(module(row[None])[0, 0] - target) ** 2 for row, target in zip(inputs, targets, strict=True)]
        torch.stack(errors).mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in module.parameters()]) - before


@pytest.mark.parametrize("engine", ["loop", "vectorized", "private"])
def test_engines_agree_with_a_plain_loop(engine: Any) -> None:
    module, data = world()
    local = LocalTraining(epochs=2, batch_size=4, lr=LR)
    if engine == "private":
        # Every example in the one batch, nothing clipped, no noise.
        local = LocalTraining(steps=2, batch_fraction=1.0, lr=LR, private=PrivateTraining(0.0, 1e6))
    trainer = CohortTrainer(module, data, engine="auto" if local.private else engine, task=Regression())
    plans = [
        plan_batches(part, local, np.random.default_rng(i), noise=Noise(0.0, i) if local.private else None)
        for i, part in enumerate(data.clients)
    ]
    trained = trainer.train(trainer.start(module), plans, local).updates
    split = table(sum(SIZES))
    for plan, row in zip(plans, trained, strict=True):
        numbers = [torch.from_numpy(plan.examples[step, :size]) for step, size in enumerate(plan.sizes)]
        batches = [((split.inputs[some] - 0.5) / 2, split.targets[some]) for some in numbers]
        torch.testing.assert_close(row, plain(module, batches), rtol=1e-3, atol=1e-6)


def federation(threat: Threat | None = None, task: Regression | None = Regression()) -> Federation:  # noqa: B008
    module, data = world(hidden=False)
    return Federation(
        module,
        CohortTrainer(module, data, task=task),
        table(20),
        algorithm=FedAvg(local=LocalTraining(epochs=5, batch_size=4, lr=LR)),
        aggregator=Mean(),
        streams=Streams(0),
        rounds=6,
        num_classes=None,
        threat=threat,
    )


def test_a_federation_learns_the_line_and_an_attacker_moves_it() -> None:
    honest = [result.metrics["mean_squared_error"] or 0.0 for result in federation().run()]
    assert honest[-1] < 0.2 < 1 < honest[0]
    attacked = [*federation(Threat(frozenset({0}), TargetShift(4.0))).run()][-1]
    assert (attacked.metrics["mean_squared_error"] or 0.0) > 2


def test_what_needs_classes_is_refused_in_python_too() -> None:
    with pytest.raises(InputError, match="attack: LabelFlip goes with classification, and this task is regression"):
        federation(Threat(frozenset({0}), LabelFlip()))
    with pytest.raises(InputError, match=r"classification: expected targets of torch.int64, got torch.float32"):
        federation(task=None)
