"""Private local training: what is added, to what, and what stays as it is without privacy."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data.augmentation import Augmentation
from fedsec.data.datasets import Normalization, Split
from fedsec.defense import Aggregator
from fedsec.defenses import DpSgd, Mean, TrimmedMean
from fedsec.engine import BatchPlan, CohortTrainer, Correction, LocalTraining, Noise, ResidentData, Start, Teacher
from fedsec.engine.batches import plan_batches
from fedsec.engine.memory import StepMemory, activation_bytes
from fedsec.engine.messages import LocalResult
from fedsec.engine.precision import Compute
from fedsec.errors import AggregationError, InputError
from fedsec.federation import (
    FedAvg,
    Federation,
    FedProx,
    FedSGD,
    RoundResult,
    RunPrivacy,
    Stragglers,
    UpdateAlgorithm,
    private_run,
)
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.algorithms.update_algorithm import Participants
from fedsec.models import build
from fedsec.privacy import PrivateTraining, Spending, epsilon
from fedsec.seeds import Streams

SHAPE, CLASSES = (1, 8, 8), 4
NORMALIZATION = Normalization((0.5,), (0.25,))
HUGE = 1e6
STREAMS = Streams(5)
PRIVATE = PrivateTraining(1.1, 0.5)
OPTIMIZERS = {
    "sgd": LocalTraining(steps=3, batch_size=5, lr=0.1),
    "momentum": LocalTraining(epochs=2, batch_size=5, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": LocalTraining(steps=3, batch_size=7, optimizer="adam", lr=0.01, weight_decay=0.01),
}


def split(examples: int = 60) -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (examples, *SHAPE), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(examples) % CLASSES)


def resident(sizes: tuple[int, ...] = (20, 20, 20)) -> ResidentData:
    clients = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    return ResidentData.build(split(sum(sizes)), clients, NORMALIZATION, torch.device("cpu"))


def model(name: str = "mlp") -> nn.Module:
    torch.manual_seed(0)
    return build(name, SHAPE, CLASSES)


def corrected(optimizer: str, clients: int, name: str = "mlp") -> Correction | None:
    """A correction for one of the optimizers."""
    if optimizer != "momentum":
        return None
    size = len(flat(model(name)))
    return Correction(alpha=0.3, shift=0.1 * torch.randn(clients, size, generator=torch.Generator().manual_seed(4)))


def trained(
    local: LocalTraining,
    data: ResidentData,
    name: str = "mlp",
    round_number: int = 1,
    correction: Correction | None = None,
) -> Tensor:
    """All clients' updates in a round."""
    module = model(name)
    trainer = CohortTrainer(module, data)
    plans = [plan_client(data, client, local, round_number, STREAMS) for client in range(len(data.clients))]
    return trainer.train(trainer.start(module), plans, local, correction=correction).updates


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("mode", ["auto", "ghost"])
def test_without_noise_clipping_and_sampling_it_is_ordinary_training(optimizer: str, mode: str) -> None:
    """Momentum, Adam, weight decay, corrections and epochs mean what they always mean."""
    data, local = resident((12, 20)), replace(OPTIMIZERS[optimizer], batch_size=None, batch_fraction=1.0)
    private = replace(local, private=PrivateTraining(0.0, HUGE, mode))  # type: ignore[arg-type]
    correction = corrected(optimizer, 2)
    expected = trained(local, data, correction=correction)
    torch.testing.assert_close(trained(private, data, correction=correction), expected, rtol=1e-3, atol=1e-5)
    if optimizer == "momentum":
        assert not torch.allclose(trained(private, data), expected, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_is_what_the_paper_says(optimizer: str) -> None:
    """Clip, sum, add noise, divide by the expected batch, descend; written anew with torch.optim."""
    data, module = resident(), model("lenet")
    local = replace(OPTIMIZERS[optimizer], private=PRIVATE)
    plan = plan_client(data, 1, local, 4, STREAMS)
    assert len(set(plan.sizes.tolist())) > 1
    start, correction = Start(flat(module), torch.zeros(0)), corrected(optimizer, 1, "lenet")
    found = CohortTrainer(module, data).train(start, [plan], local, correction=correction).updates[0]

    noise = STREAMS.noise("noise", "client", 1, "round", 4, "multiplier 1.1", "bound 0.5")
    expected = by_hand(module, data, plan, local, noise, correction)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5)


