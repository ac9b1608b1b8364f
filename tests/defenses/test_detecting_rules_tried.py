"""Rules that trust, remember and detect, in the hands of an attacker who knows them: tried as the server uses them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedsec.defense import Aggregator, AggregatorTrial, Pipeline, RoundContext
from fedsec.defenses import (
    FLAME,
    LASA,
    RFLBAT,
    ClipUpdate,
    FLDetector,
    FLTrust,
    FoolsGold,
    FoundationFL,
    Median,
    SignGuard,
    TrimmedMean,
)

CLIENTS = [3, 5, 1, 0, 8, 7, 9, 4, 2]
RULES: list[Callable[[], Aggregator]] = [
    FLTrust,
    FoolsGold,
    FLAME,
    lambda: FLAME(noise=0.0),
    SignGuard,
    lambda: FLDetector(history=2, window=2),
    RFLBAT,
    LASA,
    lambda: Pipeline([FoundationFL(2), Median()]),
    lambda: Pipeline([FoundationFL(), TrimmedMean(num_trimmed_per_side=3)]),
    lambda: Pipeline([ClipUpdate(1.0), FLTrust()]),
]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def updates(number: int) -> Tensor:
    return torch.linspace(-1, 1, 60) * 0.8**number + 0.3 * torch.randn(9, 60, generator=seeded(number))


@pytest.mark.parametrize("make", RULES)
def test_a_trial_is_the_server_s_next_round_and_leaves_its_memory_alone(make: Callable[[], Aggregator]) -> None:
    rule = make()
    server = torch.linspace(-1, 1, 60) + 0.1 * torch.randn(60, generator=seeded(99))
    context = RoundContext(clients=CLIENTS, server_update=server, shapes={"weight": (25, 2), "bias": (10,)})
    for number in range(5):
        rule(updates(number), **RoundContext(**context, generator=seeded(number)))
    before = {name: tensor.clone() for name, tensor in rule.state().items()}
    trial = AggregatorTrial(rule, seeded(5), places=[0, 2, 3, 4, 5, 6, 7, 1, 8], context=context)
    points = torch.cat([updates(5)[:7], torch.linspace(1, -1, 60)[None]])
    mixing = torch.eye(9, 8, dtype=torch.float64)
    mixing[7:, 7] = 1.3
    mean = torch.zeros(8, dtype=torch.float64)
    mean[:7] = 1 / 7
    rows = mixing.float() @ points
    assert trial.mixtures(points, 9).damage(mixing, mean) == pytest.approx(
        trial.damage(rows, mean.float() @ points), rel=1e-4, abs=1e-5
    )
    assert before.keys() == rule.state().keys()
    assert all(torch.equal(tensor, rule.state()[name]) for name, tensor in before.items())
