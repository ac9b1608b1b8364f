"""FedNAS against two clients and two rounds by hand, against FedAvg of the supernet, and under attack."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedsec.attacks import SignFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import DpFedAvg, DpSgd, Mean, Median
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedNAS, Stragglers, Threat, UpdateAlgorithm, private_run
from fedsec.federation.algorithms.update_algorithm import Participants
from fedsec.models import build
from fedsec.models.darts_small import OPERATIONS, derived
from fedsec.seeds import Streams

LOCAL = LocalTraining(epochs=1, batch_size=4, lr=0.2)
SIZES = (8, 6, 7, 9, 8)


def federation(algorithm: UpdateAlgorithm, clients: int = 2, **more: Any) -> Federation:
    """A supernet of two nodes, two channels each, on images of 4x4."""
    generator, count = torch.Generator().manual_seed(0), sum(SIZES[:clients])
    images = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 3, (count,), generator=generator))
    parts = np.split(np.arange(count), np.cumsum(SIZES[:clients])[:-1])
    data = ResidentData.build(split, parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
    torch.manual_seed(0)
    module = more.pop("module", None) or build("darts_small", (1, 4, 4), 3, channels=2, nodes=2)
    settings: dict[str, Any] = {"aggregator": Mean(), "rounds": 5, **more}
    trainer = CohortTrainer(module, data, engine=settings.pop("engine", "loop"))
    return Federation(module, trainer, split, algorithm=algorithm, streams=Streams(3), num_classes=3, **settings)


def by_hand(run: Federation, rounds: int) -> Tensor:
    """Clients one after another, tensors by name, in float64; the batches are the federation's."""
    algorithm = run.algorithm
    assert isinstance(algorithm, FedNAS)
    module = build("darts_small", (1, 4, 4), 3, channels=2, nodes=2).double()
    layout = run.trainer.layout

    def gradients(network: dict[str, Tensor], examples: np.ndarray) -> dict[str, Tensor]:
        inputs, labels = run.data.batch(torch.from_numpy(examples))
        leaves = {name: value.clone().requires_grad_() for name, value in network.items()}
        loss = nn.functional.cross_entropy(functional_call(module, leaves, (inputs.double(),)), labels)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    model = run.parameters.double()
    for number in range(1, rounds + 1):
        participants = Participants([0, 1], number, run.data, run.streams)
        training = algorithm.plans(participants)
        held_out = algorithm._validation(participants, training)
        networks = []
        for plan, other in zip(training, held_out, strict=True):
            network = {name: value.clone() for name, value in layout.views(model).items()}
            for step in range(plan.steps):
                slope = gradients(network, other.examples[step, : other.sizes[step]])["alphas"]
                network["alphas"] = network["alphas"] - algorithm.alpha_lr * algorithm.lam * slope
                slopes = gradients(network, plan.examples[step, : plan.sizes[step]])
                for name in network:
                    mixed = algorithm.alpha_lr if algorithm.level == "mixed" else 0.0
                    network[name] = network[name] - (mixed if name == "alphas" else LOCAL.lr) * slopes[name]
            networks.append(torch.cat([network[name].flatten() for name in layout.shapes]))
        weights = torch.tensor(SIZES[:2]).double() / sum(SIZES[:2])
        model = weights @ torch.stack(networks)
    return model


@pytest.mark.parametrize(("level", "engine"), [("mixed", "loop"), ("bilevel", "loop"), ("mixed", "vectorized")])
def test_two_clients_and_two_rounds_by_hand(level: Any, engine: str) -> None:
    run = federation(FedNAS(local=LOCAL, level=level, alpha_lr=0.7, lam=0.6), engine=engine)
    before, expected = run.parameters, by_hand(run, 2)
    for _ in range(2):
        run.play()
    torch.testing.assert_close(run.parameters.double(), expected, rtol=1e-3, atol=1e-5)
    places = run.algorithm_state["alphas"]
    assert len(places) == 3 * len(OPERATIONS)
    assert (run.parameters - before)[places].abs().max() > 1e-3


def test_one_rate_and_nothing_held_out_is_federated_averaging_of_the_supernet() -> None:
    averaged = federation(FedAvg(local=LOCAL))
    single = federation(FedNAS(local=LOCAL, alpha_lr=LOCAL.lr, validation=0))
    for _ in range(2):
        assert averaged.play().metrics == single.play().metrics
    assert torch.equal(averaged.parameters, single.parameters)


def test_without_a_rate_the_preferences_stay_and_weights_are_averaged_to_the_bit() -> None:
    """FedAvg of a supernet whose preferences take no part in training."""
    still = federation(FedNAS(local=LOCAL, alpha_lr=0, validation=0))
    frozen = build("darts_small", (1, 4, 4), 3, channels=2, nodes=2)
    places = still.algorithm_state["alphas"]
    still.trainer.layout.load(frozen, still.parameters)
    frozen.alphas.requires_grad_(False)  # type: ignore[union-attr]
    averaged = federation(FedAvg(local=LOCAL), module=frozen)
    before = still.parameters
    for _ in range(2):
        still.play()
        averaged.play()
    weights = torch.ones(len(before), dtype=torch.bool)
    weights[places] = False
    assert torch.equal(still.parameters[places], before[places])
    assert torch.equal(still.parameters[weights], averaged.parameters)


