"""Small inputs on which a rule's right result differs from that of its usual mistakes.

Every case was worked out by hand or by trying all subsets, from the paper's formula; what it finds is a mistake that
some implementation makes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedsec.testing.checks import expect

__all__ = ["KNOWN_VALUES", "KnownValue", "check_known_values"]

Rule = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class KnownValue:
    """An input, and what the paper's rule makes of it.

    Args:
        rule: its name in scenario files.
        finds: the mistake that gives another result.
        rounds: the updates of one or several rounds, [clients, parameters] each; numbers are rows of one parameter.
        num_byzantine: how many Byzantine clients the rule is set up for.
        expected: the result of the last round: a vector or, of what mixes rows, a matrix; numbers as in `rounds`.
        source: the formula's.
        options: what the rule is set up with beside the number of Byzantine clients.
        tolerance: how far the result may be off, for methods that stop at a tolerance of their own.
    """

    rule: str
    finds: str
    rounds: Sequence[Sequence[float] | Sequence[Sequence[float]]]
    num_byzantine: int
    expected: float | Sequence[float] | Sequence[Sequence[float]]
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-6


_SEEN_APART = [5.0, 12.0, 6.0, 12.0, 4.0, 11.0, 0.0, 1.0, 9.0]
_PLANE = [[0.0, 0.0], [4.0, 1.0], [1.0, 5.0], [2.0, 2.0], [9.0, 3.0], [3.0, 4.0], [8.0, 9.0]]
_KRUM = "Blanchard et al., NeurIPS 2017, arXiv:1703.02757"

KNOWN_VALUES: tuple[KnownValue, ...] = (
    KnownValue(
        "median", "the lower of the middle two instead of their midpoint", [[1, 2, 10, 31]], 1, 6.0, "arXiv:1803.01498"
    ),
    KnownValue(
        "trimmed_mean",
        "a share of the clients that rounds to none, or a result divided by the wrong number",
        [[0, 1, 2, 3, 100]],
        1,
        2.0,
        "Yin et al., ICML 2018, arXiv:1803.01498",
    ),
    KnownValue(
        "meamed", "the mean instead of the median as the middle", [[0, 1, 2, 10, 60]], 2, 1.0, "arXiv:1802.10116"
    ),
    KnownValue(
        "krum",
        "neighbors counted wrongly (n-f-1 of them, or the row itself), or distances to the first or fourth power",
        [_SEEN_APART],
        3,
        4.0,
        _KRUM,
    ),
    KnownValue(
        "multi_krum",
        "neighbors counted wrongly (n-f-1 of them, or the row itself), or distances to the first or fourth power",
        [_SEEN_APART],
        3,
        4.0,
        _KRUM,
        {"num_selected": 1},
    ),
    KnownValue("multi_krum", "a number of rows that does not follow from f", [[0, 1, 2, 3, 4, 40, 50]], 2, 2.0, _KRUM),
    KnownValue(
        "bulyan",
        "one ranking instead of Krum anew on what is left, or one value too few around the median",
        [[10, 15, 16, 1, 0, 4, 6, 5, 11, 3, 12, 13, 2, 7, 14]],
        3,
        5.0,
        "El Mhamdi et al., ICML 2018, arXiv:1802.07927",
    ),
    KnownValue(
        "geometric_median",
        "a few steps from the origin instead of a search to a tolerance",
        [[1000, 1001, 1002, 1001, 1000.5, 1e6]],
        1,
        1001.0,
        "Pillutla et al., IEEE TSP 2022, arXiv:1912.13445",
        tolerance=0.5,
    ),
    KnownValue(
        "nnm",
        "the row itself left out of its neighbors",
        [[0, 1, 10]],
        1,
        [[0.5], [0.5], [5.5]],
        "Allouah et al., AISTATS 2023, arXiv:2302.01772",
    ),
    KnownValue(
        "arc",
        "another number of clipped rows than floor(2 f/n (n-f))",
        [[10, 1, 2, 3, 4]],
        2,
        [[3.0], [1.0], [2.0], [3.0], [3.0]],
        "Allouah et al., ICLR 2025, arXiv:2405.14432",
    ),
    KnownValue("cge", "norms not compared, or too many rows dropped", [[3, -1, 2, -50, 4]], 1, 2.0, "arXiv:2008.04699"),
    KnownValue(
        "centered_clipping",
        "a center that begins anew in each round",
        [[0.5, 0.5, 100], [0.5, 0.5, 100]],
        1,
        8 / 9,
        "Karimireddy et al., ICML 2021, arXiv:2012.10333",
    ),
    KnownValue(
        "mda",
        "another subset than the one of smallest diameter",
        [_PLANE],
        2,
        [2.0, 2.4],
        "El Mhamdi et al., arXiv:1905.03853",
    ),
    KnownValue(
        "smea",
        "a subset that one step of a power iteration found, not the one of smallest top eigenvalue",
        [_PLANE],
        3,
        [2.25, 1.75],
        "Allouah et al., ICML 2023, arXiv:2302.04787",
    ),
)
"""Cases of a rule stand together, in no particular order."""


def check_known_values(name: str, make: Callable[..., Rule]) -> None:
    """Compare a rule with the values that its paper's formula has on small inputs.

    Args:
        name: the rule's, as in scenario files; see `KNOWN_VALUES`.
        make: gives the rule, anew for each case, from `num_byzantine` and the case's further options by name; the rule
            maps a float64 matrix [clients, parameters] to a vector or, of what mixes rows, a matrix.

    Raises:
        AssertionError: a value is another; says which mistake gives it.
    """
    cases = [case for case in KNOWN_VALUES if case.rule == name]
    expect(bool(cases), f"a rule of {', '.join(sorted({case.rule for case in KNOWN_VALUES}))}, not {name!r}")
    for case in cases:
        rule = make(num_byzantine=case.num_byzantine, **case.options)
        for updates in case.rounds:
            result = torch.as_tensor(rule(_matrix(updates))).double()
        wanted = torch.tensor(case.expected, dtype=torch.float64)
        result = result.flatten() if wanted.ndim < 2 else result
        error = float((result - wanted).abs().max()) if result.numel() == wanted.numel() else torch.inf
        expect(
            error <= case.tolerance,
            f"{case.expected} of {case.rounds[-1]} with num_byzantine {case.num_byzantine} by {case.source}, not "
            f"{result.tolist()}; {case.finds}?",
        )


def _matrix(updates: Sequence[Any]) -> Tensor:
    rows = torch.tensor(updates, dtype=torch.float64)
    return rows[:, None] if rows.ndim == 1 else rows
