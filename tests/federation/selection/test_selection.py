"""Who is drawn for a round, where not everybody is as likely to be; drawn in plain Python beside it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedsec.attacks import LabelFlip
from fedsec.engine import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import AttackRounds, FedAvg, Federation, Threat
from fedsec.federation.selection import SELECTIONS, Availability, Cyclic, Electorate, PowerLaw, PowerOfChoice, Selection
from fedsec.federation.selection.participation import Participation
from fedsec.federation.selection.selection import expected_byzantine, nobody_states
from fedsec.seeds import Streams

SIZES = (8, 4, 6, 10)
"""Examples of the clients of `build`."""
LOCAL = LocalTraining(steps=2, batch_size=3, lr=0.1)
ATTACKERS = frozenset({1, 6})
TEN = Electorate(10, 3, Streams(0), ATTACKERS)
WAYS: list[Selection] = [PowerLaw(), Cyclic(blocks=3), Availability(), PowerOfChoice(5)]


def all_alike(candidates: Sequence[int]) -> Any:
    return np.ones(len(candidates))


def often(selection: Selection, electorate: Electorate = TEN, rounds: int = 800) -> list[float]:
    """In which share of rounds each client takes part."""
    counts = Counter(
        client for number in range(1, rounds + 1) for client in selection.clients(electorate, number, all_alike)
    )
    return [counts[client] / rounds for client in range(electorate.num_clients)]


def test_all_ways_are_tried_here() -> None:
    assert {type(way) for way in WAYS} == set(SELECTIONS.values())


@pytest.mark.parametrize("way", WAYS, ids=lambda way: type(way).__name__)
def test_a_draw_has_no_memory_and_is_of_different_clients(way: Selection) -> None:
    rounds = [way.clients(TEN, number, all_alike) for number in (1, 2, 3, 4)]
    assert rounds == [way.clients(replace(TEN), number, all_alike) for number in (1, 2, 3, 4)]
    assert len({tuple(clients) for clients in rounds}) > 1
    for clients in rounds:
        assert clients == sorted({*clients})
        assert {*clients} <= {*range(10)}
        assert len(clients) == 3 or (not way.fills_rounds and len(clients) < 3)
    other = [way.clients(replace(TEN, streams=Streams(1)), number, all_alike) for number in (1, 2, 3, 4)]
    assert other != rounds


def test_a_power_law_draws_in_proportion_to_the_weights() -> None:
    one = replace(TEN, cohort=1)
    weights = np.arange(1, 11) ** -1.5
    shares = np.sort(often(PowerLaw(1.5), one, 2500))[::-1]
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.03)
    np.testing.assert_allclose(often(PowerLaw(0.0), one, 2500), 0.1, atol=0.03)


def test_two_of_a_power_law_are_drawn_one_after_the_other() -> None:
    two = replace(TEN, num_clients=3, cohort=2)
    weights = np.array([1, 1 / 2, 1 / 3]) / (11 / 6)
    # P[not drawn] of the k-th: over the orders in which the two others come first.
    left_out = [
        sum(weights[i] * weights[j] / (1 - weights[i]) for i in range(3) for j in range(3) if len({i, j, k}) == 3)
        for k in range(3)
    ]
    np.testing.assert_allclose(np.sort(often(PowerLaw(1.0), two, 2500))[::-1], 1 - np.array(left_out), atol=0.03)


def test_attackers_stand_first_or_last_and_the_others_keep_their_order() -> None:
    plain, first, last = (often(PowerLaw(2.0, attackers=place)) for place in ("anywhere", "first", "last"))
    assert sorted(range(10), key=lambda client: -first[client])[:2] == sorted(ATTACKERS, key=lambda c: -first[c])
    assert max(last[client] for client in ATTACKERS) < min(
        last[client] for client in range(10) if client not in ATTACKERS
    )
    honest = [client for client in range(10) if client not in ATTACKERS]
    top = max(honest, key=lambda client: plain[client])
    assert max(honest, key=lambda client: first[client]) == top
    assert max(honest, key=lambda client: last[client]) == top


def test_a_huge_exponent_always_draws_the_first() -> None:
    assert len({tuple(PowerLaw(1e6).clients(TEN, number, nobody_states)) for number in range(1, 20)}) == 1


def test_blocks_come_by_turns() -> None:
    way = Cyclic(blocks=3, period=2)
    blocks = [
        {client for number in numbers for client in way.clients(TEN, number, nobody_states)}
        for numbers in (
            [*range(1, 600, 6), *range(2, 600, 6)],
            [*range(3, 600, 6), *range(4, 600, 6)],
            [*range(5, 600, 6)],
        )
    ]
    assert sorted(len(block) for block in blocks) == [3, 3, 4]
    assert set.union(*blocks) == {*range(10)}


def test_attackers_of_one_block_are_a_majority_there() -> None:
    together = Cyclic(blocks=3, attackers="together")
    among = [together.most_byzantine(replace(TEN, attackers=frozenset({0, 4, 9})), number) for number in (1, 2, 3)]
    assert among[1:] == [0, 0]
    assert among[0] >= 2


def test_a_trace_says_who_is_there() -> None:
    way = Availability(trace=[(0, 1, 2), (3, 2, 2), (5, 2, 9), (7, 2, 2), (8, 2, 2)])
    assert way.clients(TEN, 1, nobody_states) == [0]
    assert len(way.clients(TEN, 2, nobody_states)) == 3
    assert {*way.clients(TEN, 2, nobody_states)} <= {0, 3, 5, 7, 8}
    assert way.clients(TEN, 3, nobody_states) == [5]
    assert way.clients(TEN, 10, nobody_states) == []
    assert replace(way, attackers="always").clients(TEN, 10, nobody_states) == [1, 6]


def test_clients_that_come_and_go_stay_as_long_as_was_said() -> None:
    way, one = Availability(mean_on=4.0, mean_off=12.0), Electorate(40, 40, Streams(2))
    there = np.array([np.isin(range(40), way.present(one, number)) for number in range(1, 3001)])
    assert there.mean() == pytest.approx(4 / 16, abs=0.03)
    assert there[0].mean() == pytest.approx(4 / 16, abs=0.2)  # in equilibrium from the first round on
    leaving = (there[:-1] & ~there[1:]).sum() / there[:-1].sum()
    coming = (~there[:-1] & there[1:]).sum() / (~there[:-1]).sum()
    assert leaving == pytest.approx(1 / 4, abs=0.01)
    assert coming == pytest.approx(1 / 12, abs=0.01)


def test_the_highest_losses_of_the_candidates_are_chosen() -> None:
    asked: list[list[int]] = []

    def losses(candidates: Sequence[int]) -> Any:
        asked.append([*candidates])
        return np.array([float(client) for client in candidates])

    way = PowerOfChoice(5)
    for number in range(1, 20):
        chosen = way.clients(TEN, number, losses)
        assert chosen == sorted(asked[-1])[-3:]
        assert len({*asked[-1]}) == 5
    assert len(PowerOfChoice(10).clients(TEN, 1, lambda candidates: np.full(10, np.nan))) == 3
    broken = PowerOfChoice(10).clients(TEN, 1, lambda c: np.where(np.isin(c, [2, 5, 8]), 0.1, np.inf))
    assert broken == [2, 5, 8]


def test_candidates_cost_what_they_receive_compute_and_state(build: Callable[..., Federation]) -> None:
    """Three of clients with 8, 4, 6 and 10 examples are asked, two of them train: 15 parameters of 4 bytes."""
    ours, plain = build(FedAvg(local=LOCAL), selection=PowerOfChoice(3)), build(FedAvg(local=LOCAL))
    asked, cost = ours.asked(1), ours.play().cost
    examples = sum(SIZES[client] for client in asked)
    assert len(asked) == 3
    assert (plain.asked(1), cost is not None) == ([], True)
    assert cost is not None
    assert cost.upload_bytes == 15 * 4 + 3 * 4 / 2
    assert cost.download_bytes == 15 * 4 * 3 / 2
    trained = 6 * ours.costs.training_flops  # two steps of three examples
    assert cost.flops == pytest.approx(trained + examples * ours.costs.forward_flops / 2)


def test_candidates_are_drawn_by_their_examples() -> None:
    sizes = np.array([1.0] * 9 + [11.0])
    way, one = PowerOfChoice(1), replace(TEN, cohort=1, sizes=sizes)
    shares = often(way, one, 2000)
    assert shares[9] == pytest.approx(11 / 20, abs=0.03)
    assert shares[0] == pytest.approx(1 / 20, abs=0.015)


def test_what_a_defense_is_told_is_the_mean_rounded_up() -> None:
    assert expected_byzantine(PowerLaw(0.0), 10, 4, 2) == 1  # 0.8
    assert expected_byzantine(PowerLaw(8.0, attackers="first"), 10, 4, 3) == 3
    assert expected_byzantine(PowerLaw(99.0, attackers="last"), 10, 4, 3) == 0
    assert expected_byzantine(PowerOfChoice(10), 10, 4, 3) == 3  # whoever lies is chosen


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: PowerLaw(-1.0), "exponent must be at least 0"),
        (lambda: PowerLaw(attackers="sometimes"), "one of anywhere, first, last"),
        (lambda: Cyclic(blocks=0), "at least 1"),
        (lambda: Cyclic(attackers="first"), "one of anywhere, together"),
        (lambda: Availability(mean_on=0.5), "mean_on must be at least 1"),
        (lambda: Availability(trace=[(0, 3, 2)]), "1 <= from <= until"),
        (lambda: Availability(attackers="first"), "one of as_others, always"),
        (lambda: PowerOfChoice(0), "candidates must be at least 1"),
        (lambda: Cyclic(blocks=4).check(10, 3), "4 blocks are 2 in the smallest"),
        (lambda: Availability(trace=[(10, 1, 2)]).check(10, 3), "clients below 10, got 10"),
        (lambda: PowerOfChoice(2).check(10, 3), r"lie in \[3, 10\]"),
        (lambda: PowerOfChoice(11).check(10, 3), r"lie in \[3, 10\]"),
    ],
)
def test_bad_settings_are_named(wrong: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrong()


def test_only_who_says_so_asks_for_losses() -> None:
    with pytest.raises(RuntimeError, match="by_loss"):
        PowerOfChoice(5).clients(TEN, 1, nobody_states)


def test_participation_counts_rounds_with_an_attack() -> None:
    threat = Threat(frozenset({0}), schedule=AttackRounds(since=2))
    first = {"round": 1, "clients": [0, 1], "byzantine_in_round": []}
    counted = Participation(4, threat, [first])
    assert counted.metrics() == {}
    counted.add({"round": 2, "clients": [0, 1], "byzantine_in_round": [0]})
    counted.add({"round": 3, "clients": [0, 3], "byzantine_in_round": [0]})
    assert counted.by_client() == [3, 2, 0, 1]
    assert counted.metrics() == {"byzantine_participation": pytest.approx(2 / (2 / 3))}
    assert Participation(4, Threat(), [first]).metrics() == {}


# In a federation


def test_losses_are_those_of_the_global_model(build: Callable[..., Federation]) -> None:
    federation = build(FedAvg(), selection=PowerOfChoice(4))
    stated = federation.stated_losses([2, 0])
    for place, client in enumerate((2, 0)):
        images, labels = federation.data.batch(torch.from_numpy(federation.data.clients[client]))
        loss = torch.nn.functional.cross_entropy(federation.module(images), labels)
        assert stated[place] == pytest.approx(loss.item(), rel=1e-5)
    every = federation.stated_losses(range(4))
    assert federation.play().clients == tuple(sorted(np.argsort(-every)[:2].tolist()))


def test_a_liar_is_always_chosen_while_it_attacks(build: Callable[..., Federation]) -> None:
    honest = [result.clients for result in build(FedAvg(), selection=PowerOfChoice(4)).run()]
    liar = next(client for client in range(4) if client not in honest[0])
    threat = Threat(frozenset({liar}), LabelFlip(), AttackRounds(until=3), claimed_loss=1e6)
    federation = build(FedAvg(), selection=PowerOfChoice(4), threat=threat)
    assert [liar in result.byzantine for result in federation.run()] == [True] * 3 + [False] * 2
    stated = build(FedAvg(), threat=replace(threat, claimed_loss=2.0)).stated_losses([liar])
    assert stated == 2 * build(FedAvg(), threat=replace(threat, claimed_loss=1.0)).stated_losses([liar])


@pytest.mark.parametrize("way", [PowerLaw(2.0), Cyclic(blocks=2), Availability(), PowerOfChoice(3)])
def test_an_interrupted_run_draws_the_same(way: Selection, build: Callable[..., Federation]) -> None:
    whole = build(FedAvg(), selection=way)
    clients = [result.clients for result in whole.run()]
    begun = build(FedAvg(), selection=way)
    begun.play()
    begun.play()
    resumed = build(FedAvg(), selection=way)
    resumed.restore(begun.state(), 2)
    assert [result.clients for result in resumed.run()] == clients[2:]
    assert torch.equal(resumed.parameters, whole.parameters)


def test_nobody_is_there(build: Callable[..., Federation]) -> None:
    federation = build(FedAvg(), selection=Availability(trace=[(0, 2, 2)]))
    before = federation.parameters.clone()
    assert federation.play().clients == ()
    assert torch.equal(federation.parameters, before)
    assert federation.play().clients == (0,)
