"""The ensemble against each of its members, tried one by one on the rule itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.attacks import ALIE, IPM, ROP, Adaptive, Auto, Mimic, MinMax, MinSum, SignFlip
from fedsec.defense import Aggregator, AggregatorTrial
from fedsec.defenses import NNM, Krum, Mean, Median, Pipeline, TrimmedMean
from fedsec.errors import InputError
from fedsec.threat import AttackerView, UpdatePoisoning


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=seeded(seed), dtype=torch.float64) + 0.3


def seen(rule: Aggregator, round_number: int = 1, last: Tensor | None = None) -> AttackerView:
    own = normal(2, 30, 1 + round_number)
    return AttackerView(
        own=own,
        honest=normal(7, 30, 100 + round_number),
        parameters=torch.zeros_like(own[0]),
        num_clients=9,
        num_byzantine=2,
        round=round_number,
        generator=seeded(round_number),
        defense=AggregatorTrial(rule, seeded(0)),
        last_aggregate=last,
    )


def damage(rule: Aggregator, view: AttackerView, rows: Tensor) -> float:
    return float((rule(torch.cat([view.honest, rows])) - view.honest.mean(0)).norm())


MEMBERS: list[Callable[[], UpdatePoisoning]] = [
    *(lambda z=z: ALIE(z=z) for z in (-2.0, -1.0, 0.3, 1.0, 1.5, 3.0)),
    *(lambda epsilon=epsilon: IPM(epsilon) for epsilon in (0.1, 0.5, 1.0, 2.0, 10.0)),
    *(lambda direction=direction: MinMax(direction) for direction in ("unit", "sign", "std")),
    *(lambda direction=direction: MinSum(direction) for direction in ("unit", "sign", "std")),
    lambda: Mimic(),
    lambda: ROP(),
    lambda: SignFlip(),
    lambda: Adaptive("distance"),
]


@pytest.mark.parametrize(
    "rule", [Median(), Krum(2), TrimmedMean(num_trimmed_per_side=2), Pipeline([NNM(2), Median()]), Mean()]
)
def test_no_attack_of_the_ensemble_does_more(rule: Aggregator) -> None:
    view = seen(rule)
    rows = Auto("distance").craft(view)
    reached = damage(rule, view, rows)
    for make in MEMBERS:
        member = make()
        alone = damage(rule, view, member.craft(seen(rule)))
        assert reached >= alone * (1 - 1e-3), member
    assert view.report["damage"] == pytest.approx(reached)
    each = {name.removeprefix("damage of "): value for name, value in view.report.items() if "damage of" in name}
    assert list(each) == ["alie", "ipm", "min_max", "min_sum", "mimic", "rop", "sign_flip", "adaptive"]
    assert max(each, key=lambda name: each[name]) == view.report["attack"]
    for name, member in {
        "min_max": [MinMax(kind) for kind in ("unit", "sign", "std")],
        "sign_flip": [SignFlip()],
    }.items():
        expected = max(damage(rule, view, attack.craft(seen(rule))) for attack in member)
        assert each[name] == pytest.approx(expected)


def test_the_objective_is_what_it_maximizes() -> None:
    rule, view = Median(), seen(Median())
    mean = view.honest.mean(0)

    def opposition(rows: Tensor) -> float:
        return float((mean - rule(torch.cat([view.honest, rows]))) @ mean / mean.norm())

    against, aside = Auto("opposition").craft(view), Auto("distance").craft(seen(rule))
    assert opposition(against) > opposition(aside)
    assert damage(rule, view, aside) > damage(rule, view, against)


def test_members_that_remember_do_so_through_its_state() -> None:
    """Going on from a state gives the same rows, to the bit, as never having stopped."""
    whole = Auto(attacks=["mimic", "rop"])
    rows, states = [], []
    for number in (1, 2, 3):
        states.append({name: tensor.clone() for name, tensor in whole.state().items()})
        rows.append(whole.craft(seen(Median(), number, normal(1, 30, number)[0] if number > 1 else None)))
    assert states[0] == {}
    assert {name.partition(".")[0] for name in states[1]} == {"mimic"}
    for number in (2, 3):
        other = Auto(attacks=["mimic", "rop"])
        other.restore(states[number - 1])
        again = other.craft(seen(Median(), number, normal(1, 30, number)[0]))
        assert torch.equal(again, rows[number - 1])
    with pytest.raises(InputError, match="do not remember"):
        Auto(attacks=["alie"]).restore(states[1])


def test_where_no_attack_helps_honest_updates_are_sent() -> None:
    class Deaf(Median):
        """Hears the first row only."""

        def reduce(self, chunk: Tensor, cohort: Any, scratch: Any) -> Tensor:
            return chunk[0]

    view = seen(Deaf())
    assert torch.equal(Auto().craft(view), view.own)
    assert view.report["attack"] == "none"


def test_what_it_cannot_work_with_is_said() -> None:
    wrong: list[dict[str, Any]] = [
        {"objective": "loss"},
        {"knowledge": "all"},
        {"attacks": ["fire"]},
        {"attacks": []},
        {"attacks": ["mimic"], "knowledge": "own"},
    ]
    for options in wrong:
        with pytest.raises(InputError, match=f"Auto: {next(iter(options))}"):
            Auto(**options)
