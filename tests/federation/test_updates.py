"""The round loop against cases computed by hand."""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import LabelFlip, SignFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defense import Aggregator, Cohort
from fedsec.defenses import Mean, Median, TrimmedMean
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.errors import AggregationError, InputError
from fedsec.federation import Centralized, FedAvg, Federation, FedSGD, Threat, UpdateAlgorithm
from fedsec.federation.rounds import Sampling
from fedsec.federation.threat import poison_data
from fedsec.seeds import Streams
from fedsec.threat import AttackerView, UpdatePoisoning


class Line(nn.Module):
    """Two logits, w * x and 0, of a one-pixel image: small enough for pencil and paper."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        return torch.cat([self.w * x, torch.zeros_like(x)], dim=1)


def federation(
    pixels: list[list[int]],
    labels: list[list[int]],
    algorithm: UpdateAlgorithm,
    aggregator: Aggregator | None = None,
    threat: Threat | None = None,
    rounds: int = 1,
    clients_per_round: int | None = None,
    seed: int = 0,
    sampling: Sampling = "fixed",
) -> Federation:
    """One-pixel images with values in {0, 255} (so x is 0 or 1), listed client by client."""
    images = torch.tensor([p for client in pixels for p in client], dtype=torch.uint8).view(-1, 1, 1, 1)
    split = Split(images, torch.tensor([label for client in labels for label in client]))
    bounds = np.cumsum([0, *map(len, pixels)])
    clients = [np.arange(a, b) for a, b in pairwise(bounds)]
    data = ResidentData.build(split, clients, Normalization((0.0,), (1.0,)), torch.device("cpu"))
    poison_data(data, threat or Threat(), 2, Streams(seed))
    module = Line()
    return Federation(
        module,
        CohortTrainer(module, data),
        split,
        algorithm=algorithm,
        aggregator=aggregator or Mean(),
        streams=Streams(seed),
        rounds=rounds,
        num_classes=2,
        clients_per_round=clients_per_round,
        threat=threat,
        sampling=sampling,
    )


ONE_STEP = LocalTraining(steps=1, batch_size=8, lr=1.0)
# At w = 0 each example with x = 1 has gradient -1/2 for label 0 and +1/2 for label 1.
TWO_CLIENTS = ([[255], [255, 255, 255]], [[0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [("uniform", 0.0), ("samples", 0.25 * 0.5 - 0.75 * 0.5), ("population", 0.25 * 0.5 - 0.75 * 0.5)],
)
def test_fedavg_of_two_clients_by_hand(weighting: str, expected: float) -> None:
    fed = federation(*TWO_CLIENTS, FedAvg(weighting=weighting, local=ONE_STEP))  # type: ignore[arg-type]
    fed.play()
    assert fed.parameters.item() == pytest.approx(expected, abs=1e-6)


def test_fedsgd_is_one_full_gradient_step_with_the_servers_rate() -> None:
    fed = federation(*TWO_CLIENTS, FedSGD(server_lr=2.0, weighting="samples"))
    fed.play()
    assert fed.parameters.item() == pytest.approx(2.0 * -0.25)


def test_server_lr_scales_the_average_update() -> None:
    fed = federation(*TWO_CLIENTS, FedAvg(server_lr=0.5, local=ONE_STEP))
    fed.play()
    assert fed.parameters.item() == pytest.approx(-0.125)


def test_population_weighting_is_the_slides_formula() -> None:
    """theta' = M / |g| * sum over the round's clients of p_i theta_i, of parameters and not of updates."""
    algorithm = FedAvg(weighting="population", local=ONE_STEP)
    fed = federation(*TWO_CLIENTS, algorithm, clients_per_round=1)
    fed.restore({**fed.state(), "parameters": torch.tensor([0.4])}, 0)
    (client,) = fed.sample(1)
    slope = torch.sigmoid(torch.tensor(0.4)).item()
    trained = 0.4 + (1 - slope if client == 0 else -slope)
    fed.play()
    share = [0.25, 0.75][client]
    assert fed.parameters.item() == pytest.approx(2 / 1 * share * trained, rel=1e-5)


def test_population_weighting_moves_by_the_servers_rate_towards_the_average() -> None:
    whole, half = (
        federation(*TWO_CLIENTS, FedAvg(weighting="population", server_lr=lr, local=ONE_STEP), clients_per_round=1)
        for lr in (1.0, 0.5)
    )
    for fed in (whole, half):
        fed.restore({**fed.state(), "parameters": torch.tensor([0.4])}, 0)
        fed.play()
    assert half.parameters.item() == pytest.approx((0.4 + whole.parameters.item()) / 2, rel=1e-5)


def test_population_weighting_needs_an_average() -> None:
    with pytest.raises(InputError, match="population"):
        federation(*TWO_CLIENTS, FedAvg(weighting="population", local=ONE_STEP), Median())


def test_label_flippers_train_on_flipped_labels() -> None:
    """Both clients hold x = 1 with label 0; the flipper pulls exactly the other way."""
    threat = Threat(frozenset({1}), LabelFlip())
    fed = federation([[255], [255]], [[0], [0]], FedAvg(local=ONE_STEP), threat=threat)
    rows = fed.local_updates(fed.start([0, 1]), [0, 1], 1).updates
    assert rows.flatten().tolist() == pytest.approx([0.5, -0.5])
    fed.play()
    assert fed.parameters.item() == pytest.approx(0.0, abs=1e-7)


def test_honest_clients_keep_their_labels_beside_a_flipper() -> None:
    threat = Threat(frozenset({1}), LabelFlip())
    fed = federation([[255], [255]], [[0], [1]], FedAvg(local=ONE_STEP), threat=threat)
    data = fed.trainer.data
    assert data.client_examples(0)[1].tolist() == [0]
    assert data.client_examples(1)[1].tolist() == [0]
    assert len(data.images) == 2


def test_sign_flip_replaces_the_attackers_rows_only() -> None:
    threat = Threat(frozenset({2}), SignFlip(scale=3.0))
    fed = federation([[255]] * 3, [[0]] * 3, FedAvg(local=ONE_STEP), threat=threat)
    result = fed.play()
    assert result.byzantine == (2,)
    assert fed.parameters.item() == pytest.approx((0.5 + 0.5 - 1.5) / 3)


class Adaptive(UpdatePoisoning):
    """Sends the largest of a few factors that moves the server's rule the most."""

    knowledge = "omniscient"
    knows_defense = True

    def forge(self, view: AttackerView) -> Tensor:
        assert view.defense is not None
        moved = {size: view.defense(torch.cat([view.honest, view.own * size])).item() for size in (-9.0, -1.0, 1.0)}
        return view.own * min(moved, key=lambda size: moved[size])


