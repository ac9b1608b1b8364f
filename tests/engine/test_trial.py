"""Users' models: what one step before the run finds out, and that training is then what plain PyTorch makes of it."""

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data.datasets import Normalization, Split
from fedsec.engine import BatchPlan, CohortTrainer, LocalResult, LocalTraining, Noise, ResidentData, Start
from fedsec.engine.batches import plan_batches
from fedsec.errors import InputError
from fedsec.privacy import PrivateTraining
from fedsec.randomness import seeded
from fedsec.seeds import Streams

SIZES, SHAPE, CLASSES = (5, 11, 8), (1, 4, 4), 3
LOCAL = LocalTraining(epochs=2, batch_size=4, lr=0.1, momentum=0.5)
STREAMS = Streams(3)
CPU = torch.device("cpu")


def resident(sizes: tuple[int, ...] = SIZES) -> ResidentData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (sum(sizes), *SHAPE), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (sum(sizes),), generator=generator)
    clients = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return ResidentData.build(Split(images, labels), clients, Normalization((0.4,), (0.3,)), CPU)


def key(client: int, round_number: int = 1) -> int:
    return STREAMS.key("client", client, "round", round_number, "model")


def plans(data: ResidentData, local: LocalTraining = LOCAL, round_number: int = 1) -> list[BatchPlan]:
    cohort = enumerate(data.clients)
    return [plan_batches(c, local, np.random.default_rng(i), draws=key(i, round_number)) for i, c in cohort]


def flat(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad])


def plain(module: nn.Module, data: ResidentData, plan: BatchPlan, local: LocalTraining = LOCAL) -> nn.Module:
    """What anybody would write; the module that one client's training leaves."""
    module = copy.deepcopy(module).train()
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], local.lr, local.momentum)
    for step, size in enumerate(plan.sizes):
        images, labels = data.batch(torch.from_numpy(plan.examples[step, :size]))
        optimizer.zero_grad()
        F.cross_entropy(module(images), labels).backward()
        optimizer.step()
    return module


def trained(module: nn.Module, data: ResidentData, **options: Any) -> tuple[CohortTrainer, LocalResult]:
    trainer = CohortTrainer(module, data, **options)
    return trainer, trainer.train(trainer.start(module), plans(data), LOCAL)


def expect_plain(module: nn.Module, data: ResidentData, trainer: CohortTrainer, result: LocalResult) -> None:
    """Every client's update and what else training changed are plain PyTorch's, whoever trained before it."""
    for client, plan in enumerate(plans(data)):
        with seeded(key(client), CPU):
            after = plain(module, data, plan)
        expected = flat(after) - flat(module)
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(result.updates[client], expected, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(result.statistics[client], trainer.statistics.flatten(after), rtol=1e-3, atol=1e-5)


class Body(nn.Module):
    """A small network whose middle is the test's."""

    def __init__(self, middle: Callable[[Tensor], Tensor] | None = None, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(16, width), nn.Linear(width, CLASSES)
        self.middle = middle or nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.relu(self.middle(self.first(images.flatten(1)))))
        return logits


class Frozen(Body):
    """A module that keeps its batch normalization in evaluation mode."""

    def train(self, mode: bool = True) -> "Frozen":
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm1d):
                layer.eval()
        return self


class FrozenLayer(nn.BatchNorm1d):
    """A batch normalization that is never in train mode."""

    def train(self, mode: bool = True) -> "FrozenLayer":
        super().train(False)
        return self


def calibrated(layer: nn.BatchNorm1d) -> nn.BatchNorm1d:
    layer.running_mean, layer.running_var = torch.linspace(-1, 1, 6), torch.linspace(0.5, 2, 6)
    return layer


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
@pytest.mark.parametrize("kind", ["module", "layer"])
def test_frozen_batch_normalization_is_plain_pytorch_s(engine: str, kind: str) -> None:
    frozen = Frozen(calibrated(nn.BatchNorm1d(6))) if kind == "module" else Body(calibrated(FrozenLayer(6)))
    data = resident()
    trainer, result = trained(frozen, data, engine=engine)
    assert trainer.used.startswith(engine)
    assert trainer.statistics.size == 0
    expect_plain(frozen, data, trainer, result)
    assert trainer.trial.smallest_batch == 1  # it needs no variance of a batch


