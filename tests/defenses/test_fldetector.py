"""FLDetector: its Hessian against BFGS, its groups against all splits, and a federation whose attackers it finds."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.defense import Pipeline
from fedsec.defenses import NNM, FLDetector
from fedsec.defenses.fldetector import in_groups, predicted_change, two_means
from fedsec.errors import InputError


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bfgs_product(moves: Tensor) -> Tensor:
    """B s by the BFGS updates one after another, from a multiple of the identity."""
    pairs = [(moves[place], moves[place + 1] - moves[place]) for place in range(len(moves) - 1)]
    step, change = pairs[-1]
    matrix = (step @ change) / (step @ step) * torch.eye(moves.shape[1], dtype=torch.float64)
    for step, change in pairs:
        product = matrix @ step
        matrix = matrix - product.outer(product) / (step @ product) + change.outer(change) / (step @ change)
    return matrix @ moves[-1]


@given(st.integers(1, 5), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_predicted_change_is_that_of_bfgs(history: int, seed: int) -> None:
    moves = torch.randn(history + 1, 12, generator=seeded(seed), dtype=torch.float64)
    moves *= 0.7 ** torch.arange(history + 1)[:, None]
    points = torch.cat([torch.randn(2, 12, dtype=torch.float64), moves])
    combination = predicted_change(points @ points.T, range(2, 3 + history))
    torch.testing.assert_close(combination @ points, bfgs_product(moves), rtol=1e-5, atol=1e-6)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=8))
def test_two_means_are_the_best_of_all_splits(numbers: list[int]) -> None:
    values = torch.tensor(numbers, dtype=torch.float64)
    best = min(
        sum(float(((part - part.mean()) ** 2).sum()) for part in (values[list(chosen)], values[list(rest)]))
        for size in range(1, len(numbers))
        for chosen in combinations(range(len(numbers)), size)
        if (rest := [place for place in range(len(numbers)) if place not in chosen])
    )
    assert two_means(values)[0] == pytest.approx(best, abs=1e-9)


def test_the_gap_statistic_tells_groups_from_chance() -> None:
    even = [in_groups(torch.rand(12, generator=seeded(seed), dtype=torch.float64), seeded(seed)) for seed in range(40)]
    assert sum(even) <= 10
    apart = torch.cat([torch.rand(9, generator=seeded(1)), 5 + torch.rand(3, generator=seeded(2))]).double()
    assert in_groups(apart, seeded(3))
    assert two_means(apart)[1] == float(apart[:9].max())
    assert not in_groups(torch.full((5,), 0.3, dtype=torch.float64), seeded(3))
    assert in_groups(torch.tensor([1.0, 1, 1, 2], dtype=torch.float64), seeded(3))


class Quadratics:
    """Eight clients with a quadratic loss each and a little noise; the last three flip signs from some round on."""

    def __init__(self, rule: FLDetector, since: int = 1) -> None:
        self.rule, self.since, self.generator = rule, since, seeded(5)
        self.curvature = torch.linspace(0.5, 2.0, 20)
        self.optima = torch.randn(8, 20, generator=self.generator)
        self.model, self.round = torch.zeros(20), 0

    def play(self) -> tuple[int, ...]:
        self.round += 1
        updates = -0.1 * self.curvature * (self.model - self.optima)
        updates += 1e-4 * torch.randn(8, 20, generator=self.generator)
        if self.round >= self.since:
            updates[5:] *= -1
        clients = [3, 1, 4, 15, 9, 2, 6, 5]
        aggregate = self.rule.aggregate(updates, clients=clients, generator=seeded(self.round))
        self.model = self.model + aggregate.vector
        assert aggregate.suspected is not None
        return aggregate.suspected


@pytest.mark.parametrize("since", [1, 9])
def test_clients_that_do_not_follow_from_themselves_are_left_out(since: int) -> None:
    run = Quadratics(FLDetector(history=3, window=3), since)
    verdicts = [run.play() for _ in range(16)]
    assert verdicts[:6] == [()] * 6  # four rounds for the first Hessian, two more for the window
    first = next(place for place, verdict in enumerate(verdicts) if verdict)
    assert first + 1 <= since + 7
    assert verdicts[first:] == [(5, 6, 7)] * (16 - first)


def test_honest_clients_are_mostly_left_alone() -> None:
    run = Quadratics(FLDetector(history=3, window=5), since=10**6)
    verdicts = [run.play() for _ in range(40)]
    assert sum(map(len, verdicts)) <= 0.2 * 8 * 40


def test_before_it_knows_enough_it_is_the_mean() -> None:
    rule = FLDetector()
    for seed in range(4):
        updates = torch.randn(5, 6, generator=seeded(seed))
        torch.testing.assert_close(rule(updates, generator=seeded(0)), updates.mean(0))
    for updates in (torch.ones(4, 3), torch.zeros(1, 3)):
        rule = FLDetector(history=1, window=1)
        for _ in range(4):
            torch.testing.assert_close(rule(updates, generator=seeded(0)), updates[0])


def test_a_copy_from_its_state_goes_on_alike() -> None:
    first, again = Quadratics(FLDetector(3, 3)), Quadratics(FLDetector(3, 3))
    for number in range(14):
        first.play()
        if number in (0, 5, 9):
            again.rule.restore(first.rule.state())
            again.model, again.round = first.model.clone(), first.round
            again.generator.set_state(first.generator.get_state())
        if number >= 1:
            if number not in (5, 9):
                again.play()
            assert torch.equal(again.model, first.model)
    with pytest.raises(InputError, match="FLDetector: expected"):
        again.rule.restore({"rows": torch.zeros(2)})


def test_clients_that_pause_are_not_scored_and_rows_that_are_not_finite_are_forgotten() -> None:
    rule = FLDetector(history=1, window=2)
    updates = torch.randn(4, 5, generator=seeded(1))
    for clients in ([0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]):
        rule(updates, clients=clients, generator=seeded(0))
    assert rule.state()["scored"].numel() == 0
    updates[0] = torch.nan
    rule(updates, clients=[0, 1, 2, 3], generator=seeded(0))
    assert sorted(rule.state()["scored"].tolist()) == [1, 2, 3]
    assert rule.state()["clients"].tolist() == [1, 2, 3]


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="history and window must be at least 1"):
        FLDetector(window=0)
    with pytest.raises(InputError, match="remembers clients, and a pre-aggregator mixes their rows"):
        Pipeline([NNM(1), FLDetector()])(torch.randn(5, 3), generator=seeded(0))
    rule = FLDetector()
    rule(torch.randn(3, 4), generator=seeded(0))
    with pytest.raises(InputError, match="remembers updates of 4 numbers, and these have 5"):
        rule(torch.randn(3, 5), generator=seeded(0))
