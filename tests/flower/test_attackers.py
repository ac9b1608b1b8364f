"""Nodes that attack together, played in the strategy."""

from typing import Any

import pytest
import torch

from fedsec.attacks import ALIE, IPM, FreeRider, LabelFlip, MinMax, SignFlip
from fedsec.defenses import Mean, Median
from fedsec.errors import InputError
from fedsec.flower import RobustStrategy

NODES = (5, 7, 9, 11, 13)
MOVES = dict(zip(NODES, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True))


def test_attackers_see_the_honest_rows_and_their_own_are_replaced(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    strategy = RobustStrategy(Mean(), attack=IPM(epsilon=2.0), byzantine_nodes=[11, 13], weighting="equal")
    model, _ = flower.play(strategy, state, MOVES)
    moved = (model["0.bias"] - state["0.bias"]).double()
    # The mean of 0.1, 0.2 and 0.3 is 0.2; two rows send -0.4.
    assert torch.allclose(moved, torch.full_like(moved, (0.6 - 0.8) / 5), atol=1e-6)
    assert strategy.verdicts[-1].byzantine == (11, 13)


def test_attackers_remember_what_the_server_made_of_the_round_before(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    rounds: list[Any] = []
    strategy = RobustStrategy(
        Median(), attack=FreeRider(std=0.0), byzantine_nodes=[13], observers=[rounds.append], weighting="equal"
    )
    model, _ = flower.play(strategy, state, MOVES)
    flower.play(strategy, model, MOVES, number=2)
    expected = model["0.bias"] + (model["0.bias"] - state["0.bias"])
    assert torch.allclose(rounds[1].replies[13]["0.bias"], expected, atol=1e-6)


def test_a_number_of_attackers_is_drawn_once(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    strategy = RobustStrategy(Median(), attack=ALIE(), byzantine_nodes=2, seed=1)
    for number in (1, 2):
        flower.play(strategy, state, MOVES, number=number)
    first, second = (verdict.byzantine for verdict in strategy.verdicts)
    assert len(first) == 2
    assert first == second
    assert "z" in strategy.verdicts[0].attack
    again = RobustStrategy(Median(), attack=ALIE(), byzantine_nodes=2, seed=7)
    again.restore(strategy.state())
    flower.play(again, state, MOVES)
    assert again.verdicts[-1].byzantine == first


def test_attackers_may_try_the_servers_rule_without_its_noticing(flower: Any) -> None:
    state = flower.model(norm=False).state_dict()
    strategy = RobustStrategy(Median(), attack=MinMax(), byzantine_nodes=[13], seed=0)
    flower.play(strategy, state, MOVES)
    auto = RobustStrategy(Median(), attack=ALIE(z="auto"), byzantine_nodes=[13], seed=0)
    flower.play(auto, state, MOVES)
    assert auto.verdicts[-1].attack["z"] != 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attack": ALIE()}, "carried out by nobody"),
        ({"byzantine_nodes": 2}, "do nothing without an attack"),
        ({"attack": LabelFlip(), "byzantine_nodes": 2}, "poisons data.*fedsec.flower.poisoned"),
    ],
)
def test_attacks_without_attackers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RobustStrategy(Median(), **options)


def test_ids_of_nobody_are_refused_and_ids_of_some_are_not(flower: Any) -> None:
    state = flower.model().state_dict()
    strategy = RobustStrategy(Median(), attack=ALIE(), byzantine_nodes=[0, 1])  # partitions, and no node ids
    with pytest.raises(InputError, match=r"names \[0, 1\], and none of them is connected, but \[5, 7, 9, 11\] and"):
        flower.configured(strategy, state, NODES)
    strategy = RobustStrategy(Median(), attack=ALIE(), byzantine_nodes=[5, 1])
    flower.configured(strategy, state, NODES)
    flower.configured(strategy, state, NODES[1:], number=2)  # it has left


def test_observers_see_what_a_low_precision_makes_of_an_attack(flower: Any) -> None:
    state = {name: tensor.half() for name, tensor in flower.model(norm=False).state_dict().items()}
    rounds: list[Any] = []
    strategy = RobustStrategy(
        Median(), attack=SignFlip(scale=1e6), byzantine_nodes=[13], observers=[rounds.append], weighting="equal"
    )
    flower.play(strategy, state, MOVES)
    assert rounds[0].replies[13]["0.bias"].dtype == torch.float16
    assert bool((rounds[0].replies[13]["0.bias"] == -torch.inf).all())


def test_more_attackers_than_nodes_are_refused(flower: Any) -> None:
    strategy = RobustStrategy(Median(), attack=ALIE(), byzantine_nodes=9)
    with pytest.raises(InputError, match="says 9, and only 5 are connected"):
        flower.configured(strategy, flower.model().state_dict(), NODES)


def test_observers_see_what_the_server_received(flower: Any) -> None:
    state = flower.model().state_dict()
    rounds: list[Any] = []
    strategy = RobustStrategy(
        Median(), attack=IPM(epsilon=2.0), byzantine_nodes=[13], observers=[rounds.append], weighting="equal"
    )
    flower.play(strategy, state, MOVES | {11: float("nan")})
    (seen,) = rounds
    assert {*seen.replies} == {5, 7, 9, 13}
    assert seen.num_examples[5] == 10
    assert torch.allclose(seen.replies[13]["0.bias"], state["0.bias"] - 0.4)
    assert torch.allclose(seen.replies[13]["1.running_mean"], state["1.running_mean"] + 0.5)
    assert torch.equal(seen.sent["0.bias"], state["0.bias"])