class Blind(Adaptive):
    knows_defense = False

    def forge(self, view: AttackerView) -> Tensor:
        assert view.defense is None
        return view.own


class Counting(Mean):
    """A rule with a memory: how many rounds it has seen."""

    rounds = 0

    def staged(self, cohort: Cohort) -> Cohort:
        self.rounds += 1
        return cohort

    def state(self) -> dict[str, Tensor]:
        return {"rounds": torch.tensor(self.rounds)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.rounds = int(state["rounds"])


def test_an_adaptive_attacker_tries_the_servers_rule_which_does_not_notice() -> None:
    rule = Counting()
    threat = Threat(frozenset({2}), Adaptive())
    fed = federation([[255]] * 3, [[0]] * 3, FedAvg(local=ONE_STEP), rule, threat=threat)
    fed.play()
    assert fed.parameters.item() == pytest.approx((0.5 + 0.5 - 4.5) / 3)
    assert rule.rounds == 1
    fed = federation([[255]] * 3, [[0]] * 3, FedAvg(local=ONE_STEP), threat=Threat(frozenset({2}), Blind()))
    fed.play()
    assert fed.parameters.item() == pytest.approx(0.5)


def test_verdict_counts_each_clients_influence() -> None:
    threat = Threat(frozenset({2}), SignFlip(scale=3.0))
    fed = federation([[255]] * 3, [[0]] * 3, FedAvg(local=ONE_STEP), TrimmedMean(num_trimmed_per_side=1), threat)
    result = fed.play()
    assert sum(result.influence) == pytest.approx(1)
    assert result.influence[2] == 0
    assert fed.parameters.item() == pytest.approx(0.5)


class NotANumber(Line):
    """A model whose gradient is not finite on black images."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images / (images > 0).to(images))


def test_non_finite_updates_are_rejected_and_named() -> None:
    fed = federation([[255], [0], [255]], [[0], [0], [0]], FedAvg(local=ONE_STEP))
    fed.trainer = CohortTrainer(NotANumber(), fed.trainer.data)
    result = fed.play()
    assert result.rejected == (1,)
    assert fed.parameters.item() == pytest.approx(0.5)


def test_too_few_finite_updates_name_the_round_and_the_clients() -> None:
    rule = TrimmedMean(num_trimmed_per_side=1)
    fed = federation([[0], [0], [255]], [[0], [0], [0]], FedAvg(local=ONE_STEP), rule)
    fed.trainer = CohortTrainer(NotANumber(), fed.trainer.data)
    with pytest.raises(AggregationError, match=r"round 1, clients \[0, 1, 2\]"):
        fed.play()
    assert not fed.diverged


def test_a_sample_too_small_for_the_rule_names_the_round_and_the_clients() -> None:
    rule = TrimmedMean(num_trimmed_per_side=1)
    pixels, labels = [[255]] * 4, [[0]] * 4
    fed = federation(pixels, labels, FedAvg(local=ONE_STEP), rule, rounds=40, clients_per_round=3, sampling="poisson")
    with pytest.raises(InputError, match=r"round \d+, clients \[\d(, \d)?\]: TrimmedMean trims 1 client at"):
        list(fed.run())


def test_a_round_of_which_nothing_is_finite_is_the_last_one() -> None:
    fed = federation([[0], [0]], [[0], [0]], FedAvg(local=ONE_STEP))
    fed.trainer = CohortTrainer(NotANumber(), fed.trainer.data)
    (result,) = fed.run()
    assert (result.round, result.rejected, result.influence) == (1, (0, 1), (0.0, 0.0))
    assert result.diverged
    assert result.metrics["accuracy"] == 1.0  # all test examples are of the first class
    assert not math.isfinite(result.metrics["loss"] or 0.0)
    assert fed.diverged
    assert fed.over
    assert bool(fed.parameters.isnan().all())
    with pytest.raises(InputError, match="its model is no longer finite after 1 round;"):
        fed.play()


def test_centralized_is_ordinary_training_on_everything() -> None:
    fed = federation([[255, 255, 255, 255]], [[0, 1, 1, 1]], Centralized(local=ONE_STEP))
    result = fed.play()
    assert fed.parameters.item() == pytest.approx(-0.25)
    assert Centralized.pooled
    assert result.cost is None  # nothing is sent, and there is no edge


def test_byzantine_clients_are_nested_and_do_not_touch_other_streams() -> None:
    few, many = (Threat.draw(LabelFlip(), n, 20, Streams(3)).byzantine for n in (2, 8))
    assert few < many
    assert len(many) == 8
    assert Threat.draw(SignFlip(), 8, 20, Streams(3)).byzantine == many
    assert Threat.draw(LabelFlip(), 8, 20, Streams(4)).byzantine != many


@pytest.mark.parametrize("number", [-1, 3, 4])
def test_at_least_one_client_stays_honest(number: int) -> None:
    with pytest.raises(InputError, match="num_byzantine"):
        Threat.draw(LabelFlip(), number, 3, Streams(0))


def test_sampling_is_without_replacement_and_changes_by_round() -> None:
    fed = federation([[255]] * 8, [[0]] * 8, FedAvg(local=ONE_STEP), clients_per_round=3, rounds=4)
    seen = [fed.play().clients for _ in range(4)]
    assert all(len(set(clients)) == 3 for clients in seen)
    assert len(set(seen)) > 1


def test_restored_federation_ends_with_the_same_bits() -> None:
    def make() -> Federation:
        return federation([[255, 0]] * 4, [[0, 1]] * 4, FedAvg(local=ONE_STEP), rounds=5, clients_per_round=2)

    whole = make()
    results = list(whole.run())
    half = make()
    half.play()
    half.play()
    resumed = make()
    resumed.restore(half.state(), 2)
    assert list(resumed.run()) == results[2:]
    assert torch.equal(resumed.parameters, whole.parameters)


@pytest.mark.parametrize("settings", [{"rounds": 0}, {"clients_per_round": 0}, {"clients_per_round": 3}])
def test_impossible_federations_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(InputError):
        federation(*TWO_CLIENTS, FedAvg(local=ONE_STEP), **settings)  # type: ignore[arg-type]


def test_label_flippers_flip_once_whoever_lets_them() -> None:
    threat = Threat(frozenset({1}), LabelFlip())
    run = federation(*TWO_CLIENTS, FedAvg(local=ONE_STEP), threat=threat)  # which poisons before the federation does
    _, labels = run.data.client_examples(1)
    assert labels.tolist() == [0, 0, 0]
    poison_data(run.data, threat, 2, Streams(0))
    assert run.data.client_examples(1)[1].tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="poisoned by another threat already"):
        poison_data(run.data, Threat(frozenset({0}), LabelFlip()), 2, Streams(0))


class Elephant(UpdatePoisoning):
    """Sends the sum of all that it ever saw, and what the server made of the last round."""

    knowledge = "omniscient"
    needs_last_aggregate = True

    def __init__(self) -> None:
        self.total: Tensor | None = None

    def forge(self, view: AttackerView) -> Tensor:
        self.total = view.honest.sum(0) + (0 if self.total is None else self.total)
        last = 0 if view.last_aggregate is None else view.last_aggregate
        view.report.update(clients=float(sum(view.clients)), remark="remembers")
        return self.total + last + torch.zeros_like(view.own)

    def state(self) -> dict[str, Tensor]:
        return {} if self.total is None else {"total": self.total}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state.keys() not in ({"total"}, set()):
            raise InputError(f"Elephant: expected its total, got {sorted(state)}")
        self.total = state.get("total")


def test_an_attack_that_remembers_goes_on_where_it_was() -> None:
    def make(attack: UpdatePoisoning | None = None) -> Federation:
        threat = Threat(frozenset({1}), attack or Elephant())
        return federation([[255, 0]] * 4, [[0, 1]] * 4, FedAvg(local=ONE_STEP), rounds=4, threat=threat)

    whole = make()
    results = list(whole.run())
    half = make()
    half.play()
    half.play()
    kept = {name: tensor.clone() for name, tensor in half.state().items()}
    half.play()
    resumed = make()
    resumed.restore(kept, 2)
    assert list(resumed.run()) == results[2:]
    assert torch.equal(resumed.parameters, whole.parameters)
    forgetful = make()
    forgetful.restore({name: tensor for name, tensor in kept.items() if "attack" not in name}, 2)
    assert list(forgetful.run()) != results[2:]
    with pytest.raises(InputError, match="SignFlip remembers nothing; expected no state, got"):
        make(SignFlip()).restore(kept, 2)
    assert results[0].attack == {"clients": 0 + 2 + 3, "remark": "remembers"}


class Diary(Mean):
    """The mean, and a row for every round that it saw."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def remember(self, cohort: Cohort, vector: Tensor) -> None:
        self.rows.append(vector)

    def state(self) -> dict[str, Tensor]:
        return {"rows": torch.stack(self.rows)} if self.rows else {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.rows = list(state.get("rows", ()))


def test_a_rule_whose_memory_grows_goes_on_where_it_was() -> None:
    def make(rule: Aggregator) -> Federation:
        return federation([[255, 0]] * 3, [[0, 1]] * 3, FedAvg(local=ONE_STEP), rule, rounds=3)

    half, rule = make(Diary()), Diary()
    half.play()
    half.play()
    resumed = make(rule)
    resumed.restore({name: tensor.clone() for name, tensor in half.state().items()}, 2)
    half.play()
    resumed.play()
    assert torch.equal(half.state()["rule.rows"], resumed.state()["rule.rows"])
    assert len(rule.rows) == 3
    with pytest.raises(InputError, match="Median remembers nothing; expected no state, got"):
        make(Median()).restore(half.state(), 2)


def test_what_the_server_made_of_the_last_round_is_in_units_of_what_clients_send() -> None:
    attack = Elephant()
    algorithm = FedSGD(server_lr=2.0, weighting="uniform")
    fed = federation([[255]] * 2, [[0]] * 2, algorithm, threat=Threat(frozenset({1}), attack), rounds=2)
    fed.play()
    assert fed.forgery.state()["last aggregate.update"].item() == pytest.approx(-0.5)
    assert fed.parameters.item() == pytest.approx(1.0)