def test_only_some_layers_frozen() -> None:
    class Both(Frozen):
        def train(self, mode: bool = True) -> "Both":
            super().train(mode)
            self.middle[1].train(mode)  # type: ignore[index]
            return self

    data = resident((4, 12, 8))
    module = Both(nn.Sequential(calibrated(nn.BatchNorm1d(6)), nn.BatchNorm1d(6)))
    for engine in ("loop", "vectorized"):
        trainer, result = trained(module, data, engine=engine)
        assert list(trainer.statistics.channels) == ["middle.1"]
        expect_plain(module, data, trainer, result)


class Twice(Body):
    """One batch normalization in two places: its statistics move twice a step."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.tanh(self.middle(self.first(images.flatten(1))))
        logits: Tensor = self.last(self.middle(hidden))
        return logits


class Unused(Body):
    """Batch normalization that no step runs."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = calibrated(nn.BatchNorm1d(6))


@pytest.mark.parametrize("module", [Twice(nn.BatchNorm1d(6)), Unused()], ids=["twice", "unused"])
def test_layers_that_do_not_run_once_a_step(module: nn.Module) -> None:
    data = resident((4, 12, 8))
    trainer, result = trained(module, data)
    expect_plain(module, data, trainer, result)
    names = trainer.statistics.named(result.statistics)
    assert bool(names) == isinstance(module, Twice)


def test_batch_normalization_that_runs_now_and_then_is_refused_when_it_shows() -> None:
    class Skips(Body):
        def forward(self, images: Tensor) -> Tensor:
            hidden = self.first(images.flatten(1))
            logits: Tensor = self.last(hidden if len(images) == 4 else self.middle(hidden))
            return logits

    module, data = Skips(nn.BatchNorm1d(6)), resident((4, 8))
    trainer = CohortTrainer(module, data, engine="loop")
    with pytest.raises(InputError, match=r"layer 'middle' does not run once in every step"):
        trainer.train(trainer.start(module), plans(data), LOCAL)


class Center(nn.Module):
    """Subtracts a running center, counts its steps, and keeps one center as a parameter that no gradient trains."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(6))
        self.register_buffer("replaced", torch.zeros(6), persistent=False)
        self.register_buffer("count", torch.tensor(0))
        self.slow = nn.Parameter(torch.zeros(6), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.center.mul_(0.9).add_(x.mean(0), alpha=0.1)  # type: ignore[operator]
                self.replaced = 0.5 * self.replaced + 0.5 * x.amax(0)
                self.slow.mul_(0.8).add_(x[0], alpha=0.2)
                self.count += 1
        return x - self.center - self.replaced - self.slow + 0.1 * self.count


@pytest.mark.parametrize("threads", [1, 2])
def test_buffers_that_training_changes_are_carried_for_every_client(threads: int) -> None:
    module, data = Body(Center()), resident()
    trainer, result = trained(module, data, threads=threads)
    names = ["middle.slow", "middle.center", "middle.replaced", "middle.count"]
    assert sorted(trainer.statistics.buffers) == sorted(names)
    assert trainer.used == "loop"
    assert "training changes 'middle." in trainer.reason
    expect_plain(module, data, trainer, result)
    assert trainer.statistics.named(result.statistics)["middle.count"].tolist() == [4, 6, 4]
    with pytest.raises(InputError, match=r"training changes 'middle\..* use engine: loop"):
        CohortTrainer(module, data, engine="vectorized")


def test_the_next_round_starts_where_the_server_says() -> None:
    module, data = Body(Center()), resident()
    trainer = CohortTrainer(module, data)
    received = copy.deepcopy(module)
    trainer.statistics.load(received, torch.arange(float(trainer.statistics.size)))
    start = trainer.start(received)
    first = trainer.train(start, plans(data), LOCAL)
    for client, plan in enumerate(plans(data)):
        after = plain(received, data, plan)
        torch.testing.assert_close(first.statistics[client], trainer.statistics.flatten(after), rtol=1e-3, atol=1e-4)
    again = trainer.train(start, plans(data), LOCAL)
    assert torch.equal(first.statistics, again.statistics)


def test_a_full_gradient_carries_them_too_and_takes_the_batch_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsec.engine.loop.MICROBATCH", 2)
    module, data = Body(Center()), resident()
    trainer = CohortTrainer(module, data)
    result = trainer.gradients(trainer.start(module), [1, 2])
    for place, client in enumerate((1, 2)):
        after = copy.deepcopy(module).train()
        images, labels = data.batch(torch.from_numpy(data.clients[client]))
        F.cross_entropy(after(images), labels).backward()
        expected = torch.cat([p.grad.flatten() for p in after.parameters() if p.grad is not None])
        torch.testing.assert_close(result.updates[place], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(result.statistics[place], trainer.statistics.flatten(after))


def test_a_buffer_that_only_later_steps_change_is_refused_when_it_shows() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("top", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            if len(x) == 1:
                self.top.add_(1)  # type: ignore[operator]
            return x + self.top

    module, data = Body(Late()), resident((4, 5))
    trainer = CohortTrainer(module, data, engine="loop")
    with pytest.raises(InputError, match=r"training changed 'middle\.top', which the first step"):
        trainer.train(trainer.start(module), plans(data), LOCAL)


class Converged(nn.Module):
    """Writes to its buffer what was there, as long as activations are small."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("excess", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        self.excess.copy_((x.detach().amax(0) - 1e3).clamp_min(0))  # type: ignore[operator]
        return x - self.excess


