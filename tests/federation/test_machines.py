"""What attackers train with: the same as honest clients, on their own data alone, and counted."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data.dataset import Split
from fedsec.data.normalization import Normalization
from fedsec.defenses import Mean
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trainer import CohortTrainer
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedSGD, Scaffold, Threat
from fedsec.seeds import Streams
from fedsec.threat import AttackerMachine, AttackerView, UpdatePoisoning

LOCAL = LocalTraining(epochs=2, batch_size=5, lr=0.1, momentum=0.9)


class Training(UpdatePoisoning):
    """Sends what a function of the machine gives; keeps what it saw."""

    knowledge = "own"
    trains = True

    def __init__(self, work: Any) -> None:
        self.work, self.views = work, list[AttackerView]()

    def forge(self, view: AttackerView) -> Tensor:
        self.views.append(view)
        return torch.stack([self.work(machine) for machine in view.machines])


def federation(attack: Any, algorithm: Any = None, module: nn.Module | None = None, **more: Any) -> Federation:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.arange(60) % 3
    parts = np.split(np.arange(60), [10, 22, 40])
    data = ResidentData.build(Split(images, labels), parts, Normalization((0.4,), (0.3,)), torch.device("cpu"))
    torch.manual_seed(0)
    module = module or nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3))
    more = {"rounds": 2, "threat": Threat(frozenset({1, 2}), attack), **more}
    return Federation(
        module,
        CohortTrainer(module, data),
        Split(images[:6], labels[:6]),
        algorithm=algorithm or FedAvg(local=LOCAL),
        aggregator=Mean(),
        streams=Streams(0),
        num_classes=3,
        **more,
    )


def received(run: Federation) -> list[Tensor]:
    rows: list[Tensor] = []
    run.observers.append(lambda number, clients, updates: rows.append(updates.clone()))
    list(run.run())
    return rows


def with_dropout() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Dropout(0.5), nn.Linear(5, 3))


def with_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 3))


@pytest.mark.parametrize("model", [lambda: None, with_dropout, with_norm], ids=["plain", "dropout", "norm"])
def test_training_as_it_is_gives_the_honest_update(model: Any) -> None:
    local = LocalTraining(epochs=1, batch_size=5, lr=0.1, momentum=0.9)  # 10, 12, 18: no batch of one
    attack = Training(lambda machine: machine.train())
    for forged, honest in zip(
        received(federation(attack, FedAvg(local=local), model())),
        received(federation(None, FedAvg(local=local), model(), threat=Threat())),
        strict=True,
    ):
        torch.testing.assert_close(forged, honest, rtol=1e-4, atol=1e-6)


def by_hand(machine: AttackerMachine, model: nn.Module, pixels: Tensor, targets: Tensor, rate: float) -> Tensor:
    """One full-batch step by torch."""
    for parameter, value in zip(model.parameters(), split(machine.parameters, model), strict=True):
        parameter.data.copy_(value)
    gradients = torch.autograd.grad(F.cross_entropy(model((pixels - 0.4) / 0.3), targets), [*model.parameters()])
    return -rate * torch.cat([gradient.flatten() for gradient in gradients])


def split(vector: Tensor, model: nn.Module) -> list[Tensor]:
    shapes = [parameter.shape for parameter in model.parameters()]
    return [
        part.view(shape) for part, shape in zip(vector.split([shape.numel() for shape in shapes]), shapes, strict=True)
    ]


def test_one_step_on_other_images_and_labels_against_torch() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3))
    pixels, targets = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(3)), torch.tensor([0, 2, 2, 1])
    local = FedAvg(local=LocalTraining(steps=1, batch_size=50, lr=0.1))
    wanted: list[Tensor] = []

    def work(machine: AttackerMachine) -> Tensor:
        wanted.append(by_hand(machine, model, pixels, targets, 0.3))
        gradient = machine.gradient(pixels, targets)
        torch.testing.assert_close(-0.3 * gradient, wanted[-1], rtol=1e-4, atol=1e-6)
        update = machine.train(pixels, targets, lr=0.3)
        assert machine.examples == 8
        return update

    (rows, _) = received(federation(Training(work), local))
    torch.testing.assert_close(rows[1:3], torch.stack(wanted[:2]), rtol=1e-4, atol=1e-6)


def test_pixels_gradients_against_differences() -> None:
    def work(machine: AttackerMachine) -> Tensor:
        pixels, targets = machine.inputs[:2], machine.targets[:2]
        gradient = machine.input_gradient(pixels, targets)
        assert gradient.shape == pixels.shape
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        for parameter, value in zip(model.parameters(), split(machine.parameters, model), strict=True):
            parameter.data.copy_(value)
        step = torch.zeros_like(pixels, dtype=torch.float64)
        step[1, 0, 2, 3] = 1e-5
        losses = [F.cross_entropy(model((pixels + sign * step - 0.4) / 0.3), targets).detach() for sign in (1, -1)]
        assert float(gradient[1, 0, 2, 3]) == pytest.approx(float(losses[0] - losses[1]) / 2e-5, rel=1e-3)
        assert machine.examples == 2
        return machine.parameters

    list(federation(Training(work)).run())


def test_mask_pull_start_and_steps() -> None:
    def work(machine: AttackerMachine) -> Tensor:
        mask = (torch.arange(len(machine.parameters)) % 2).float()
        masked = machine.train(mask=mask)
        assert (masked[mask == 0] == 0).all()
        assert (masked[mask == 1] != 0).float().mean() > 0.9
        start = machine.parameters + 1
        assert machine.train(start=start, steps=1).norm() < start.norm()
        before = machine.examples
        free, pulled = machine.train(steps=20), machine.train(steps=20, pull=5.0)
        assert machine.examples - before == 200
        assert pulled.norm() < free.norm() / 2
        away = machine.train(steps=20, pull=5.0, center=start)
        assert (machine.parameters + away - start).norm() < (machine.parameters - start).norm()
        return masked

    decaying = LocalTraining(epochs=2, batch_size=5, lr=0.02, momentum=0.5, weight_decay=0.1)
    list(federation(Training(work), FedAvg(local=decaying), rounds=1).run())


def test_effort_is_reported_and_only_trainers_get_machines() -> None:
    run = federation(Training(lambda machine: machine.train(epochs=6)))
    results = list(run.run())
    # Clients of 12 and 18 examples, six passes each; honest ones, of 10, 12, 18 and 20 examples, make two.
    for result in results:
        assert result.attacker_flops is not None
        assert result.cost is not None
        assert result.attacker_flops / result.cost.flops == pytest.approx(6 * 15 / (2 * 15))

    class Plain(Training):
        trains = False

    plain = Plain(lambda machine: machine.parameters)
    with pytest.raises(RuntimeError):  # nothing to stack
        list(federation(plain).run())
    assert plain.views[0].machines == ()
    own = torch.zeros(2, 3)
    with pytest.raises(InputError, match="trains on the attackers' machines"):
        Training(None).craft(AttackerView(own, own[:0], own[0], 4, 2, 1, torch.Generator()))


def test_leverage_is_the_share_of_the_weight() -> None:
    attack = Training(lambda machine: machine.parameters * 0)
    list(federation(attack, FedAvg(local=LOCAL, weighting="samples", server_lr=0.5)).run())
    assert attack.views[0].leverage == pytest.approx((0.5 * 12 / 60, 0.5 * 18 / 60))


def test_what_clients_send_beside_the_update_stays_honest() -> None:
    attack = Training(lambda machine: machine.train() * 0)
    run = federation(attack, Scaffold(local=LocalTraining(epochs=1, batch_size=5)))
    list(run.run())
    assert len(attack.views) == 2  # the update of two rounds, and nothing else


def test_clients_that_send_one_gradient_cannot_train() -> None:
    with pytest.raises(InputError, match="trains for several local steps, and clients of FedSGD send one gradient"):
        federation(Training(None), FedSGD())


def test_malformed_examples() -> None:
    def work(machine: AttackerMachine) -> Tensor:
        for inputs, targets in ((machine.inputs[:2], machine.targets[:1]), (machine.inputs[..., 1:], machine.targets)):
            with pytest.raises(InputError, match="attacker's training: expected at least one example of shape"):
                machine.train(inputs, targets)
        return machine.parameters

    list(federation(Training(work), rounds=1).run())
