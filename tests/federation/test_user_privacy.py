"""User-level privacy in the round loop: who is drawn, what each round costs, what would void the account."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.data.datasets import Normalization, Split
from fedsec.defense import Aggregator, Cohort
from fedsec.defenses import ClipUpdate, DpFedAvg, Mean
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.messages import LocalResult, Start
from fedsec.errors import AggregationError, InputError
from fedsec.federation import FedAvg, Federation, RoundResult, Stragglers
from fedsec.federation.rounds import sample_clients
from fedsec.federation.threat import Threat
from fedsec.federation.user_privacy import Releases
from fedsec.models import build
from fedsec.privacy import Spending, epsilon
from fedsec.seeds import Streams
from fedsec.threat import AttackerView, UpdatePoisoning

SHAPE, CLASSES = (1, 8, 8), 3


def split(examples: int) -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (examples, *SHAPE), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(examples) % CLASSES)


def federation(
    rule: Aggregator | None = None,
    *,
    clients: int = 6,
    clients_per_round: int | None = None,
    sampling: Any = "fixed",
    rounds: int = 6,
    seed: int = 0,
    norm: str | None = None,
    bn: Literal["average", "local", "recalibrate"] = "average",
    stragglers: Stragglers | None = None,
    threat: Threat | None = None,
    server_lr: float = 1.0,
    evaluate_every: int = 1,
    transforms: Sequence[Any] = (),
) -> Federation:
    data = ResidentData.build(
        split(3 * clients),
        [np.arange(a, b) for a, b in pairwise(range(0, 3 * clients + 1, 3))],
        Normalization((0.5,), (0.25,)),
        torch.device("cpu"),
    )
    torch.manual_seed(0)
    module: nn.Module = (
        build("mlp", SHAPE, CLASSES, hidden=[4]) if norm is None else build("resnet4", SHAPE, CLASSES, norm=norm)
    )
    return Federation(
        module,
        CohortTrainer(module, data),
        split(6),
        algorithm=FedAvg(
            local=LocalTraining(steps=1, batch_size=3, lr=0.1), stragglers=stragglers, server_lr=server_lr
        ),
        aggregator=rule or Mean(),
        streams=Streams(seed),
        rounds=rounds,
        num_classes=CLASSES,
        clients_per_round=clients_per_round,
        sampling=sampling,
        bn=bn,
        evaluate_every=evaluate_every,
        threat=threat,
        transforms=transforms,
    )


def rare(rule: Aggregator | None = None, **settings: Any) -> Federation:
    """Each of six clients takes part with probability 1/6: in a third of the rounds nobody does."""
    return federation(rule, **{"clients_per_round": 1, "sampling": "poisson", "rounds": 12, **settings})


def adaptive(noise: float = 1.0) -> DpFedAvg:
    return DpFedAvg(noise_multiplier=noise, quantile=0.5, clip_norm=0.1)


# Sampling


def test_poisson_sampling_takes_each_client_at_the_rate_and_independently_of_the_others() -> None:
    rounds, streams = 3000, Streams(3)
    taken = np.zeros((rounds, 8), dtype=bool)
    for number in range(rounds):
        drawn = sample_clients(8, 2, number + 1, streams, "poisson")
        assert drawn == sorted(set(drawn))
        taken[number, drawn] = True
    rate, deviation = 2 / 8, np.sqrt(0.25 * 0.75 / rounds)
    assert np.abs(taken.mean(0) - rate).max() < 4 * deviation
    together = (taken.T.astype(float) @ taken / rounds)[~np.eye(8, dtype=bool)]
    assert np.abs(together - rate**2).max() < 5 * np.sqrt(rate**2 * (1 - rate**2) / rounds)
    assert taken.sum(1).var() == pytest.approx(8 * rate * (1 - rate), rel=0.1)
    assert (taken.sum(1) == 0).mean() == pytest.approx(0.75**8, abs=0.03)


def test_who_is_drawn_depends_on_seed_and_round_alone() -> None:
    def drawn(seed: int) -> list[list[int]]:
        return [sample_clients(8, 4, number, Streams(seed), "poisson") for number in range(1, 30)]

    assert drawn(0) == drawn(0) != drawn(1)
    assert len({tuple(each) for each in drawn(0)}) > 10
    assert sample_clients(5, 5, 1, Streams(0), "poisson") == list(range(5))
    assert [result.clients for result in federation(clients_per_round=2, sampling="poisson").run()] == [
        tuple(sample_clients(6, 2, number, Streams(0), "poisson")) for number in range(1, 7)
    ]


def test_fixed_sampling_is_as_it_was() -> None:
    sizes = {len(sample_clients(8, 3, number, Streams(0))) for number in range(20)}
    assert sizes == {3}
    with pytest.raises(InputError, match="sampling must be fixed or poisson, got 'uniform'"):
        federation(sampling="uniform")


# Rounds without anybody


def test_a_round_without_anybody_is_noise_and_costs_what_others_do() -> None:
    rule = DpFedAvg(noise_multiplier=2.0, clip_norm=3.0)
    run = rare(rule, server_lr=0.5)
    before, moves, results = run.parameters.clone(), [], []
    for result in run.run():
        results.append(result)
        if not result.clients:
            moves.append(run.parameters - before)
        before = run.parameters.clone()
    assert len(moves) >= 2
    drawn = torch.cat(moves)
    # server_lr z S / m, with m the one client that is expected.
    assert float(drawn.std()) == pytest.approx(0.5 * 2.0 * 3.0, rel=0.1)
    assert not torch.equal(moves[0], moves[1])
    delta = rule.delta_of(6)
    expected = [epsilon([Spending(2.0, 1 / 6, number)], delta).value for number in range(1, 13)]
    assert [result.user_epsilon for result in results] == expected
    assert [result.round for result in results] == list(range(1, 13))


def empty(result: RoundResult) -> bool:
    return not (result.clients or result.byzantine or result.rejected or result.influence or result.dropped)


def test_nobody_is_told_of_a_round_without_anybody() -> None:
    results = list(rare(adaptive(), evaluate_every=5).run())
    idle = [result for result in results if not result.clients]
    assert idle
    for result in idle:
        assert empty(result)
        assert (result.spent, result.epsilon, result.cost, result.client_values) == ((), None, None, None)
    assert [result.evaluated for result in results] == [number in (5, 10, 12) for number in range(1, 13)]


def test_the_model_that_is_evaluated_and_kept_is_the_one_with_the_noise() -> None:
    run = rare(DpFedAvg(noise_multiplier=2.0))
    result = run.play()
    while result.clients:
        result = run.play()
    loaded = torch.cat([each.detach().flatten() for each in run.module.parameters()])
    assert torch.equal(loaded, run.parameters)
    kept = torch.cat([run.weights()[name].flatten() for name in run.trainer.layout.shapes])
    assert torch.equal(kept, run.parameters)
    assert result.evaluated
    assert result.metrics["loss"] == run.evaluate().metrics["loss"]


def test_without_a_private_rule_a_round_without_anybody_changes_nothing() -> None:
    run, before = rare(), None
    for result in run.run():
        if not result.clients:
            assert empty(result)
            assert before is None or torch.equal(run.parameters, before)
            assert result.user_epsilon is None
        before = run.parameters.clone()


def test_clients_may_all_be_too_slow_in_no_round_but_an_empty_one() -> None:
    results = list(rare(stragglers=Stragglers(0.5, "drop")).run())
    assert any(len(result.dropped) for result in results)
    assert all(result.clients or not result.dropped for result in results)


@pytest.mark.parametrize("lost", [[0, 1, 2, 3, 4, 5], [1]])
def test_a_round_that_loses_every_row_is_one_without_anybody(lost: list[int]) -> None:
    def broken(start: Start, clients: Sequence[int], number: int) -> LocalResult:
        found = run.train(start, clients, number)
        found.updates[lost] = torch.nan
        return found

    rule = DpFedAvg(noise_multiplier=2.0, clip_norm=1e-3)
    run = federation(rule, rounds=2)
    run.local_updates = broken
    before = run.parameters.clone()
    result = run.play()
    assert result.clients == tuple(range(6))
    assert result.rejected == tuple(lost)
    assert result.user_epsilon == epsilon([Spending(2.0, 1.0, 1)], 6**-1.1).value
    silence = rule.nobody(before, Streams(0).noise("noise", "server", "round", 1, *rule.stream()))
    assert torch.equal(run.parameters, before + silence) == (len(lost) == 6)
    if len(lost) == 6:
        assert result.influence == (0.0,) * 6
    assert run.play().round == 2


class Refusing(DpFedAvg):
    """Gives up after the updates have arrived."""

    def combine(self, cohort: Cohort) -> Tensor:
        raise AggregationError("no")


def test_a_round_that_cannot_be_aggregated_is_paid_for() -> None:
    run = federation(Refusing(noise_multiplier=1.0))
    with pytest.raises(AggregationError, match="round 1"):
        run.play()
    assert run.releases is not None
    assert run.releases.epsilon() == epsilon([Spending(1.0, 1.0, 1)], 6**-1.1)


# What is released


def test_the_noise_is_on_the_sum_over_the_expected_number() -> None:
    """The same noise whoever takes part: without any it is clipped averaging over m."""
    drawn: dict[str, Any] = {"clients_per_round": 3, "sampling": "poisson"}
    runs = {noise: federation(DpFedAvg(noise_multiplier=noise, clip_norm=0.01), **drawn) for noise in (0.0, 1.0)}
    starts = [run.parameters.clone() for run in runs.values()]
    assert torch.equal(*starts)
    for run in runs.values():
        run.play()
    clear, noisy = (run.parameters for run in runs.values())
    assert float((noisy - clear).std()) == pytest.approx(0.01 / 3, rel=0.15)
    clients = sample_clients(6, 3, 1, Streams(0), "poisson")
    assert float((clear - starts[0]).norm()) <= 0.01 * len(clients) / 3 * (1 + 1e-4)


def test_noise_depends_on_seed_and_round() -> None:
    def moved(seed: int, rounds: int) -> Tensor:
        run = federation(DpFedAvg(noise_multiplier=1e3), seed=seed, rounds=3)
        before = run.parameters
        for _ in range(rounds):
            before = run.parameters.clone()
            run.play()
        return run.parameters - before

    assert torch.equal(moved(0, 1), moved(0, 1))
    for other in (moved(1, 1), moved(0, 2)):
        assert abs(float(torch.corrcoef(torch.stack([moved(0, 1), other]))[0, 1])) < 0.3


# Epsilon


def test_a_target_is_reached_by_the_last_round_and_not_passed() -> None:
    rule = DpFedAvg(target_epsilon=4.0)
    spent = [result.user_epsilon for result in rare(rule).run()]
    assert all(one is not None and other is not None and one < other for one, other in pairwise(spent))
    assert spent[-1] is not None
    assert 3.9 < spent[-1] <= 4.0


def test_all_clients_in_every_round_need_no_sampling() -> None:
    rule = DpFedAvg(noise_multiplier=3.0)
    (first, *_) = federation(rule).run()
    assert first.user_epsilon == epsilon([Spending(3.0, 1.0, 1)], 6**-1.1).value
    assert first.epsilon is None


def test_without_noise_epsilon_is_infinite() -> None:
    assert federation(DpFedAvg(noise_multiplier=0.0)).play().user_epsilon == float("inf")


# Refusals


def test_fixed_numbers_of_clients_are_refused() -> None:
    message = (
        r"DpFedAvg: its account holds for clients that are drawn independently of each other, not for exactly 2 of 6; "
        r"expected federation.sampling: poisson, or all clients"
    )
    with pytest.raises(InputError, match=message):
        federation(DpFedAvg(noise_multiplier=1.0), clients_per_round=2)
    federation(DpFedAvg(noise_multiplier=1.0), clients_per_round=6)
    federation(DpFedAvg(noise_multiplier=1.0), clients_per_round=2, sampling="poisson")
    federation(clients_per_round=2)  # which claims nothing


@pytest.mark.parametrize("bn", ["average", "recalibrate"])
def test_running_statistics_must_not_leave_the_clients(bn: Any) -> None:
    with pytest.raises(InputError, match="running statistics of batch normalization would leave the clients without"):
        federation(DpFedAvg(noise_multiplier=1.0), norm="bn", bn=bn)
    federation(DpFedAvg(noise_multiplier=1.0), norm="gn", bn=bn)
    federation(DpFedAvg(noise_multiplier=1.0), norm="bn", bn="local").play()


def test_a_target_that_no_noise_reaches_is_refused_before_the_first_round() -> None:
    with pytest.raises(InputError, match="no noise_multiplier up to"):
        federation(DpFedAvg(target_epsilon=1e-5, delta=1e-12), rounds=1000)


@pytest.mark.parametrize("handling", ["drop", "partial"])
def test_stragglers_are_refused(handling: Any) -> None:
    """Who is heard would depend on who else was drawn."""
    slow = Stragglers(0.1, handling)
    with pytest.raises(
        InputError, match=rf"DpFedAvg: its account .* stragglers \({handling}\).*expected no stragglers"
    ):
        federation(DpFedAvg(noise_multiplier=1.0), stragglers=slow)
    with pytest.raises(InputError, match="expected no stragglers"):
        federation(DpFedAvg(noise_multiplier=1.0), stragglers=slow, clients_per_round=2, sampling="poisson")
    federation(DpFedAvg(noise_multiplier=1.0), stragglers=Stragglers(0.0, handling))
    federation(stragglers=slow)  # which claims nothing


class Copying(UpdatePoisoning):
    """Sends the sum of what the honest clients sent."""

    def __init__(self, knowledge: Any) -> None:
        self.knowledge = knowledge

    def forge(self, view: AttackerView) -> Tensor:
        rows = view.honest if len(view.honest) else view.own
        return rows.sum(0).expand_as(view.own).clone()


def test_attackers_who_see_honest_updates_are_refused() -> None:
    private = DpFedAvg(noise_multiplier=1.0)
    seeing = Threat(frozenset({1}), Copying("omniscient"))
    with pytest.raises(InputError, match=r"DpFedAvg: Copying crafts its updates from all others'"):
        federation(private, threat=seeing)
    for threat in (Threat(frozenset({1}), Copying("own")), Threat(frozenset(), Copying("omniscient"))):
        federation(private, threat=threat).play()
    federation(threat=seeing).play()  # which claims nothing


# Interruptions


def test_a_resumed_run_has_the_same_bits_epsilon_and_bound() -> None:
    whole_rule = adaptive()
    whole = rare(whole_rule)
    results = list(whole.run())
    first = rare(adaptive())
    for _ in range(5):
        first.play()
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    assert state["rule.clip_norm"].item() == first.aggregator.bound != 0.1  # type: ignore[attr-defined]
    rule = adaptive()
    resumed = rare(rule)
    resumed.restore(state, 5)
    again = list(resumed.run())
    assert [result.user_epsilon for result in again] == [result.user_epsilon for result in results[5:]]
    assert [result.clients for result in again] == [result.clients for result in results[5:]]
    assert torch.equal(resumed.parameters, whole.parameters)
    assert rule.bound == whole_rule.bound
    # Restoring is starting over, whatever was spent meanwhile.
    resumed.restore(state, 5)
    assert resumed.play().user_epsilon == results[5].user_epsilon


def test_a_state_of_another_rule_is_refused() -> None:
    with pytest.raises(InputError, match="clip_norm"):
        federation().restore(federation(adaptive()).state(), 0)


def test_defenses_of_clients_go_before_the_server_s() -> None:
    """Post-processing by nobody: what clients do to their updates is bounded and hidden like the updates."""
    plain, clipped = (
        federation(DpFedAvg(noise_multiplier=0.0, clip_norm=1e3), transforms=made, rounds=1)
        for made in ((), [ClipUpdate(1e-3)])
    )
    start = plain.parameters.clone()
    results = [run.play() for run in (plain, clipped)]
    assert results[0].user_epsilon == results[1].user_epsilon
    assert float((clipped.parameters - start).norm()) <= 1e-3 * (1 + 1e-3) < float((plain.parameters - start).norm())


def test_an_account_is_one_for_all_clients() -> None:
    rule = DpFedAvg(noise_multiplier=1.0)
    account = Releases.of_rule(rule, 1000, 50, 10)
    assert account.epsilon().value == 0
    account.spend(), account.spend()
    assert account.epsilon() == epsilon([Spending(1.0, 0.05, 2)], 1000**-1.1)
    account.restore(7)
    assert account.epsilon() == epsilon([Spending(1.0, 0.05, 7)], 1000**-1.1)