def test_what_is_held_out_is_the_same_in_all_rounds_and_nothing_else() -> None:
    run = federation(FedNAS(local=LOCAL, validation=0.4), clients=3)
    algorithm = run.algorithm
    assert isinstance(algorithm, FedNAS)
    for client in range(3):
        rounds = [Participants([client], number, run.data, run.streams) for number in (1, 2)]
        (train, held_out), again = (algorithm.halves(participants, client) for participants in rounds)
        assert np.array_equal(held_out, again[1])
        assert sorted([*train, *held_out]) == run.data.clients[client].tolist()
        assert len(held_out) == round(0.4 * SIZES[client])
        (plan,) = algorithm.plans(rounds[1])
        (other,) = algorithm._validation(rounds[1], [plan])
        assert {*plan.examples.flatten()} <= {*train}
        assert {*other.examples.flatten()} <= {*held_out}
        assert plan.steps == other.steps


def test_a_kept_run_goes_on_to_the_bit() -> None:
    whole, first, second = (federation(FedNAS(local=LOCAL), clients_per_round=2, clients=4) for _ in range(3))
    for _ in range(2):
        whole.play()
    first.play()
    second.restore(first.state(), 1)
    second.play()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name


def test_slow_clients_do_what_they_get_done() -> None:
    slow, local = Stragglers(fraction=0.5, handling="partial"), LocalTraining(epochs=3, batch_size=4, lr=0.2)
    results = [federation(FedNAS(local=local, stragglers=stragglers), clients=4) for stragglers in (None, slow)]
    assert results[0].play().cost != results[1].play().cost
    assert not torch.equal(results[0].parameters, results[1].parameters)


def test_a_robust_rule_keeps_an_attack_out_of_weights_and_preferences() -> None:
    threat, moves = Threat(frozenset({0}), SignFlip(scale=1e3)), []
    for rule, attack in ((Median(), None), (Median(), threat), (Mean(), threat)):
        run = federation(FedNAS(local=LOCAL), clients=5, aggregator=rule, threat=attack)
        before, places = run.parameters, run.algorithm_state["alphas"]
        run.play()
        moves.append([(run.parameters - before).norm(), (run.parameters - before)[places].norm()])
    for honest, robust, mean in zip(*moves, strict=True):
        assert robust < 3 * honest < mean / 10


def test_the_conclusion_is_an_architecture_that_can_be_trained() -> None:
    run = federation(FedNAS(local=LOCAL))
    run.play()
    conclusion = run.conclusion()
    assert conclusion["architecture"] == derived(run.module.alphas, 2)  # type: ignore[arg-type]
    assert [len(edge) for edge in conclusion["preferences"]] == [len(OPERATIONS)] * 3
    for edge in conclusion["preferences"]:
        assert sum(edge) == pytest.approx(1, abs=1e-3)
    again = build("darts_small", (1, 4, 4), 3, architecture=conclusion["architecture"], nodes=2)
    assert federation(FedAvg(local=LOCAL), module=again).conclusion() == {}
    with torch.no_grad():
        run.module.alphas.fill_(torch.nan)  # type: ignore[union-attr, operator]
    assert run.conclusion() == {}


def test_accounts_hold_for_clients_and_not_for_examples() -> None:
    run = federation(FedNAS(local=LOCAL), aggregator=DpFedAvg(noise_multiplier=1.0))
    assert run.play().user_epsilon is not None
    with pytest.raises(InputError, match="DP-SGD with FedNAS: no account"):
        private_run(DpSgd(1.0), FedNAS(local=LOCAL), (8, 6), 5)


def test_another_model_is_refused() -> None:
    for name, more in (("mlp", {}), ("darts_small", {"architecture": "random"})):
        with pytest.raises(InputError, match=r"FedNAS searches a space.*expected model darts_small without an arch"):
            federation(FedNAS(local=LOCAL), module=build(name, (1, 4, 4), 3, **more))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"alpha_lr": -1.0}, "alpha_lr must be finite in float32 and not negative, got -1.0"),
        ({"lam": float("nan")}, "lam must be finite"),
        ({"validation": 1.0}, r"validation must lie in \[0, 1\), got 1.0"),
        ({"level": "three"}, "level must be mixed or bilevel, got 'three'"),
        ({"level": "bilevel", "validation": 0.0}, "expected validation above 0, got 0"),
        ({"local": LocalTraining(epochs=1, batch_size=2, momentum=0.9)}, "expected local optimizer sgd, momentum 0"),
    ],
)
def test_bad_settings_say_what_was_expected(more: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FedNAS(**more)