@pytest.mark.parametrize("middle", [Converged(), nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))])
def test_a_buffer_that_is_written_to_is_carried_whatever_was_written(middle: nn.Module) -> None:
    module, data = Body(middle), resident()
    trainer, result = trained(module, data)
    assert set(trainer.statistics.buffers) == {f"middle.{name}" for name, _ in middle.named_buffers()}
    expect_plain(module, data, trainer, result)


def test_state_that_is_no_buffer_is_refused() -> None:
    class Hidden(nn.Module):
        steps = 0

        def forward(self, x: Tensor) -> Tensor:
            self.steps += 1
            return x * self.steps

    class OwnGenerator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seed = np.random.default_rng(0)

        def forward(self, x: Tensor) -> Tensor:
            return x + float(self.seed.random())

    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("queue", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.queue = torch.cat([self.queue, x.detach().flatten()[:1]])
            return x

    for middle, message in (
        (Hidden(), "something else when the same step is repeated"),
        (OwnGenerator(), "something else when the same step is repeated"),
        (Grows(), r"buffer 'middle\.queue' another shape"),
    ):
        with pytest.raises(InputError, match=message):
            CohortTrainer(Body(middle), resident())


class Functional(nn.Module):
    """Dropout that is no layer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, self.training)


class Elsewhere(nn.Module):
    """Draws from NumPy's and Python's generators."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.random.random() + random.random()) if self.training else x


class Recurrent(nn.Module):
    """Dropout inside a library's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 6, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.lstm(x.view(len(x), 3, 2))[0]
        return outputs[:, -1]


RANDOM = {
    "layer": lambda: nn.Dropout(0.5),
    "functional": Functional,
    "recurrent": Recurrent,
    "elsewhere": Elsewhere,
    "residual, normalized": lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.3)),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_every_client_draws_from_its_own_stream(kind: str) -> None:
    """Whoever trains before it, with any number of threads, and whatever else the process has drawn."""
    torch.manual_seed(0)
    module, data = Body(RANDOM[kind]()), resident((4, 12, 8))
    results = []
    for threads in (1, 2):
        torch.manual_seed(threads)
        trainer, result = trained(module, data, threads=threads)
        assert trainer.used == "loop"
        assert trainer.trial.draws
        # Batch normalization alone is reason enough for the loop on a CPU, and nothing to be told.
        assert ("draws random numbers" in trainer.reason) == (trainer.statistics.size == 0)
        results.append(result)
    expect_plain(module, data, trainer, results[0])
    assert torch.equal(results[0].updates, results[1].updates)
    backwards = trainer.train(trainer.start(module), plans(data)[::-1], LOCAL)
    assert torch.equal(backwards.updates.flip(0), results[0].updates)
    later = trainer.train(trainer.start(module), plans(data, round_number=2), LOCAL)
    assert not torch.equal(later.updates, results[0].updates)


def test_draws_leave_the_process_s_generators_alone() -> None:
    module, data = Body(nn.Dropout(0.5)), resident()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    trained(module, data)
    found = torch.rand(3).tolist(), np.random.random(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    assert found == (torch.rand(3).tolist(), np.random.random(), random.random())


def test_random_models_need_a_key_and_no_vectorized_engine() -> None:
    module, data = Body(nn.Dropout(0.5)), resident()
    trainer = CohortTrainer(module, data)
    bare = [plan_batches(c, LOCAL, np.random.default_rng(0)) for c in data.clients]
    with pytest.raises(InputError, match="expected a key for each client's draws"):
        trainer.train(trainer.start(module), bare, LOCAL)
    with pytest.raises(InputError, match="expected a key"):
        trainer.gradients(trainer.start(module), [0])
    with pytest.raises(InputError, match="draws random numbers while it trains"):
        CohortTrainer(module, data, engine="vectorized")
    still = CohortTrainer(Body(nn.Dropout(0.0)), data, engine="vectorized")
    assert not still.trial.draws


def test_a_full_gradient_of_a_random_model_is_reproducible() -> None:
    module, data = Body(nn.Dropout(0.5)), resident()
    trainer = CohortTrainer(module, data)
    gradients = [trainer.gradients(trainer.start(module), [1], draws=[key(n)]).updates for n in (1, 1, 2)]
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[0], gradients[2])


def test_draws_in_evaluation_mode_are_refused() -> None:
    class Always(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5, training=True)

    with pytest.raises(InputError, match="draws random numbers in evaluation mode"):
        CohortTrainer(Body(Always()), resident())


def test_recalibration_does_without_dropout() -> None:
    data = resident((8, 8))
    module = Body(nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(6)))
    still = Body(nn.Sequential(nn.Identity(), nn.BatchNorm1d(6)))
    rows = [CohortTrainer(m, data).recalibrated(flat(module), [0, 1]) for m in (module, module, still)]
    assert torch.equal(rows[0], rows[1])
    torch.testing.assert_close(rows[0], rows[2])


class Standardized(nn.Module):
    """A hand-written normalization by the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.std(0) + 0.1)


