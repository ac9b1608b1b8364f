"""Who is Byzantine in which round: attackers that come, leave, change, and lie about how much data they have."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import LabelFlip, LogitPoison, SignFlip
from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import Mean, Median
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.errors import InputError
from fedsec.federation import AttackRounds, Distillation, FedAvg, Federation, FedGKT, ServerTraining, Threat, guards
from fedsec.federation.threat import Attack
from fedsec.seeds import Streams
from fedsec.threat import DataPoisoning

ONE_STEP = LocalTraining(steps=1, batch_size=8, lr=1.0)


class Line(nn.Module):
    """Two logits, w * x and 0, of a one-pixel image."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        return torch.cat([self.w * x, torch.zeros_like(x)], dim=1)


class Darken(DataPoisoning):
    """Blacks out a client's images, so that it learns nothing."""

    def corrupt(
        self, inputs: Tensor, targets: Tensor, *, num_classes: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(inputs), targets.clone()


def federation(
    threat: Threat, sizes: tuple[int, ...] = (1, 1, 1), *, rounds: int = 4, algorithm: FedAvg | None = None
) -> Federation:
    """Clients of bright images of class 0: each honest update is 1 - sigmoid(w), each flipped one -sigmoid(w)."""
    split = Split(torch.full((sum(sizes), 1, 1, 1), 255, dtype=torch.uint8), torch.zeros(sum(sizes), dtype=torch.int64))
    clients = [np.arange(begin, end) for begin, end in pairwise(np.cumsum([0, *sizes]))]
    data = ResidentData.build(split, clients, Normalization((0.0,), (1.0,)), torch.device("cpu"))
    module = Line()
    return Federation(
        module,
        CohortTrainer(module, data),
        split,
        algorithm=algorithm or FedAvg(local=ONE_STEP),
        aggregator=Mean(),
        streams=Streams(0),
        rounds=rounds,
        num_classes=2,
        threat=threat,
    )


def steps(fed: Federation) -> list[tuple[float, tuple[int, ...]]]:
    """How far each round moved the model, and who was Byzantine in it."""
    moves = []
    for _ in range(fed.rounds):
        before = fed.parameters.item()
        result = fed.play()
        moves.append((fed.parameters.item() - before, result.byzantine))
    return moves


def honest_step(position: float) -> float:
    return 1 - torch.sigmoid(torch.tensor(position)).item()


@pytest.mark.parametrize(
    ("attack", "forged"),
    [(LabelFlip(), lambda w: honest_step(w) - 1), (SignFlip(scale=2.0), lambda w: -2 * honest_step(w))],
)
def test_attackers_are_honest_before_and_after(attack: Attack, forged: Callable[[float], float]) -> None:
    fed = federation(Threat(frozenset({1}), attack, AttackRounds(since=2, until=3)))
    position = 0.0
    for number, (move, byzantine) in enumerate(steps(fed), 1):
        attacked = number in (2, 3)
        expected = (2 * honest_step(position) + (forged(position) if attacked else honest_step(position))) / 3
        assert byzantine == ((1,) if attacked else ())
        assert move == pytest.approx(expected, abs=1e-6)
        position += move


def test_clients_that_blacked_out_their_images_get_them_back() -> None:
    fed = federation(Threat(frozenset({0, 1, 2}), Darken(), AttackRounds(until=1)), rounds=2)
    (first, _), (second, _) = steps(fed)
    assert first == 0
    assert second == pytest.approx(0.5)


@pytest.mark.parametrize("attack", [LabelFlip(), SignFlip()])
def test_others_are_byzantine_in_every_round(attack: Attack) -> None:
    streams = Streams(0)
    threat = Threat.draw(attack, 2, 5, streams, schedule=AttackRounds(redraw="each_round"))
    fed = federation(threat, (1,) * 5, rounds=8)
    sets = []
    for number in range(1, 9):
        before = fed.parameters.item()
        result = fed.play()
        sets.append(result.byzantine)
        assert result.byzantine == tuple(sorted(threat.in_round(number)))
        wrong = honest_step(before) - 1 if isinstance(attack, LabelFlip) else -honest_step(before)
        assert fed.parameters.item() - before == pytest.approx((3 * honest_step(before) + 2 * wrong) / 5, abs=1e-6)
    assert all(len(byzantine) == 2 for byzantine in sets)
    assert len(set(sets)) > 2
    more = Threat.draw(attack, 3, 5, streams, schedule=AttackRounds(redraw="each_round"))
    assert threat.in_round(3) < more.in_round(3)
    assert (threat.num_byzantine, threat.fixed) == (2, frozenset())


def test_a_federation_goes_on_with_the_same_attackers() -> None:
    def make() -> Federation:
        threat = Threat.draw(
            LabelFlip(), 2, 5, Streams(0), schedule=AttackRounds(since=2, until=5, redraw="each_round")
        )
        return federation(threat, (1,) * 5, rounds=6)

    whole, half, resumed = make(), make(), make()
    results = list(whole.run())
    half.play(), half.play(), half.play()
    resumed.restore(half.state(), 3)
    assert [(result.byzantine, result.metrics) for result in resumed.run()] == [
        (result.byzantine, result.metrics) for result in results[3:]
    ]
    assert torch.equal(resumed.parameters, whole.parameters)


def test_byzantine_clients_count_as_much_as_they_claim() -> None:
    """Sizes 1, 1 and 2; the flipper has one example and claims six: weights 1, 6 and 2 of nine."""
    weighted = FedAvg(weighting="samples", local=ONE_STEP)
    threat = Threat(frozenset({1}), LabelFlip(), AttackRounds(until=1), claimed_examples=6.0)
    (attacked, _), (honest, _) = steps(federation(threat, (1, 1, 2), rounds=2, algorithm=weighted))
    assert attacked == pytest.approx((1 * 0.5 - 6 * 0.5 + 2 * 0.5) / 9)
    assert honest == pytest.approx(honest_step(attacked))
    uniform = federation(threat, (1, 1, 2), rounds=1, algorithm=FedAvg(weighting="uniform", local=ONE_STEP))
    assert steps(uniform)[0][0] == pytest.approx(0.5 / 3)


def test_only_who_attacks_in_a_round_lies_in_it() -> None:
    """Two flippers of five, others in each round, claim six examples instead of one: 3 honest ones of 15."""
    draws = AttackRounds(redraw="each_round")
    threat = Threat.draw(LabelFlip(), 2, 5, Streams(0), schedule=draws, claimed_examples=6.0)
    weighted = FedAvg(weighting="samples", local=ONE_STEP)
    (move, _), *_ = steps(federation(threat, (1,) * 5, rounds=1, algorithm=weighted))
    assert move == pytest.approx((3 * 0.5 - 12 * 0.5) / 15)


def test_what_is_claimed_does_not_matter_to_rules_without_weights() -> None:
    threat = Threat(frozenset({1}), LabelFlip(), claimed_examples=100.0)
    fed = federation(threat, (1, 1, 1), rounds=1, algorithm=FedAvg(weighting="samples", local=ONE_STEP))
    fed.aggregator = fed.rules._rules["update"] = Median()
    assert steps(fed)[0][0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"since": 0}, "1 <= since <= until, got 0 and None"),
        ({"since": 3, "until": 2}, "got 3 and 2"),
        ({"redraw": "sometimes"}, "redraw must be one of once, each_round, got 'sometimes'"),
    ],
)
def test_schedules_that_are_none(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AttackRounds(**arguments)  # type: ignore[arg-type]


def test_threats_that_are_none() -> None:
    for factor in (0.0, -1.0, float("inf")):
        with pytest.raises(InputError, match="claimed_examples must be positive and finite"):
            Threat(claimed_examples=factor)
    with pytest.raises(InputError, match=r"expected Threat\.draw"):
        Threat(frozenset({1}), SignFlip(), AttackRounds(redraw="each_round"))


def test_a_server_that_knows_examples_takes_attacks_on_knowledge_alone_on_a_schedule() -> None:
    gkt = FedGKT(ONE_STEP, ServerTraining(epochs=1, batch_size=4), Distillation())

    def refusals(attack: Attack, schedule: AttackRounds, claimed: float = 1.0) -> list[tuple[str, str]]:
        run = guards.RunDescription(
            gkt, 3, 3, attack=attack, num_byzantine=1, schedule=schedule, claimed_examples=claimed
        )
        return list(guards.problems(run))

    (problem,) = refusals(LabelFlip(), AttackRounds(until=2))
    assert "neither since, until nor redraw with an attack on data" in problem[1]
    assert not refusals(LogitPoison(), AttackRounds(until=2))
    assert not refusals(LabelFlip(), AttackRounds())
    assert [place for place, _ in refusals(LogitPoison(), AttackRounds(), 2.0)] == ["attack.claimed_examples"]