def by_hand(
    module: nn.Module,
    data: ResidentData,
    plan: BatchPlan,
    local: LocalTraining,
    noise: torch.Generator,
    correction: Correction | None = None,
) -> Tensor:
    """A client's update by one example at a time and torch.optim; changes the module."""
    before = flat(module)
    parameters = list(module.parameters())
    if local.optimizer == "adam":
        optimizer_: torch.optim.Optimizer = torch.optim.Adam(parameters, local.lr, weight_decay=local.weight_decay)
    else:
        optimizer_ = torch.optim.SGD(parameters, local.lr, local.momentum, weight_decay=local.weight_decay)
    for step, size in enumerate(plan.sizes.tolist()):
        total = torch.zeros_like(before)
        for place in range(size):
            view = None if plan.views is None else torch.from_numpy(plan.views[step, place][None])
            images, labels = data.batch(torch.tensor([plan.examples[step, place]]), view, local.augmentation)
            row = torch.cat(
                [g.flatten() for g in torch.autograd.grad(F.cross_entropy(module(images), labels), parameters)]
            )
            total += row * min(1.0, 0.5 / float(row.norm()))
        total += 1.1 * 0.5 * torch.randn(len(total), generator=noise)
        assert local.batch_size is not None
        gradient = total / local.batch_size
        if correction is not None and correction.shift is not None:
            gradient += correction.alpha * (flat(module) - before) + correction.shift[0]
        for each, part in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
            each.grad = part.view_as(each)
        optimizer_.step()
    return flat(module) - before


def flat(module: nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten() for each in module.parameters()])


def test_the_noise_has_the_stated_deviation_and_no_mean() -> None:
    """An empty batch is noise alone: sigma C / (q n) in each coordinate, times the learning rate."""
    data = resident()
    local = LocalTraining(steps=1, batch_size=5, lr=1.0, private=PrivateTraining(3.0, 0.5))
    empty = BatchPlan(data.clients[0][None, :1], np.array([0]), noise=Noise(3.0, 9), expected=5)
    module = model("cnn")
    trainer = CohortTrainer(module, data)
    drawn = trainer.train(trainer.start(module), [empty], local).updates[0]
    expected = 3.0 * 0.5 / 5
    assert len(drawn) > 5000
    assert float(drawn.std()) == pytest.approx(expected, rel=0.03)
    assert abs(float(drawn.mean())) < 4 * expected / len(drawn) ** 0.5
    assert float((drawn.abs() < expected).float().mean()) == pytest.approx(0.683, abs=0.02)


def test_no_example_moves_the_sum_by_more_than_the_bound() -> None:
    data, bound = resident((20,)), 0.05
    local = LocalTraining(steps=1, batch_size=5, lr=1.0, private=PrivateTraining(0.0, bound))
    module = model("cnn")
    trainer = CohortTrainer(module, data)

    def sum_of(count: int) -> Tensor:
        plan = BatchPlan(data.clients[0][None], np.array([count]), noise=Noise(0.0, 0), expected=5)
        return -5 * trainer.train(trainer.start(module), [plan], local).updates[0]

    sums = [sum_of(count) for count in range(21)]
    moves = [float((after - before).norm()) for before, after in pairwise(sums)]
    assert max(moves) == pytest.approx(bound, rel=1e-3)
    assert float(sums[0].abs().max()) == 0