def test_models_that_mix_a_batch_s_examples_take_the_loop() -> None:
    module, data = Body(Standardized()), resident((4, 11, 8))
    trainer, result = trained(module, data)
    assert trainer.used == "loop"
    assert "mixes the examples of a batch" in trainer.reason
    plain_plans = plans(data)
    after = plain(module, data, plain_plans[1])
    torch.testing.assert_close(result.updates[1], flat(after) - flat(module), rtol=1e-3, atol=1e-5)
    with pytest.raises(InputError, match="mixes the examples of a batch"):
        CohortTrainer(module, data, engine="vectorized")


def test_a_full_gradient_of_a_mixing_model_is_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedsec.engine.loop.MICROBATCH", 2)
    module, data = Body(Standardized()), resident((4, 11, 8))
    trainer = CohortTrainer(module, data)
    images, labels = data.batch(torch.from_numpy(data.clients[1]))
    F.cross_entropy(module(images), labels).backward()
    expected = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    torch.testing.assert_close(trainer.gradients(trainer.start(module), [1]).updates[0], expected)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(6), nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.Identity()])
def test_layers_whose_padding_is_left_out_are_not_taken_for_mixing(norm: nn.Module) -> None:
    trainer = CohortTrainer(Body(norm), resident(), engine="vectorized")
    assert trainer.engine == "vectorized"
    assert not trainer.trial.mixes


