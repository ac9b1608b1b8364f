"""What holds of every robust rule, tried on rules of any origin: ours, yours, and those of other libraries.

A rule is anything that maps a matrix of updates to a vector. What is tried here needs no more of it; where a rule
breaks a property, the finding says on which input and how far off it is.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from fedsec.testing.checks import expect, random_matrix, seeded
from fedsec.testing.known_values import check_known_values

__all__ = ["PROPERTIES", "Finding", "Property", "PropertyName", "examine_rule"]

PropertyName = Literal[
    "leaves_updates",
    "kind",
    "repeats",
    "permutation",
    "translation",
    "near_duplicates",
    "rotation",
    "scale",
    "equal_rows",
    "one_client",
    "ties",
    "range",
    "precision",
    "breakdown",
    "not_finite",
    "known_values",
]
Rule = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """How a rule is tried.

    Args:
        num_clients: rows of a matrix.
        num_byzantine: how many of them it is set up to withstand.
    """

    num_clients: int
    num_byzantine: int

    def updates(self, seed: int = 0, dtype: torch.dtype = torch.float64, columns: int = 37) -> Tensor:
        """Normal numbers, the same ones for the same seed."""
        return random_matrix(self.num_clients, columns, dtype=dtype, seed=seed)


@dataclass(frozen=True)
class Property:
    """Something that holds of rules.

    Args:
        name: short.
        statement: what holds, as a sentence goes on after "expected:".
        check: raises an AssertionError where it does not.
    """

    name: PropertyName
    statement: str
    check: Callable[[Rule, Setting], None]


@dataclass(frozen=True)
class Finding:
    """A property that a rule breaks.

    Args:
        name: of the property.
        message: what was expected, and what came instead.
    """

    name: PropertyName
    message: str


def _close(actual: Tensor, wanted: Tensor, what: str, tolerance: float = 1e-6) -> None:
    scale = max(float(wanted.double().abs().max()), 1e-30)
    error = float((actual.double() - wanted.double()).abs().max()) / scale
    expect(error <= tolerance, f"{what}; it is off by {error:.2g} of the largest number")


def _leaves_updates(rule: Rule, setting: Setting) -> None:
    for dtype in (torch.float32, torch.float64):
        updates = setting.updates(dtype=dtype) * torch.arange(1, setting.num_clients + 1)[:, None]
        before = updates.clone()
        rule(updates)
        changed = (updates != before).any(1).nonzero().flatten().tolist()
        expect(not changed, f"the caller's updates stay as they are; rows {changed} were changed")


def _kind(rule: Rule, setting: Setting) -> None:
    for dtype in (torch.float32, torch.float64):
        updates = setting.updates(dtype=dtype)
        result = rule(updates)
        expect(isinstance(result, Tensor), f"a tensor of a tensor, not {type(result).__name__}")
        expect(result.shape == updates.shape[1:], f"a value a column, not {tuple(result.shape)}")
        expect(result.dtype == dtype, f"{dtype} of {dtype}, not {result.dtype}")


def _repeats(rule: Rule, setting: Setting) -> None:
    results = {tuple(rule(setting.updates()).tolist()) for _ in range(20)}
    expect(len(results) == 1, f"the same result of the same updates; 20 calls gave {len(results)} different ones")


def _permutation(rule: Rule, setting: Setting) -> None:
    updates = setting.updates()
    for seed in range(3):
        order = torch.randperm(setting.num_clients, generator=seeded(seed))
        _close(rule(updates[order]), rule(updates), "the order of the clients does not matter")


def _translation(rule: Rule, setting: Setting) -> None:
    updates, shift = setting.updates(), setting.updates(seed=2)[0]
    _close(rule(updates + shift), rule(updates) + shift, "a common shift shifts the result")


def _near_duplicates(rule: Rule, setting: Setting) -> None:
    # Weights instead of updates: everybody is far from zero, and nearly equal.
    for dtype, distance in ((torch.float32, 2e-4), (torch.float64, 1e-7)):
        center = setting.updates(seed=2, columns=1003)[0]
        updates = (center + distance * setting.updates(columns=1003)).to(dtype)
        exact = rule(updates.double() - updates[0].double()) + updates[0].double()
        error = (rule(updates).double() - exact).abs().max() / distance
        expect(
            float(error) < 0.1,
            f"nearly equal rows far from zero, a relative {distance} apart in {dtype}, combined as exactly as their "
            f"differences; it is off by {float(error):.2g} of their distance",
        )


def _rotation(rule: Rule, setting: Setting) -> None:
    updates = setting.updates()
    turn = torch.linalg.qr(random_matrix(37, 37, dtype=torch.float64, seed=3)).Q
    _close(rule(updates @ turn), rule(updates) @ turn, "turned updates have a turned result", 1e-5)


def _scale(rule: Rule, setting: Setting) -> None:
    updates = setting.updates()
    for factor in (1e-3, 1e3):
        _close(
            rule(factor * updates), factor * rule(updates), f"{factor:g} times the updates, {factor:g} times the result"
        )


def _equal_rows(rule: Rule, setting: Setting) -> None:
    row = setting.updates(seed=4)[:1]
    _close(rule(row.expand(setting.num_clients, -1).clone()), row[0], "of equal rows the result is that row")


def _one_client(rule: Rule, setting: Setting) -> None:
    row = setting.updates()[:1]
    try:
        result = rule(row.clone())
    except (ValueError, ArithmeticError, IndexError, AssertionError):
        return  # a rule may need more clients than one, and say so
    _close(result, row[0], "of one client the result is its row, or a refusal")


def _ties(rule: Rule, setting: Setting) -> None:
    updates = setting.updates().round()
    updates[1::2] = updates[:-1:2] if setting.num_clients % 2 == 0 else updates[: setting.num_clients - 1 : 2]
    result = rule(updates)
    low, high = updates.amin(0), updates.amax(0)
    inside = ((result >= low - 1e-6) & (result <= high + 1e-6)).all()
    expect(bool(inside), "of rows of which many are equal, a result between the smallest and the largest numbers")


def _range(rule: Rule, setting: Setting) -> None:
    for dtype, size in ((torch.float32, 1e30), (torch.float32, 1e-30), (torch.float64, 1e250), (torch.float64, 1e-250)):
        updates = setting.updates(dtype=dtype)
        result, wanted = rule(size * updates).double() / size, rule(updates.double())
        expect(bool(result.isfinite().all()), f"a finite result of finite {dtype} numbers about {size:g}")
        _close(result, wanted, f"of {dtype} numbers about {size:g} the same result, as large", 1e-3)


def _precision(rule: Rule, setting: Setting) -> None:
    updates = setting.updates(dtype=torch.float32, columns=1003)
    _close(rule(updates), rule(updates.double()), "of float32 the same result as of float64, but for rounding", 1e-5)


def _breakdown(rule: Rule, setting: Setting) -> None:
    updates = setting.updates()
    honest = updates[setting.num_byzantine :]
    middle = honest.mean(0)
    radius = float((honest - middle).norm(dim=1).max())
    # What the geometric median guarantees, Minsker 2015, with room for what only selects rows.
    factor = 2 + 2 * len(honest) / max(1, len(honest) - setting.num_byzantine)
    attacks = {
        "far away": torch.full_like(updates[: setting.num_byzantine], 1e8),
        "far away on both sides": 1e8 * setting.updates(seed=5)[: setting.num_byzantine],
        "just outside": middle + 3 * radius * torch.ones(setting.num_byzantine, 37, dtype=torch.float64),
        "near each other": honest.mean(0) - 1.5 * honest.std(0).expand(setting.num_byzantine, -1),
    }
    for place, rows in attacks.items():
        if not setting.num_byzantine:
            return
        attacked = torch.cat([rows, honest])
        distance = float((rule(attacked) - middle).norm()) / radius
        expect(
            distance <= factor,
            f"{setting.num_byzantine} of {setting.num_clients} rows {place} cannot move the result further than "
            f"{factor:.2g} times the honest rows' radius; they moved it {distance:.2g} times as far",
        )


def _not_finite(rule: Rule, setting: Setting) -> None:
    for value in (torch.nan, torch.inf, -torch.inf):
        for column in (0, -1):
            updates = setting.updates()
            updates[1, column] = value
            try:
                result = rule(updates)
            except (ValueError, ArithmeticError):
                continue  # a refusal is an answer
            expect(bool(result.isfinite().all()), f"a row with {value} is refused or does not reach the result")


PROPERTIES: tuple[Property, ...] = (
    Property("leaves_updates", "the caller's updates stay as they are", _leaves_updates),
    Property("kind", "a vector of the updates' dtype", _kind),
    Property("repeats", "the same result of the same updates", _repeats),
    Property("permutation", "the order of the clients does not matter", _permutation),
    Property("translation", "a common shift shifts the result", _translation),
    Property("near_duplicates", "nearly equal rows far from zero are told apart", _near_duplicates),
    Property("rotation", "turned updates have a turned result; of rules that look at distances only", _rotation),
    Property("scale", "larger updates have a larger result by the same factor", _scale),
    Property("equal_rows", "of equal rows the result is that row", _equal_rows),
    Property("one_client", "of one client the result is its row, or a refusal", _one_client),
    Property("ties", "of rows of which many are equal, a result between them", _ties),
    Property("range", "very large and very small finite numbers are combined as others are", _range),
    Property("precision", "of float32 the same result as of float64, but for rounding", _precision),
    Property("breakdown", "Byzantine rows, no more than withstood, cannot move the result far", _breakdown),
    Property("not_finite", "a row with NaN or infinity is refused or does not reach the result", _not_finite),
)
"""What holds of most robust rules. A rule to which one does not apply says so: `rotation` does not hold of rules that
work coordinate by coordinate, `scale` not of rules with a bound in absolute units, `translation` not of rules that look
at norms."""


def examine_rule(
    make: Callable[[int], Rule],
    *,
    num_clients: int = 11,
    num_byzantine: int = 2,
    like: str | None = None,
    skip: Collection[PropertyName] = (),
) -> tuple[Finding, ...]:
    """Try a rule of any origin on all properties, and on known values of its kind.

        findings = examine_rule(lambda f: their_library.Krum(f), like="krum")

    Args:
        make: gives the rule from the number of Byzantine clients to withstand, anew for each call; the rule maps a
            matrix [clients, parameters] to a vector of its dtype.
        num_clients: rows that it is tried with.
        num_byzantine: what it is set up for, of so many rows.
        like: the name of the rule that it is meant to be, for known values (see `KNOWN_VALUES`); None for none.
        skip: properties that do not apply to it.

    Returns:
        What it breaks; nothing for a rule that keeps everything.
    """
    setting = Setting(num_clients, num_byzantine)
    findings = []
    for one in PROPERTIES:
        if one.name not in skip:
            findings += _tried(one.name, partial(_check, one, make, setting))
    if like is not None and "known_values" not in skip:
        findings += _tried(
            "known_values", lambda: check_known_values(like, lambda *, num_byzantine: make(num_byzantine))
        )
    return tuple(findings)


def _check(prop: Property, make: Callable[[int], Rule], setting: Setting) -> None:
    def rule(updates: Tensor) -> Tensor:
        return make(setting.num_byzantine)(updates)  # anew, for rules that remember

    prop.check(rule if prop.name == "kind" else partial(_vector, rule), setting)


def _vector(rule: Rule, updates: Tensor) -> Tensor:
    """A rule's result as a vector of the updates' dtype; that it is of another kind is one finding, not all."""
    result: object = rule(updates)
    expect(isinstance(result, Tensor), f"a tensor of a tensor, not {type(result).__name__}")
    assert isinstance(result, Tensor)
    return result.to(updates.dtype)


def _tried(name: PropertyName, check: Callable[[], None]) -> list[Finding]:
    try:
        check()
    except AssertionError as error:
        return [Finding(name, str(error))]
    except Exception as error:  # a crash is a finding, too
        return [Finding(name, f"{type(error).__name__}: {error}")]
    return []