def test_batches_are_poisson_samples() -> None:
    local = LocalTraining(steps=4000, batch_size=6, private=PRIVATE)
    examples = np.arange(100, 130)
    plan = plan_batches(examples, local, np.random.default_rng(0), noise=Noise(1.0, 0))
    taken = np.zeros((4000, 30), dtype=bool)
    for step, size in enumerate(plan.sizes):
        chosen = plan.examples[step, :size] - 100
        assert len(set(chosen)) == size
        taken[step, chosen] = True
    rate, deviation = 6 / 30, np.sqrt(0.2 * 0.8 / 4000)
    assert np.abs(taken.mean(0) - rate).max() < 4 * deviation
    together = (taken.T.astype(float) @ taken / 4000)[~np.eye(30, dtype=bool)]
    assert np.abs(together - rate**2).max() < 5 * np.sqrt(0.04 * 0.96 / 4000)
    assert plan.sizes.var() == pytest.approx(30 * 0.2 * 0.8, rel=0.1)
    assert set(plan.examples.ravel()) <= set(examples)
    assert plan.expected == 6


def test_samples_follow_each_other_as_before_and_may_be_empty() -> None:
    rare = LocalTraining(steps=5, batch_size=1, private=PRIVATE)
    data = resident((2, 3, 4))
    sizes = [plan_client(data, client, rare, 1, STREAMS).sizes for client in range(3)]
    assert all(len(each) == 5 for each in sizes)
    assert any((each == 0).any() for each in sizes)
    assert trained(rare, data).isfinite().all()
    assert plan_client(data, 1, replace(rare, steps=None, epochs=4), 1, STREAMS).steps == 12
    whole = plan_client(data, 2, replace(rare, batch_size=9), 1, STREAMS)
    assert whole.sizes.tolist() == [4] * 5


def test_noise_depends_on_seed_client_round_and_loudness_and_on_nothing_else() -> None:
    data, local = resident((20, 20)), LocalTraining(steps=1, batch_size=5, lr=1.0, private=PrivateTraining(5.0, 0.01))
    first = trained(local, data)
    assert torch.equal(first, trained(local, data))
    louder = replace(local, private=PrivateTraining(50.0, 0.01))
    wider = replace(local, private=PrivateTraining(5.0, 0.02))
    plans = [
        plan_client(data, client, each, number, streams)
        for client in (0, 1)
        for number in (1, 2)
        for streams in (Streams(0), Streams(1))
        for each in (local, louder, wider)
    ]
    assert len({plan.noise.key for plan in plans if plan.noise is not None}) == 24
    assert float((first[0] - first[1]).norm()) > float(first[0].norm())  # independent: sqrt 2
    assert float((first - trained(local, data, round_number=2)).norm()) > float(first.norm())
    # Batches come from another stream, which is asked for the same numbers whatever the noise.
    assert np.array_equal(
        plan_client(data, 0, local, 1, STREAMS).examples, plan_client(data, 0, louder, 1, STREAMS).examples
    )


def test_two_clients_with_the_same_noise_are_refused() -> None:
    data, local = resident(), LocalTraining(steps=1, batch_size=5, private=PRIVATE)
    plan = plan_client(data, 0, local, 1, STREAMS)
    trainer = CohortTrainer(model(), data)
    with pytest.raises(InputError, match="the same noise"):
        trainer.train(trainer.start(model()), [plan, plan], local)


def test_runs_of_one_seed_with_other_noise_cannot_be_combined_into_a_noiseless_one() -> None:
    """With common numbers, twice the update at sigma 5 less the one at sigma 10 would be the gradient without noise."""
    data, local = resident((20,)), LocalTraining(steps=1, batch_size=20, lr=1.0)

    def at(noise: float, bound: float) -> Tensor:
        return trained(replace(local, private=PrivateTraining(noise, bound)), data)[0]

    clear = at(0.0, 0.01)
    assert float((2 * at(5.0, 0.01) - at(10.0, 0.01) - clear).norm()) > 10 * float(clear.norm())
    # Two bounds that clip everything: the same directions, other lengths.
    assert float((2 * at(5.0, 0.01) - at(5.0, 0.02) - (2 * clear - at(0.0, 0.02))).norm()) > 10 * float(clear.norm())