def test_a_forward_pass_that_changes_its_parameters_takes_the_loop() -> None:
    class Bounded(Body):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                self.first.weight.clamp_(-0.1, 0.1)
            return super().forward(images)

    module, data = Bounded(), resident()
    trainer, result = trained(module, data)
    assert "changes its parameters" in trainer.reason
    for client, plan in enumerate(plans(data)):
        expected = flat(plain(module, data, plan)) - flat(module)
        torch.testing.assert_close(result.updates[client], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Body().double(), r"float32 of shape \(3, 1, 4, 4\) .*; its parameters are torch.float64"),
        (nn.Sequential(nn.Linear(7, CLASSES)), "cannot train on a batch of torch.float32"),
        (nn.Sequential(nn.Conv2d(1, 3, 3)), r"shape \(3, 3, 2, 2\) for a batch of 3; expected \(3, logits\)"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "has no shape yet"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), "out of bounds"),
    ],
    ids=["double", "shape", "outputs", "lazy", "classes"],
)
def test_models_that_do_not_fit_are_told_in_words(module: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CohortTrainer(module, resident())


def test_clients_with_too_small_a_batch_are_named_before_the_run() -> None:
    data, module = resident((8, 9, 8, 5)), Body(nn.BatchNorm1d(6))
    trainer = CohortTrainer(module, data)
    with pytest.raises(InputError, match=r"client 1 \(9 examples\) would train on a batch of 1: .*drop_last: true"):
        trainer.check(LOCAL, 2)
    for fine in (
        LocalTraining(epochs=2, batch_size=4, drop_last=True),
        LocalTraining(steps=3, batch_size=4),
        LocalTraining(epochs=1, batch_size=3),
    ):
        trainer.check(fine, 2)
    with pytest.raises(InputError, match=r"client 0 \(8 examples\) would train on a batch of 1"):
        trainer.check(LocalTraining(steps=3, batch_size=1), 2)
    CohortTrainer(Body(nn.LayerNorm(6)), data).check(LOCAL, 2)
    with pytest.raises(InputError, match=r"client 1 \(1 examples\)"):
        CohortTrainer(module, resident((4, 1))).check(None, 2)


def test_dropping_the_last_batch_trains_on_full_ones() -> None:
    local = LocalTraining(epochs=2, batch_size=4, drop_last=True)
    plan = plan_batches(np.arange(11), local, np.random.default_rng(0))
    assert plan.examples.shape == (4, 4)
    assert plan.sizes.tolist() == [4] * 4
    kept = plan_batches(np.arange(11), LocalTraining(epochs=2, batch_size=4), np.random.default_rng(0))
    assert np.array_equal(plan.examples[:2], kept.examples[:2])
    assert local.steps_of(11) == 4
    assert local.steps_of(3) == 2


def test_the_memory_of_a_cohort_is_checked_before_its_first_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients are trained at a time."""
    module, data = Body(), resident()
    trainer = CohortTrainer(module, data)
    free = 4 * trainer.layout.size * (500 + 4)
    monkeypatch.setattr("fedsec.engine.memory.free_bytes", lambda device: free)
    trainer.check(LOCAL, 100)
    with pytest.raises(InputError, match="local training needs about"):
        trainer.check(LOCAL, 1000)


def test_private_training_of_a_random_model_clips_what_was_drawn() -> None:
    """Without noise, and with every example in the one batch: by hand, one example after another."""
    module, data = Body(nn.Dropout(0.5)), resident()
    local = LocalTraining(steps=1, batch_fraction=1.0, lr=1.0, private=PrivateTraining(0.0, 0.3))
    cohort = [
        plan_batches(c, local, np.random.default_rng(i), noise=Noise(0.0, i), draws=key(i))
        for i, c in enumerate(data.clients)
    ]
    trainer = CohortTrainer(module, data)
    result = trainer.train(trainer.start(module), cohort, local)
    assert "one example at a time" in trainer.used
    for client, plan in enumerate(cohort):
        total = torch.zeros_like(flat(module))
        net = copy.deepcopy(module).train()
        with seeded(key(client), CPU):
            for example in plan.examples[0, : plan.sizes[0]]:
                images, labels = data.batch(torch.tensor([example]))
                grads = torch.autograd.grad(F.cross_entropy(net(images), labels), list(net.parameters()))
                row = torch.cat([g.flatten() for g in grads])
                total += row * min(1.0, 0.3 / float(row.norm()))
        torch.testing.assert_close(result.updates[client], -total / len(data.clients[client]), rtol=1e-3, atol=1e-6)


def test_private_training_refuses_buffers_that_take_up_examples() -> None:
    trainer = CohortTrainer(Body(Center()), resident())
    with pytest.raises(InputError, match=r"DP-SGD: training changes 'middle\."):
        trainer.private_method()


def test_start_holds_what_training_changes() -> None:
    module = Body(Center())
    start = CohortTrainer(module, resident()).start(module)
    assert isinstance(start, Start)
    assert start.statistics.shape == (19,)
