"""Small rounds in which an attack's right row differs from that of its usual mistakes.

Every case was worked out by hand from the paper's formula; what it finds is a mistake that some implementation makes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from fedsec.testing.checks import expect, seeded
from fedsec.threat import AttackerView, UpdatePoisoning

__all__ = ["KNOWN_ROWS", "KnownRow", "check_known_rows", "crafting"]

Attack = Callable[[Tensor, int], Tensor]
"""What so many attackers send, all of them the same, beside the honest rows that they see."""


@dataclass(frozen=True)
class KnownRow:
    """Honest updates, and what the paper's attackers send beside them.

    Args:
        attack: its name in scenario files.
        finds: the mistake that gives another row.
        honest: updates of the honest clients, [clients, parameters]; numbers are rows of one parameter.
        num_byzantine: how many attackers there are beside them.
        expected: the attackers' row.
        source: the formula's.
        options: what the attack is set up with.
    """

    attack: str
    finds: str
    honest: Sequence[float] | Sequence[Sequence[float]]
    num_byzantine: int
    expected: float | Sequence[float]
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)


_ALIE = "Baruch et al., NeurIPS 2019, arXiv:1902.06156"
_SHEJWALKAR = "Shejwalkar and Houmansadr, NDSS 2021"
_LINE = [-1, 0, 1, 4]

KNOWN_ROWS: tuple[KnownRow, ...] = (
    KnownRow(
        "alie",
        "z from Phi instead of its inverse, statistics over the attackers too, or the root of the standard deviation",
        range(7),
        3,
        3 - 0.18001237 * sqrt(14 / 3),
        _ALIE,
        {"z": "neurips"},
    ),
    KnownRow(
        "alie",
        "the published formula in the place of the first version's",
        range(7),
        3,
        3 - 0.52440051 * sqrt(14 / 3),
        "arXiv:1902.06156v1",
        {"z": "v1"},
    ),
    KnownRow(
        "alie",
        "the population standard deviation, or the variance",
        [[0, 1], [2, 1], [4, 1]],
        1,
        [-1, 1],
        _ALIE,
        {"z": 1.5},
    ),
    KnownRow(
        "ipm",
        "the mean over all rows, or the sum",
        [[1, -2], [3, 0]],
        1,
        [-1, 0.5],
        "Xie et al., UAI 2019, arXiv:1903.03936",
        {"epsilon": 0.5},
    ),
    KnownRow(
        "min_max", "the smallest or the mean distance as the bound", _LINE, 2, -1, _SHEJWALKAR, {"direction": "sign"}
    ),
    KnownRow("min_max", "a cap on gamma, here 50", [0, 100], 1, 0, _SHEJWALKAR, {"direction": "unit"}),
    KnownRow(
        "min_sum",
        "the smallest sum of squared distances as the bound instead of the largest",
        _LINE,
        2,
        -2,
        _SHEJWALKAR,
        {"direction": "sign"},
    ),
    KnownRow("min_sum", "a cap on gamma, here 50", [0, 100], 1, 0, _SHEJWALKAR, {"direction": "unit"}),
    KnownRow("sign_flip", "a factor of its own", [1, 2], 2, -1, "Li et al., AAAI 2019, arXiv:1811.03761"),
    KnownRow("zero", "noise", [1, 2], 1, 0, "Fraboni et al., AISTATS 2021, arXiv:2006.11901"),
)
"""The attackers' own honest rows are ones. Cases of an attack stand together, in no particular order."""


def crafting(attack: UpdatePoisoning) -> Attack:
    """An attack of fedsec as a function of the honest rows and the number of attackers, whose own rows are ones."""

    def rows(honest: Tensor, num_byzantine: int) -> Tensor:
        columns = honest.shape[1]
        view = AttackerView(
            own=torch.ones(num_byzantine, columns).to(honest),
            honest=honest,
            parameters=torch.ones(columns).to(honest),
            num_clients=len(honest) + num_byzantine,
            num_byzantine=num_byzantine,
            round=1,
            generator=seeded(0),
        )
        return attack.craft(view)

    return rows


def check_known_rows(name: str, make: Callable[..., Attack]) -> None:
    """Compare an attack of any origin with the rows that its paper's formula has in small rounds.

    Args:
        name: the attack's, as in scenario files; see `KNOWN_ROWS`.
        make: gives the attack, anew for each case, from the case's options by name: a function of a float64 matrix
            [honest clients, parameters] and the number of attackers to their row, or their rows. `crafting` makes one
            of an attack of fedsec's kind.

    Raises:
        AssertionError: a row is another; says which mistake gives it.
    """
    cases = [case for case in KNOWN_ROWS if case.attack == name]
    expect(bool(cases), f"an attack of {', '.join(sorted({case.attack for case in KNOWN_ROWS}))}, not {name!r}")
    for case in cases:
        honest = torch.tensor([row if isinstance(row, Sequence) else [row] for row in case.honest], dtype=torch.float64)
        sent = torch.as_tensor(make(**case.options)(honest, case.num_byzantine)).double()
        wanted = torch.tensor(case.expected, dtype=torch.float64).expand(honest.shape[1])
        rows = sent.reshape(-1, honest.shape[1]) if sent.numel() and sent.numel() % honest.shape[1] == 0 else None
        right = rows is not None and bool(((rows - wanted).abs() <= 1e-5).all())
        expect(
            right,
            f"{case.expected} beside {[*case.honest]} from {case.num_byzantine} attackers by {case.source}, not "
            f"{sent.tolist()}; {case.finds}?",
        )