def test_noise_of_keys_that_share_their_low_bits_differs() -> None:
    data, local = resident((20, 20)), LocalTraining(steps=1, batch_size=5, private=PRIVATE)
    trainer = CohortTrainer(model(), data)
    noises = Noise(1.0, 9), Noise(1.0, 9 + 2**32)
    empty = [BatchPlan(data.clients[0][None, :1], np.array([0]), noise=noise, expected=5) for noise in noises]
    rows = trainer.train(trainer.start(model()), empty, local).updates
    assert abs(float(torch.corrcoef(rows)[0, 1])) < 0.1
    with pytest.raises(InputError, match="the same noise"):
        trainer.train(trainer.start(model()), [empty[1], empty[1]], local)


def test_plans_and_training_must_both_be_private_or_neither() -> None:
    data, local = resident(), LocalTraining(steps=1, batch_size=5)
    private = replace(local, private=PRIVATE)
    trainer = CohortTrainer(model(), data)
    start, plan = trainer.start(model()), plan_client(data, 0, local, 1, STREAMS)
    with pytest.raises(InputError, match="Poisson samples and noise"):
        trainer.train(start, [plan], private)
    with pytest.raises(InputError, match="made for private training"):
        trainer.train(start, [plan_client(data, 0, private, 1, STREAMS)], local)
    with pytest.raises(InputError, match="needs a plan with noise"):
        plan_batches(data.clients[0], private, np.random.default_rng(0))


def test_the_engine_says_how_it_trains_privately() -> None:
    data, local = resident(), LocalTraining(steps=1, batch_size=5, private=PRIVATE)
    plans = [plan_client(data, client, local, 1, STREAMS) for client in range(3)]
    trainer = CohortTrainer(model(), data)
    start = trainer.start(model())
    trainer.train(start, plans, local)
    assert trainer.used == "loop, private steps by book-keeping"
    assert "not vectorized: private training needs per-example gradients" in trainer.reason
    open_ = replace(local, private=None)
    trainer.train(start, [plan_client(data, client, open_, 1, STREAMS) for client in range(3)], open_)
    assert "private" not in trainer.used + trainer.reason
    with pytest.raises(InputError, match="engine: private training"):
        CohortTrainer(model(), data, engine="vectorized").train(start, plans, local)


