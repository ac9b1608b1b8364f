"""RMIA against the paper's pairs, counted one by one."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from fedsec.attacks import Rmia
from fedsec.errors import InputError
from fedsec.threat import MembershipView, ShadowModels

EXAMPLES, POPULATION, MODELS = 12, 25, 8


def view(seed: int = 0, *, learned_population: bool = True) -> MembershipView:
    generator = torch.Generator().manual_seed(seed)
    inside = torch.rand(MODELS, EXAMPLES, generator=generator).argsort(0) < MODELS // 2
    known = torch.rand(MODELS, POPULATION, generator=generator).argsort(0) < MODELS // 2
    shadows = ShadowModels(
        2 * torch.randn(MODELS, EXAMPLES, generator=generator),
        inside,
        2 * torch.randn(MODELS, POPULATION, generator=generator),
        known if learned_population else None,
    )
    seen = 2 * torch.randn(1, EXAMPLES, generator=generator)
    return MembershipView(seen, (1,), shadows, 2 * torch.randn(POPULATION, generator=generator))


def counted(seen: MembershipView, mode: str, gamma: float, a: float) -> list[float]:
    """The score as the paper writes it, pair by pair."""
    shadows, population = seen.shadows, seen.population
    assert shadows is not None
    assert shadows.population is not None
    assert population is not None

    def p(logit: float) -> float:
        return 1 / (1 + np.exp(-float(logit)))

    def usual(signals: Any, members: Any) -> float:
        values = [p(signal) for signal in signals]
        outside = [value for value, member in zip(values, members, strict=True) if not member]
        inside = [value for value, member in zip(values, members, strict=True) if member]
        if mode == "offline":
            return float(((1 + a) * np.mean(outside) + 1 - a) / 2)
        return float((np.mean(inside or outside) + np.mean(outside or inside)) / 2)

    known = shadows.population_members
    known = torch.zeros(MODELS, POPULATION) if known is None else known
    scores = []
    for x in range(EXAMPLES):
        favor = p(seen.logits[-1, x]) / usual(shadows.logits[:, x], shadows.members[:, x])
        wins = 0
        for z in range(POPULATION):
            other = p(population[z]) / usual(shadows.population[:, z], known[:, z])
            wins += favor / other >= gamma
        scores.append(wins / POPULATION)
    return scores


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize(("gamma", "a"), [(1.0, 0.3), (2.0, 0.0), (1.3, 1.0)])
@pytest.mark.parametrize("learned", [True, False])
def test_it_counts_the_pairs(mode: Literal["online", "offline"], gamma: float, a: float, learned: bool) -> None:
    for seed in range(3):
        seen = view(seed, learned_population=learned)
        assert Rmia(mode, gamma, a).infer(seen).tolist() == pytest.approx(counted(seen, mode, gamma, a))


def test_gamma_changes_ties_and_no_other_order() -> None:
    seen = view(4)
    first, second = Rmia(gamma=1.0).infer(seen), Rmia(gamma=1.5).infer(seen)
    ahead = first[:, None] > first[None]
    assert bool(ahead.any())
    assert bool((second[:, None] >= second[None])[ahead].all())


def test_offline_needs_models_without_each_example() -> None:
    seen = view()
    assert seen.shadows is not None
    all_in = replace(seen, shadows=replace(seen.shadows, members=torch.ones(MODELS, EXAMPLES, dtype=torch.bool)))
    with pytest.raises(InputError, match="12 examples have no shadow model trained without them"):
        Rmia("offline").infer(all_in)


@pytest.mark.parametrize("options", [{"mode": "both"}, {"gamma": 0.9}, {"a": 1.1}, {"gamma": float("nan")}])
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Rmia"):
        Rmia(**options)
