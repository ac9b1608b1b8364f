"""What local training has beside cross-entropy: running statistics, a teacher, augmented views.

Every one of them in both engines, against a loop that anybody would write.
"""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data.augmentation import Augmentation
from fedsec.data.datasets import Normalization, Split
from fedsec.engine import CohortTrainer, LocalResult, LocalTraining, ResidentData, Start, Teacher
from fedsec.engine.batches import BatchPlan, plan_batches
from fedsec.engine.messages import distillation
from fedsec.errors import InputError

SHAPE, CLASSES, SIZES = (2, 6, 6), 3, (11, 4, 7, 1)
LOCAL = LocalTraining(epochs=2, batch_size=4, lr=0.1, momentum=0.9, weight_decay=0.01)


class Normalized(nn.Module):
    """Batch normalization after a convolution, without scale and shift, in the middle and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4, momentum=0.3),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4, affine=False),
        )
        self.classifier = nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.body(images).square().mean((2, 3)))
        return out


def world() -> tuple[nn.Module, ResidentData]:
    generator = torch.Generator().manual_seed(0)
    count = sum(SIZES)
    images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    ends = np.cumsum(SIZES)
    clients = [np.arange(end - size, end) for end, size in zip(ends, SIZES, strict=True)]
    data = ResidentData.build(Split(images, labels), clients, Normalization((0.4,), (0.3,)), torch.device("cpu"))
    torch.manual_seed(0)
    return Normalized(), data


def plans(data: ResidentData, local: LocalTraining) -> list[BatchPlan]:
    return [plan_batches(c, local, np.random.default_rng(i), data.image_size) for i, c in enumerate(data.clients)]


def plain(
    module: nn.Module, data: ResidentData, plan: BatchPlan, local: LocalTraining, teacher: Teacher | None = None
) -> tuple[Tensor, Tensor]:
    module = copy.deepcopy(module).train()
    before = [p.detach().clone() for p in module.parameters()]
    optimizer = torch.optim.SGD(module.parameters(), local.lr, local.momentum, weight_decay=local.weight_decay)
    for step in range(plan.steps):
        chosen = torch.from_numpy(plan.examples[step][: plan.sizes[step]])
        images = (data.images[chosen].float() / 255 - 0.4) / 0.3
        logits = module(images)
        loss = F.cross_entropy(logits, data.label_of[chosen])
        if teacher is not None:
            t = teacher.temperature
            for row, example in zip(logits, chosen.tolist(), strict=True):
                if teacher.known[example]:
                    target = F.softmax(teacher.logits[example] / t, 0)
                    kl = F.kl_div(F.log_softmax(row / t, 0), target, reduction="sum")
                    loss = loss + teacher.weight * t * t * kl / len(chosen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    update = torch.cat([(p.detach() - b).flatten() for p, b in zip(module.parameters(), before, strict=True)])
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    return update, torch.cat([part for m in norms for part in (m.running_mean, m.running_var)])  # type: ignore[misc]


def both(module: nn.Module, data: ResidentData, local: LocalTraining, **more: Any) -> list[LocalResult]:
    trainers = [CohortTrainer(module, data, engine=e) for e in ("loop", "vectorized")]  # type: ignore[arg-type]
    found = [trainer.train(trainer.start(module), plans(data, local), local, **more) for trainer in trainers]
    assert [trainer.used.split(",")[0] for trainer in trainers] == ["loop", "vectorized"]
    return found


def expect(found: LocalResult, rows: list[tuple[Tensor, Tensor]]) -> None:
    torch.testing.assert_close(found.updates, torch.stack([row for row, _ in rows]), rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(found.statistics, torch.stack([row for _, row in rows]), rtol=1e-4, atol=1e-5)


def test_running_statistics_are_each_client_s_own_and_padding_does_not_move_them() -> None:
    module, data = world()
    cohort = plans(data, LOCAL)
    assert len({plan.steps for plan in cohort}) > 1
    assert any((plan.sizes < 4).any() for plan in cohort)
    rows = [plain(module, data, plan, LOCAL) for plan in cohort]
    assert (rows[0][1] - rows[1][1]).abs().max() > 0.05
    for found in both(module, data, LOCAL):
        expect(found, rows)
        assert found.examples.tolist() == [2 * size for size in SIZES]


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_cumulative_statistics_are_the_average_over_the_round_s_batches(engine: Any) -> None:
    module, data = world()
    trainer = CohortTrainer(module, data, engine=engine, cumulative=True)
    start = trainer.start(module)
    start = Start(start.parameters, torch.full_like(start.statistics, 99.0))
    found = trainer.train(start, plans(data, LOCAL), LOCAL)
    seen: list[Tensor] = []
    first = module.get_submodule("body.0")
    still = LocalTraining(epochs=1, batch_size=4, lr=1e-12)
    again = trainer.train(start, plans(data, still), still)
    for step, size in enumerate(plans(data, still)[0].sizes.tolist()):
        images, _ = data.batch(torch.from_numpy(plans(data, still)[0].examples[step, :size]))
        seen.append(first(images).mean((0, 2, 3)))
    torch.testing.assert_close(again.statistics[0, :4], torch.stack(seen).mean(0), rtol=1e-4, atol=1e-5)
    assert found.statistics.abs().max() < 50


def test_each_client_may_start_from_its_own() -> None:
    module, data = world()
    trainers = [CohortTrainer(module, data, engine=e) for e in ("loop", "vectorized")]  # type: ignore[arg-type]
    start = trainers[0].start(module)
    own = Start(start.parameters + 0.1 * torch.arange(4.0)[:, None], start.statistics + torch.arange(4.0)[:, None])
    found = [trainer.train(own, plans(data, LOCAL), LOCAL) for trainer in trainers]
    torch.testing.assert_close(found[0].updates, found[1].updates, rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(found[0].statistics, found[1].statistics, rtol=1e-4, atol=1e-5)
    for place in range(4):
        alone = Start(*own.of(place))
        row = trainers[0].train(alone, [plans(data, LOCAL)[place]], LOCAL)
        torch.testing.assert_close(found[1].updates[place], row.updates[0], rtol=1e-3, atol=2e-5)


def test_a_teacher_s_logits_belong_to_their_examples() -> None:
    module, data = world()
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(sum(SIZES), CLASSES, generator=generator)
    known = torch.rand(sum(SIZES), generator=generator) < 0.7
    teacher = Teacher(logits, known, temperature=3.0, weight=0.8)
    rows = [plain(module, data, plan, LOCAL, teacher) for plan in plans(data, LOCAL)]
    assert (rows[0][0] - plain(module, data, plans(data, LOCAL)[0], LOCAL)[0]).abs().max() > 1e-2
    for found in both(module, data, LOCAL, teacher=teacher):
        expect(found, rows)


def test_a_teacher_of_nobody_changes_nothing() -> None:
    module, data = world()
    nobody = Teacher(torch.zeros(sum(SIZES), CLASSES), torch.zeros(sum(SIZES), dtype=torch.bool), weight=5.0)
    for with_it, without in zip(both(module, data, LOCAL, teacher=nobody), both(module, data, LOCAL), strict=True):
        torch.testing.assert_close(with_it.updates, without.updates, rtol=1e-5, atol=1e-7)


EXTREME = torch.tensor([[1e30, -1e30, 0], [3e38, -3e38, 3e38], [-3e38, -3e38, 3e38], [200.0, 0, -200], [1, 2, 3]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_distillation_from_finite_logits_is_finite_and_pulls_towards_the_teacher(temperature: float) -> None:
    student = torch.tensor([0.5, -1.0, 2.0]).expand(5, 3).clone().requires_grad_()
    losses = distillation(student, EXTREME, temperature)
    (gradient,) = torch.autograd.grad(losses.sum(), student)
    # In float64 nothing overflows, and x log x is PyTorch's.
    target = F.softmax(EXTREME.double() / temperature, -1)
    theirs = student.detach().double()
    cross = (target * F.log_softmax(theirs / temperature, -1)).sum(-1)
    expected = temperature**2 * (torch.special.xlogy(target, target).sum(-1) - cross)
    torch.testing.assert_close(losses.detach().double(), expected, rtol=1e-4, atol=1e-5)
    pull = temperature * (F.softmax(theirs / temperature, -1) - target)
    torch.testing.assert_close(gradient.double(), pull, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_student_far_away_is_pulled_no_harder_than_the_temperature(temperature: float) -> None:
    student = torch.tensor([[1e30, -1e30, 0], [0, 1e30, 0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 2, 3], [3e38, 0, -3e38]])
    losses = distillation(student, teacher, temperature)
    (gradient,) = torch.autograd.grad(losses.sum(), student)
    share = F.softmax(teacher[0] / temperature, -1)
    expected = torch.stack([(2 * share[1] + share[2]) * temperature * 1e30, torch.tensor(temperature * 1e30)])
    torch.testing.assert_close(losses.detach(), expected, rtol=1e-4, atol=0)
    pull = temperature * torch.stack([torch.tensor([1.0, 0, 0]) - share, torch.tensor([-1.0, 1, 0])])
    torch.testing.assert_close(gradient, pull, rtol=1e-4, atol=1e-5)


def test_both_engines_see_the_same_augmented_views() -> None:
    module, data = world()
    local = LocalTraining(epochs=2, batch_size=4, lr=0.1, augmentation=Augmentation(crop=2, cutout=2))
    loop, vectorized = both(module, data, local)
    torch.testing.assert_close(loop.updates, vectorized.updates, rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(loop.statistics, vectorized.statistics, rtol=1e-4, atol=1e-5)
    bare = both(module, data, LocalTraining(epochs=2, batch_size=4, lr=0.1))[0]
    assert (loop.updates - bare.updates).abs().max() > 1e-3


def test_a_gradient_with_batch_normalization_is_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = world()
    monkeypatch.setattr("fedsec.engine.loop.MICROBATCH", 2)
    trainer = CohortTrainer(module, data)
    found = trainer.gradients(trainer.start(module), [0, 1])
    images, labels = data.batch(torch.from_numpy(data.clients[1]))
    twin = copy.deepcopy(module).train()
    F.cross_entropy(twin(images), labels).backward()
    expected = torch.cat([p.grad.flatten() for p in twin.parameters() if p.grad is not None])
    torch.testing.assert_close(found.updates[1], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.statistics[1], trainer.statistics.flatten(twin))


def test_recalibration_is_the_average_of_the_batches_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = world()
    monkeypatch.setattr("fedsec.engine.loop.MICROBATCH", 4)
    trainer = CohortTrainer(module, data)
    found = trainer.recalibrated(trainer.start(module).parameters, [0])
    parts = torch.from_numpy(data.clients[0]).tensor_split(3)
    outputs = [module.get_submodule("body.0")(data.batch(part)[0]) for part in parts]
    torch.testing.assert_close(found[0, :4], torch.stack([o.mean((0, 2, 3)) for o in outputs]).mean(0))
    torch.testing.assert_close(
        found[0, 4:8], torch.stack([o.transpose(0, 1).flatten(1).var(1) for o in outputs]).mean(0)
    )


def test_a_batch_that_cannot_be_normalized_is_bad_input_in_words() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES), nn.BatchNorm1d(CLASSES))
    _, data = world()
    trainer = CohortTrainer(module, data, engine="loop")
    with pytest.raises(InputError, match="a batch of 1 has no more"):
        trainer.train(trainer.start(module), plans(data, LOCAL)[3:], LOCAL)