def test_batch_normalization_is_refused_before_training() -> None:
    torch.manual_seed(0)
    module = build("resnet8", SHAPE, CLASSES, norm="bn")
    data, local = resident(), LocalTraining(steps=1, batch_size=5, private=PRIVATE)
    trainer = CohortTrainer(module, data)
    with pytest.raises(InputError, match=r"layer 'stem.1' \(BatchNorm2d\).*norm: gn"):
        trainer.train(trainer.start(module), [plan_client(data, 0, local, 1, STREAMS)], local)
    with pytest.raises(InputError, match="BatchNorm2d"):
        federation(FedAvg(local=replace(local, private=None)), DpSgd(1.0), module=module)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_parts_of_a_batch_add_up_to_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalTraining(steps=2, batch_size=15, lr=0.1, private=PRIVATE)
    whole = trained(local, resident(), name)
    monkeypatch.setattr("fedsec.engine.private_steps.PRIVATE_MICROBATCH", 4)
    torch.testing.assert_close(trained(local, resident(), name), whole, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr("fedsec.engine.private_steps.PRIVATE_MICROBATCH", 256)
    monkeypatch.setattr("fedsec.engine.private_steps.PRIVATE_BYTES", {"cpu": 1})
    torch.testing.assert_close(trained(local, resident(), name), whole, rtol=1e-4, atol=1e-6)


def test_memory_of_private_steps_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What just suffices for ordinary training does not for per-example gradients."""
    data, local = resident((60,)), LocalTraining(steps=1, batch_size=60)
    module = model("cnn")
    trainer = CohortTrainer(module, data, engine="loop")
    start = trainer.start(module)
    step = StepMemory.of(trainer.layout.size, local, activation_bytes(module, data), rows=1)
    monkeypatch.setattr("fedsec.engine.trainer.memory.free_bytes", lambda device: step.needed(60))
    trainer.train(start, [plan_client(data, 0, local, 1, STREAMS)], local)
    private = replace(local, private=PRIVATE)
    with pytest.raises(InputError, match="local training needs about"):
        trainer.train(start, [plan_client(data, 0, private, 1, STREAMS)], private)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_memory_formats_draw_the_same_noise(memory_format: str) -> None:
    data, module = resident(), model("cnn")
    local = LocalTraining(steps=2, batch_size=5, lr=0.1, private=PrivateTraining(2.0, 0.5))
    trainer = CohortTrainer(module, data, compute=Compute(memory_format=memory_format))  # type: ignore[arg-type]
    plans = [plan_client(data, client, local, 1, STREAMS) for client in range(3)]
    found = trainer.train(trainer.start(module), plans, local).updates
    torch.testing.assert_close(found, trained(local, data, "cnn"), rtol=1e-3, atol=1e-5)


def test_augmented_views_are_those_of_the_sampled_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example in its own view, also where a batch is cut into parts."""
    data, module = resident(), model()
    local = LocalTraining(steps=6, batch_size=5, augmentation=Augmentation(crop=2), private=PRIVATE)
    plan = plan_client(data, 0, local, 1, STREAMS)
    assert plan.views is not None
    assert plan.views.shape[:2] == plan.examples.shape
    assert plan.first(2).noise == plan.noise
    monkeypatch.setattr("fedsec.engine.private_steps.PRIVATE_MICROBATCH", 2)
    found = CohortTrainer(module, data).train(Start(flat(module), torch.zeros(0)), [plan], local).updates[0]
    key = STREAMS.noise("noise", "client", 0, "round", 1, "multiplier 1.1", "bound 0.5")
    clear = by_hand(model(), data, replace(plan, views=None), replace(local, augmentation=None), key.clone_state())
    torch.testing.assert_close(found, by_hand(module, data, plan, local, key), rtol=1e-3, atol=1e-5)
    assert not torch.allclose(found, clear, atol=1e-4)


def test_a_teachers_term_is_clipped_with_the_examples_own_loss() -> None:
    """What the server's logits add to an example's gradient counts towards the example's bound."""
    data, bound, module = resident((20,)), 0.05, model()
    generator = torch.Generator().manual_seed(0)
    teacher = Teacher(100 * torch.randn(20, CLASSES, generator=generator), torch.arange(20) % 2 == 0, 1.0, 5.0)
    local = LocalTraining(steps=1, batch_size=20, lr=1.0, private=PrivateTraining(0.0, bound))
    trainer = CohortTrainer(module, data)
    plan = BatchPlan(data.clients[0][None], np.array([20]), noise=Noise(0.0, 0), expected=20)
    taught, alone = (trainer.train(trainer.start(module), [plan], local, each).updates[0] for each in (teacher, None))
    assert float((taught - alone).norm()) > 1e-3
    for each in (taught, alone):
        assert float(each.norm()) <= bound * (1 + 1e-4)
    huge = replace(local, private=PrivateTraining(0.0, HUGE))
    openly = replace(local, private=None)
    expected = trainer.train(trainer.start(module), [replace(plan, noise=None)], openly, teacher).updates[0]
    found = trainer.train(trainer.start(module), [plan], huge, teacher).updates[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def federation(
    algorithm: UpdateAlgorithm,
    defense: DpSgd,
    *,
    sizes: tuple[int, ...] = (20, 20, 20),
    rounds: int = 3,
    threads: int = 1,
    clients_per_round: int | None = None,
    module: nn.Module | None = None,
    memory_gib: float | None = None,
    aggregator: Aggregator | None = None,
) -> Federation:
    data = resident(sizes)
    made, privacy = private_run(defense, algorithm, sizes, rounds)
    module = model() if module is None else module
    return Federation(
        module,
        CohortTrainer(module, data, threads=threads, memory_gib=memory_gib),
        split(12),
        algorithm=made,
        aggregator=aggregator or Mean(),
        streams=STREAMS,
        rounds=rounds,
        clients_per_round=clients_per_round,
        num_classes=CLASSES,
        privacy=privacy,
    )


LOCAL = LocalTraining(steps=2, batch_size=5, lr=0.1)


def privacy_of(run: Federation) -> RunPrivacy:
    assert run.privacy is not None
    return run.privacy


@pytest.mark.parametrize("algorithm", [FedAvg(local=LOCAL), FedProx(local=LOCAL, mu=0.5), FedSGD(server_lr=0.1)])
def test_a_federation_is_the_same_whatever_threads_chunks_and_interruptions(algorithm: UpdateAlgorithm) -> None:
    run = federation(algorithm, DpSgd(1.5))
    results = list(run.run())
    steps = 1 if isinstance(algorithm, FedSGD) else 2
    rate = 1.0 if isinstance(algorithm, FedSGD) else 0.25
    spent = [epsilon([Spending(1.5, rate, steps * number)], 20**-1.1).value for number in (1, 2, 3)]
    assert [result.epsilon for result in results] == spent
    assert float((run.parameters - federation(algorithm, DpSgd(1.6)).parameters).norm()) > 0.1

    other = federation(algorithm, DpSgd(1.5), threads=3, memory_gib=0.0001)
    other.play()
    state = {name: tensor.clone() for name, tensor in other.state().items()}
    resumed = federation(algorithm, DpSgd(1.5), threads=2)
    resumed.restore(state, 1)
    assert privacy_of(resumed).ledger.spent == privacy_of(other).ledger.spent
    assert [result.epsilon for result in resumed.run()] == spent[1:]
    assert torch.equal(resumed.parameters, run.parameters)


def test_fedsgd_clips_and_perturbs_full_gradients() -> None:
    data, module = resident((20, 12)), model()
    trainer = CohortTrainer(module, data)
    start = trainer.start(module)
    state, participants = {"parameters": start.parameters}, Participants([0, 1], 1, data, STREAMS)

    def sent(algorithm: FedSGD) -> LocalResult:
        return algorithm.work(state, participants).perform(trainer, start, [0, 1])

    plain = sent(FedSGD()).updates
    clear = sent(FedSGD(private=PrivateTraining(0.0, HUGE)))
    torch.testing.assert_close(clear.updates, plain, rtol=1e-4, atol=1e-6)
    assert clear.examples.tolist() == [20, 12]
    noisy = sent(FedSGD(private=PrivateTraining((0.0, 4.0), HUGE))).updates
    torch.testing.assert_close(noisy[0], plain[0], rtol=1e-4, atol=1e-6)
    assert float((noisy[1] - plain[1]).std()) == pytest.approx(4 * HUGE / 12, rel=0.1)
    assert trainer.used == "loop, full-batch gradients, private by book-keeping"


def test_noise_is_calibrated_for_each_size_and_every_round() -> None:
    sizes = (40, 10, 40)
    run = federation(FedAvg(local=LOCAL), DpSgd(target_epsilon=3.0), sizes=sizes)
    account = privacy_of(run)
    noises = [account.private.noise_of(client) for client in range(3)]
    assert noises[0] == noises[2] < noises[1]
    results = list(run.run())
    assert not any(result.spent for result in results)
    assert not run.over
    for client in range(3):
        found = account.ledger.epsilon(client)
        assert 2.97 < found.value <= 3.0
        assert found.delta == 40**-1.1
    assert results[-1].epsilon == account.epsilon().value


def test_clients_leave_when_their_budget_is_spent() -> None:
    """Small clients are sampled at a higher rate, and are out first."""
    cost = epsilon([Spending(1.0, 0.25, 4)], 20**-1.1).value
    run = federation(FedAvg(local=LOCAL), DpSgd(1.0, target_epsilon=cost), sizes=(20, 6, 20), rounds=6)
    results = list(run.run())
    assert [result.clients for result in results] == [(0, 2)] * 2
    assert [result.spent for result in results] == [(1,)] * 2
    assert results[-1].evaluated
    assert run.over
    assert results[-1].epsilon == cost
    with pytest.raises(InputError, match="the privacy budget ends this run after 2 rounds"):
        run.play()


def test_a_round_of_clients_without_budget_changes_nothing() -> None:
    cost = epsilon([Spending(1.0, 0.25, 2)], 20**-1.1).value
    run = federation(
        FedAvg(local=LOCAL), DpSgd(1.0, target_epsilon=cost), sizes=(20,) * 4, rounds=60, clients_per_round=1
    )
    before, played = run.parameters.clone(), []
    for result in run.run():
        assert torch.equal(before, run.parameters) == (result.clients == ())
        assert (result.spent == ()) == (result.clients != ())
        before = run.parameters.clone()
        played.append(result)
    trained_ = [client for result in played for client in result.clients]
    assert sorted(trained_) == [0, 1, 2, 3]
    assert len(played) > 4
    assert all(isinstance(result, RoundResult) and result.influence in ((), (1.0,)) for result in played)


def test_a_run_ends_when_somebody_has_spent_the_budget() -> None:
    cost = epsilon([Spending(1.0, 0.25, 4)], 20**-1.1).value
    defense = DpSgd(1.0, target_epsilon=cost, when_spent="run")
    run = federation(FedAvg(local=LOCAL), defense, rounds=6)
    results = list(run.run())
    assert len(results) == 2
    assert results[-1].evaluated
    assert run.over
    small = federation(FedAvg(local=LOCAL), defense, sizes=(20, 6, 20), rounds=6)
    assert small.over
    assert list(small.run()) == []


def test_stragglers_pay_for_what_is_heard_of_them() -> None:
    dropped = FedAvg(local=LOCAL, stragglers=Stragglers(0.4, "drop"))
    run = federation(dropped, DpSgd(1.0), rounds=1)
    result = run.play()
    assert len(result.dropped) == 1
    for client in range(3):
        assert (privacy_of(run).ledger.epsilon(client).value > 0) == (client in result.clients)
    partial = federation(FedAvg(local=LOCAL, stragglers=Stragglers(0.4, "partial")), DpSgd(1.0), rounds=1)
    assert len(partial.play().clients) == 3
    assert len(set(privacy_of(partial).ledger.spent)) == 1


def test_a_round_is_not_played_twice() -> None:
    run = federation(FedAvg(local=LOCAL), DpSgd(1.0))
    run.play()
    run.round = 0
    with pytest.raises(InputError, match="drew the noise of round 1 before"):
        run.play()


def test_noise_that_was_drawn_is_remembered_over_interruptions() -> None:
    run = federation(FedAvg(local=LOCAL), DpSgd(1.0))
    run.play()
    state = run.state()
    assert state["spent_keys"].shape == (3, 2)
    again = federation(FedAvg(local=LOCAL), DpSgd(1.0))
    again.restore(state, 1)
    assert torch.equal(again.state()["spent_keys"], state["spent_keys"])
    again.play()
    again.restore(state, 0)
    with pytest.raises(InputError, match="drew the noise of round 1 before"):
        again.play()


def test_updates_that_were_sent_are_paid_for_although_they_cannot_be_aggregated() -> None:
    run = federation(FedAvg(local=LOCAL), DpSgd(1.0), aggregator=TrimmedMean(num_trimmed_per_side=1))

    def broken(start: Start, clients: Sequence[int], number: int) -> LocalResult:
        found = run.train(start, clients, number)
        found.updates[1:].fill_(torch.nan)
        return found

    run.local_updates = broken
    with pytest.raises(AggregationError, match="round 1"):
        run.play()
    assert privacy_of(run).ledger.spent == ((Spending(1.0, 0.25, 2),),) * 3


def test_accounts_of_other_algorithms_are_refused() -> None:
    made, privacy = private_run(DpSgd(1.0), FedAvg(local=LOCAL), (20, 20, 20), 3)
    with pytest.raises(InputError, match="private already"):
        private_run(DpSgd(1.0), made, (20, 20, 20), 3)
    with pytest.raises(InputError, match="other private training"):
        privacy.check(FedAvg(local=LOCAL), 3)
    with pytest.raises(InputError, match="of 3 clients"):
        privacy.check(made, 4)
    other = {name: each for name, each in federation(made_open(), DpSgd(1.0)).state().items() if name != "spent_keys"}
    with pytest.raises(InputError, match="spent_keys"):
        federation(made_open(), DpSgd(1.0)).restore(other, 0)


def made_open() -> FedAvg:
    return FedAvg(local=LOCAL)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_cuda_draws_the_same_noise() -> None:
    local = LocalTraining(steps=2, batch_size=5, lr=0.1, private=PRIVATE)
    rows = []
    for device in ("cpu", "cuda"):
        there = ResidentData.build(split(), resident().clients, NORMALIZATION, torch.device(device))
        trainer = CohortTrainer(model("cnn"), there)
        plans = [plan_client(there, client, local, 1, STREAMS) for client in range(3)]
        rows.append(trainer.train(trainer.start(model("cnn")), plans, local).updates.cpu())
    torch.testing.assert_close(*rows, rtol=1e-2, atol=1e-3)


class Discarding(nn.Module):
    """Lets an activation work in place and throws its result away."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.activation, self.head = nn.Linear(64, 8), nn.ReLU(inplace=True), nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.linear(images.flatten(1))
        self.activation(hidden)
        logits: Tensor = self.head(hidden)
        return logits


def test_activations_in_place_cost_nothing_unless_their_result_is_thrown_away() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(inplace=True), nn.Linear(8, CLASSES))
    assert CohortTrainer(module, resident()).private_method().way.words == "book-keeping"
    with pytest.raises(InputError, match="relies on activations with inplace=True"):
        CohortTrainer(Discarding(), resident()).private_method()


@pytest.mark.parametrize(("noise", "bound"), [(1.0, 1e300), (1.0, 1e-300), (1e20, 1e20), (float("inf"), 1.0)])
def test_noise_and_bounds_that_float32_cannot_hold_are_refused(noise: float, bound: float) -> None:
    with pytest.raises(InputError, match=r"max_grad_norm must be|noise_multiplier"):
        PrivateTraining(noise, bound)


def test_looking_for_a_way_leaves_the_model_alone() -> None:
    """Also one that cannot be trained privately."""
    module = build("resnet4", SHAPE, CLASSES)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(InputError, match="depend on the others"):
        CohortTrainer(module, resident()).private_method()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_costs_do_not_tell_how_many_examples_a_poisson_sample_had() -> None:
    run = federation(FedAvg(local=LOCAL), DpSgd(1.0), sizes=(20, 12, 20))
    results = list(run.run())
    costs = {result.cost.flops for result in results if result.cost is not None}
    assert costs == {2 * 5 * run.costs.training_flops}  # two steps of five examples on average, in every round
    drawn = [run.train(run.start(range(3)), range(3), number).examples.tolist() for number in (1, 2, 3)]
    assert len({sum(examples) for examples in drawn}) > 1
