"""FedPer, FedRep, FedBN and clients that train alone: against plain loops, and what nobody can do to them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import Gaussian, SignFlip
from fedsec.defenses import ClipUpdate, DpSgd, GaussianNoise, InspectModel, Median, NormBound
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, FedBN, Federation, FedPer, FedRep, LocalOnly, Threat, UpdateAlgorithm, private_run
from fedsec.federation.algorithms.local_steps import plan_client
from fedsec.federation.algorithms.personal.layers import last_layers
from fedsec.federation.secure_aggregation import SecureAggregation

LOCAL = LocalTraining(epochs=2, batch_size=3, lr=0.3)
HEAD = slice(25, 43)
"""Of the second layer: 5 x 3 weights and 3 biases."""
Build = Callable[..., Federation]
ALL: tuple[UpdateAlgorithm, ...] = (FedPer(local=LOCAL), FedRep(local=LOCAL, head_epochs=3), LocalOnly(local=LOCAL))


def sgd(federation: Federation, gradient: Any, start: Tensor, plan: Any, mask: Tensor | float = 1.0) -> Tensor:
    point = start.clone()
    for examples, size in zip(plan.examples, plan.sizes, strict=True):
        point = point - LOCAL.lr * mask * gradient(federation, point, examples[:size])
    return point


def by_hand(federation: Federation, gradient: Any, rounds: int) -> tuple[Tensor, Tensor]:
    """The server's vector and every client's model after some rounds in which all take part."""
    algorithm, data, streams = federation.algorithm, federation.data, federation.streams
    theta = federation.parameters.double()
    own = [theta.clone() for _ in data.clients]
    head = torch.zeros_like(theta)
    head[slice(None) if isinstance(algorithm, LocalOnly) else HEAD] = 1
    sizes = [len(examples) for examples in data.clients]
    for number in range(1, rounds + 1):
        for client in range(len(own)):
            model = theta * (1 - head) + own[client] * head
            if isinstance(algorithm, FedRep):
                stage = LocalTraining(epochs=algorithm.head_epochs, batch_size=3, lr=0.3)
                plan = plan_client(data, client, stage, number, streams.branch("head"))
                model = sgd(federation, gradient, model, plan, head)
            plan = plan_client(data, client, LOCAL, number, streams)
            own[client] = sgd(federation, gradient, model, plan, 1 - head if isinstance(algorithm, FedRep) else 1.0)
        mean = sum(size / sum(sizes) * model for size, model in zip(sizes, own, strict=True))
        theta = mean * (1 - head) + theta * head
    return theta, torch.stack([theta * (1 - head) + model * head for model in own])


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize("algorithm", ALL, ids=lambda one: type(one).__name__)
def test_two_rounds_of_two_clients_by_hand(
    build: Build, gradient: Any, algorithm: UpdateAlgorithm, engine: str
) -> None:
    run = build(algorithm, engine=engine)
    theta, models = by_hand(run, gradient, 2)
    results = [run.play(), run.play()]
    torch.testing.assert_close(run.parameters.double(), theta, rtol=1e-5, atol=1e-6)
    personal = run.personal([0, 1])
    assert personal is not None
    torch.testing.assert_close(personal.double(), models, rtol=1e-5, atol=1e-6)
    assert results[-1].client_values is not None  # each is evaluated with its own
    cost = results[-1].cost
    assert cost is not None
    assert cost.upload_bytes == cost.download_bytes == (0 if isinstance(algorithm, LocalOnly) else 4 * 25)


def test_without_personal_layers_fedper_is_federated_averaging_to_the_bit(build: Build) -> None:
    plain, none = build(FedAvg(local=LOCAL)), build(FedPer(local=LOCAL, personal_layers=0))
    for _ in range(3):
        first, second = plain.play(), none.play()
        assert first.metrics == second.metrics
        assert first.cost == second.cost
    assert torch.equal(plain.parameters, none.parameters)
    assert none.personal([0]) is None


@pytest.mark.parametrize("algorithm", [*ALL, FedBN(local=LOCAL)], ids=lambda one: type(one).__name__)
def test_a_kept_run_goes_on_to_the_bit(build: Build, algorithm: UpdateAlgorithm) -> None:
    options: dict[str, Any] = {"sizes": (8, 5, 6), "clients_per_round": 2, "norm": isinstance(algorithm, FedBN)}
    options["bn"] = "local" if options["norm"] else "average"
    whole, first, second = (build(algorithm, **options) for _ in range(3))
    for _ in range(4):
        whole.play()
    first.play()
    second.restore(first.state(), 1)
    for _ in range(3):
        second.play()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_a_byzantine_client_reaches_no_layer_that_stays_at_home(build: Build) -> None:
    own = build(FedPer(local=LOCAL), sizes=(8, 5, 7)), build(FedPer(local=LOCAL), sizes=(8, 5, 7))
    attacked = build(FedPer(local=LOCAL), sizes=(8, 5, 7), threat=Threat(frozenset({1}), Gaussian(std=100.0)), rounds=1)
    seen: list[Tensor] = []
    attacked.observers.append(lambda number, clients, rows: seen.append(rows.clone()))
    attacked.play()
    assert seen[0][1, :25].abs().min() > 0.01
    assert not seen[0][:, HEAD].any()
    own[0].play()
    assert torch.equal(attacked.parameters[HEAD], own[1].parameters[HEAD])
    assert torch.equal(attacked.algorithm_state["own"], own[0].algorithm_state["own"])


@pytest.mark.parametrize("algorithm", [*ALL[1:], FedBN(local=LOCAL)], ids=lambda one: type(one).__name__)
def test_what_a_byzantine_client_sends_reaches_shared_columns_alone(build: Build, algorithm: UpdateAlgorithm) -> None:
    norm = isinstance(algorithm, FedBN)
    options: dict[str, Any] = {"sizes": (8, 5, 6), "norm": norm, "bn": "local" if norm else "average"}
    honest, attacked = (
        build(algorithm, **options),
        build(algorithm, threat=Threat(frozenset({1}), Gaussian(std=100.0)), **options),
    )
    rows: list[Tensor] = []
    attacked.observers.append(lambda number, clients, received: rows.append(received.clone()))
    before = attacked.parameters.clone()
    honest.play(), attacked.play()
    home = attacked.algorithm_state["home"]
    shared = torch.ones_like(before, dtype=torch.bool).index_fill(0, home, False)
    assert not rows[0][:, home].any()
    assert torch.equal(attacked.algorithm_state["own"], honest.algorithm_state["own"])
    assert torch.equal(attacked.parameters[home], before[home])
    if isinstance(algorithm, LocalOnly):
        assert not shared.any()
        return
    assert rows[0][1, shared].abs().mean() > 10
    assert (attacked.parameters - honest.parameters)[shared].abs().mean() > 10


def test_a_robust_rule_protects_what_is_shared(build: Build) -> None:
    threat = Threat(frozenset({1}), SignFlip(scale=1e4))
    robust, naive = (
        build(FedPer(local=LOCAL), sizes=(8, 5, 7), threat=threat, **more) for more in ({"aggregator": Median()}, {})
    )
    before = robust.parameters.clone()
    robust.play()
    naive.play()
    assert (robust.parameters - before).norm() < 5 < (naive.parameters - before).norm()


def test_defenses_see_the_shared_part_alone(build: Build) -> None:
    """A bound on the norm bounds what is sent, and noise on what is not sent is none."""
    run = build(FedPer(local=LOCAL), transforms=[ClipUpdate(1e-3), GaussianNoise(0.1)])
    clipped = build(FedPer(local=LOCAL), transforms=[ClipUpdate(1e-3)])
    seen: list[Tensor] = []
    for federation in (run, clipped):
        federation.observers.append(lambda number, clients, rows: seen.append(rows.clone()))
        federation.play()
    assert not seen[0][:, HEAD].any()
    assert seen[0][:, :25].std() > 0.01
    torch.testing.assert_close(seen[1].norm(dim=1), torch.full((2,), 1e-3))
    torch.testing.assert_close(run.algorithm_state["own"], clipped.algorithm_state["own"])


def test_who_trained_to_numbers_that_are_not_finite_keeps_its_layers(build: Build) -> None:
    run = build(FedPer(local=LOCAL))
    train = run.local_updates

    def broken(*arguments: Any) -> Any:
        trained = train(*arguments)
        trained.updates[0, 3] = torch.inf
        return trained

    run.local_updates = broken
    before = run.algorithm_state["own"].clone()
    result = run.play()
    assert result.rejected == (0,)
    assert torch.equal(run.algorithm_state["own"][0], before[0])
    assert not torch.equal(run.algorithm_state["own"][1], before[1])


def test_sums_of_the_shared_part_do(build: Build) -> None:
    plain = build(FedPer(local=LOCAL))
    summed = build(FedPer(local=LOCAL), secure_aggregation=SecureAggregation(2))
    for run in (plain, summed):
        run.play()
    torch.testing.assert_close(plain.parameters, summed.parameters)


def test_private_steps_count_as_in_federated_averaging(build: Build) -> None:
    epsilons = []
    for algorithm in (FedAvg(local=LOCAL), FedPer(local=LOCAL)):
        private, privacy = private_run(DpSgd(1.0), algorithm, (8, 5), 2)
        epsilons.append([result.epsilon for result in build(private, privacy=privacy, rounds=2).run()])
    assert epsilons[0] == epsilons[1]
    with pytest.raises(InputError, match="no account of DP-SGD is known"):
        private_run(DpSgd(1.0), FedRep(local=LOCAL), (8, 5), 2)


def test_fedbn_shares_all_but_normalization(build: Build) -> None:
    run = build(FedBN(local=LOCAL), norm=True, bn="local")
    scale_and_shift = slice(25, 35)
    assert run.algorithm_state["home"].tolist() == [*range(25, 35)]
    before = run.parameters.clone()
    for _ in range(2):
        run.play()
    own = run.algorithm_state["own"]
    assert torch.equal(run.parameters[scale_and_shift], before[scale_and_shift])
    assert not torch.equal(own[0], own[1])
    assert not torch.equal(run.client_statistics[0], run.client_statistics[1])
    # All else is the mean of what both trained from their own normalization.
    start = run.start([0, 1])
    assert torch.equal(start.parameters[:, scale_and_shift], own)
    trained, theta = run.train(start, [0, 1], 3).updates, run.parameters.clone()
    run.play()
    expected = theta + torch.tensor([8 / 13, 5 / 13]) @ trained
    shared = [place for place in range(len(theta)) if not 25 <= place < 35]
    torch.testing.assert_close(run.parameters[shared], expected[shared])


@pytest.mark.parametrize("bn", ["average", "reset", "recalibrate"])
def test_fedbn_keeps_statistics_at_home(build: Build, bn: str) -> None:
    with pytest.raises(InputError, match=r"bn: FedBN keeps running statistics .* expected local|goes with a cumul"):
        build(FedBN(local=LOCAL), norm=True, bn=bn)


def test_which_layers_are_the_last() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 2))
    assert last_layers(module, 0) == []
    assert last_layers(module, 1) == ["4.weight", "4.bias"]
    assert last_layers(module, 2) == ["3.weight", "3.bias", "4.weight", "4.bias"]
    with pytest.raises(InputError, match=r"has 3 layers with weights, 0, 3, 4; expected fewer"):
        last_layers(module, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda build: FedPer(personal_layers=-1), "personal_layers must not be negative"),
        (lambda build: FedRep(head_epochs=0), "head_epochs must be at least 1"),
        (lambda build: FedRep(personal_layers=0), "personal_layers must be at least 1"),
        (lambda build: FedRep(local=LocalTraining(steps=1, batch_size=1, weight_decay=0.1)), "weight_decay 0, got 0.1"),
        (lambda build: build(FedBN(local=LOCAL)), "the model has no normalization layer"),
        (lambda build: build(FedPer(local=LOCAL, personal_layers=2)), "expected fewer, so that something is shared"),
    ],
)
def test_bad_settings_say_what_was_expected(build: Build, make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(build)


def test_norms_of_clients_are_those_of_what_they_send(build: Build) -> None:
    run = build(FedPer(local=LOCAL), aggregator=NormBound(1e-4))
    before = run.parameters.clone()
    run.play()
    assert (run.parameters - before).norm() <= 1.001e-4


class Looking(Median):
    """A rule that would evaluate the global model."""

    needs_global_model = True


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"aggregator": Looking()}, "Looking evaluates the global model, and FedPer leaves layers of it with clients"),
        ({"inspector": InspectModel()}, "InspectModel looks at the one model that all clients receive"),
    ],
)
def test_what_needs_a_whole_model_is_refused(build: Build, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(FedPer(local=LOCAL), **more)
    build(FedAvg(local=LOCAL), **more)


def test_noise_of_a_rule_moves_nothing_that_stays_at_home(build: Build) -> None:
    run = build(FedPer(local=LOCAL), aggregator=NormBound(1.0, noise_std=0.5))
    before = run.parameters.clone()
    run.play()
    assert torch.equal(run.parameters[HEAD], before[HEAD])
    assert (run.parameters - before)[:25].abs().min() > 0


def test_clients_state_their_loss_with_their_own_layers(build: Build) -> None:
    run = build(FedPer(local=LOCAL))
    run.play()
    models = run.personal([0, 1])
    assert models is not None
    expected = []
    for client, row in enumerate(models):
        images, labels = run.data.batch(torch.from_numpy(run.data.clients[client]))
        run.trainer.layout.load(run.module, row)
        with torch.no_grad():
            expected.append(nn.functional.cross_entropy(run.module(images), labels).item())
    run.load(run.statistics)
    assert run.stated_losses([0, 1]) == pytest.approx(expected)
