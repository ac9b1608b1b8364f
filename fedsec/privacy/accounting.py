"""What training with DP-SGD has spent: epsilon of a history of noisy steps.

The numbers are those of Opacus's accountants (opacus.accountants), for the Poisson-subsampled Gaussian mechanism: each
step takes every example independently with the sampling rate, and adds noise of standard deviation noise_multiplier
times the sensitivity. Any other sampling voids them. The unit is one example, added or removed.

- rdp: Renyi DP, Mironov, Talwar, Zhang 2019, arXiv:1908.10530; converted by Balle et al., AISTATS 2020,
  arXiv:1905.09982. An upper bound. Opacus's orders end at 63; where its optimum lies there (little is spent), larger
  orders are tried too, which only tightens the bound.
- prv: numerical composition, Gopi, Lee, Wutschitz, NeurIPS 2021, arXiv:2106.02848. A tighter upper bound.
- gdp: a central limit theorem, Bu, Dong, Long, Su 2020, arXiv:1911.11607. An approximation, which may underestimate.
"""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64

from fedsec.errors import InputError

Accountant = Literal["rdp", "prv", "gdp"]
LARGER_ORDERS = (64, 72, 80, 96, 128, 160, 192, 256, 384, 512, 768, 1024)
"""Renyi orders beyond Opacus's; above 1,024 the binomial coefficients leave float64."""
PRV_LARGEST = 20.0
"""Epsilon by rdp above which prv is not tried: its grid grows with epsilon, until it hangs or fails."""
PRV_POINTS = 2**22
"""Grid points above which prv is not tried; so many take seconds."""
PRV_SMALLEST_DELTA = 1e-10
"""Delta below which prv is not tried: rounding in its convolutions then shows, and its bound is none. Without sampling,
where the truth is known, it fell short by 0.013 after 400 steps at 1e-13 and by 0.2 after 50,000 at 1e-12."""
PRV_ERROR = 0.01
"""Opacus's default for how far prv's bound may lie above the true epsilon."""
LARGE_DELTA = 1e-2
"""Delta above which a guarantee is told to be weak, whoever chose it; that of ten clients is 0.079 by default."""
GDP_NOTE = "gdp is a central limit theorem's approximation and may underestimate epsilon (arXiv:2106.02848)"


@dataclass(frozen=True)
class Spending:
    """Equal noisy steps on a Poisson sample each.

    Args:
        noise_multiplier: standard deviation of the noise over the sensitivity (the clipping bound).
        sample_rate: probability with which each example is in a step's batch, in [0, 1].
        steps: how many.

    Raises:
        InputError: a number out of range.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise InputError(f"noise_multiplier must be finite and not negative, got {self.noise_multiplier}")
        if not 0 <= self.sample_rate <= 1:
            raise InputError(f"sample_rate must lie in [0, 1], got {self.sample_rate}")
        if self.steps < 0:
            raise InputError(f"steps must not be negative, got {self.steps}")


@dataclass(frozen=True)
class Epsilon:
    """A privacy guarantee, (epsilon, delta)-differential privacy, and how it was computed.

    Attributes:
        value: epsilon; infinite where there is no guarantee.
        delta: what is left over: with a unit, outcomes may be likelier than exp(epsilon) times what they are without it
            by delta in all.
        accountant: which one gave the number; not always the one that was asked for.
        note: what a reader must know about it; empty if nothing.
    """

    value: float
    delta: float
    accountant: Accountant
    note: str = ""


def epsilon(history: Iterable[Spending], delta: float, accountant: Accountant = "rdp") -> Epsilon:
    """Epsilon of all steps of a history together; its order does not matter.

    Args:
        history: what was done.
        delta: in (0, 1).
        accountant: `rdp`, `prv` or `gdp`. Where prv's or gdp's numbers are out of reach, rdp's stand in, and the note
            says so. It also says where delta is too large to promise much.

    Raises:
        InputError: an unknown accountant, or delta out of range.
    """
    check_delta(delta)
    check_accountant(accountant)
    steps = merged(history)
    spent = _epsilon(steps, delta, accountant)
    # Who did nothing has spent nothing; but an epsilon of 0 after steps is what a large delta makes of them.
    if delta <= LARGE_DELTA or spent.value == math.inf or not steps:
        return spent
    large = f"delta {delta:.2g} is large: publishing each unit outright with that probability would pass as well"
    return replace(spent, note="; ".join(note for note in (spent.note, large) if note))


def merged(history: Iterable[Spending]) -> tuple[Spending, ...]:
    """A history with equal steps counted together and those left out that cost nothing, in a fixed order."""
    steps: dict[tuple[float, float], int] = {}
    for spending in history:
        if spending.steps and spending.sample_rate:
            kind = spending.noise_multiplier, spending.sample_rate
            steps[kind] = steps.get(kind, 0) + spending.steps
    return tuple(Spending(noise, rate, count) for (noise, rate), count in sorted(steps.items()))


def check_delta(delta: float) -> None:
    """Refuse a delta outside (0, 1).

    Raises:
        InputError: it is.
    """
    if not 0 < delta < 1:
        raise InputError(f"delta must lie in (0, 1), got {delta}")


def default_delta(units: int) -> float:
    """n^-1.1, and at most one half: with a single unit it would be 1, which promises nothing.

    Args:
        units: n, what a guarantee is of: examples of a client, or clients.
    """
    return min(0.5, math.pow(units, -1.1))


def check_accountant(accountant: str) -> None:
    """Refuse an unknown accountant.

    Raises:
        InputError: it is none of `Accountant`.
    """
    if accountant not in get_args(Accountant):
        raise InputError(f"accountant must be one of {', '.join(get_args(Accountant))}, got {accountant!r}")


@lru_cache(maxsize=4096)
def _epsilon(history: tuple[Spending, ...], delta: float, accountant: Accountant) -> Epsilon:
    """Clients of equal sizes share their histories: each is worked out once."""
    if not history:
        return Epsilon(0.0, delta, accountant)
    if any(spending.noise_multiplier == 0 for spending in history):
        return Epsilon(math.inf, delta, accountant, "steps without noise give no guarantee")
    bound = _rdp(history, delta)
    if accountant == "prv":
        return _prv(history, delta, bound)
    return _gdp(history, delta, bound) if accountant == "gdp" else bound


def _rdp(history: tuple[Spending, ...], delta: float) -> Epsilon:
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import get_privacy_spent

    orders = list(RDPAccountant.DEFAULT_ALPHAS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus warns of optima at either end; one is dealt with, one noted
        spent = _renyi(history, tuple(orders))
        value, order = get_privacy_spent(orders=orders, rdp=spent, delta=delta)
        if order == orders[-1]:
            orders += LARGER_ORDERS
            spent = np.concatenate([spent, _renyi(history, LARGER_ORDERS)])
            value, order = get_privacy_spent(orders=orders, rdp=spent, delta=delta)
    note = "the smallest Renyi order is the best: the bound is loose" if order == orders[0] else ""
    # The conversion may undershoot zero where hardly anything is spent.
    return Epsilon(max(0.0, float(value)), delta, "rdp", note)


def _renyi(history: tuple[Spending, ...], orders: tuple[float, ...]) -> Float64[np.ndarray, "orders"]:
    """Renyi divergences add up over steps, so a longer history costs nothing more."""
    total = np.zeros(len(orders))
    for spending in history:
        total += spending.steps * _renyi_step(spending.noise_multiplier, spending.sample_rate, orders)
    return total


@lru_cache(maxsize=1024)
def _renyi_step(noise_multiplier: float, sample_rate: float, orders: tuple[float, ...]) -> np.ndarray:
    """Of one step, by order; infinite where Opacus cannot compute it."""
    from opacus.accountants.analysis.rdp import compute_rdp

    with np.errstate(all="ignore"):
        values = [_tried(compute_rdp, q=sample_rate, noise_multiplier=noise_multiplier, orders=[o]) for o in orders]
    return np.array(values)


def _tried(compute: Any, **given: Any) -> float:
    try:
        value = float(compute(steps=1, **given)[0])
    except (ValueError, OverflowError, ZeroDivisionError):
        return math.inf
    return value if value >= 0 else math.inf if math.isnan(value) else 0.0


def _prv(history: tuple[Spending, ...], delta: float, bound: Epsilon) -> Epsilon:
    if not bound.value <= PRV_LARGEST:
        return _instead(bound, "prv", f"epsilon is about {bound.value:.3g}, beyond {PRV_LARGEST:g}")
    if delta < PRV_SMALLEST_DELTA:
        return _instead(bound, "prv", f"delta lies below {PRV_SMALLEST_DELTA:g}, where its rounding shows")
    points = _prv_points(history, delta)
    if points > PRV_POINTS:
        return _instead(bound, "prv", f"its grid would have {points:.3g} points")
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(spending.noise_multiplier, spending.sample_rate, spending.steps) for spending in history]
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value = float(accountant.get_epsilon(delta=delta, eps_error=PRV_ERROR))
    except (ValueError, RuntimeError, ArithmeticError, IndexError, MemoryError) as error:
        return _instead(bound, "prv", f"{type(error).__name__}: {error}".splitlines()[0])
    if not value <= bound.value:  # neither may lie below the truth, so the smaller one is right
        return _instead(bound, "prv", f"it gave {value:.4g}, more than rdp's bound")
    return Epsilon(max(0.0, value), delta, "prv")


def _prv_points(history: tuple[Spending, ...], delta: float) -> float:
    """Size of the grid that Opacus's prv would lay, by its own rule: its half-width is an epsilon by rdp."""
    error = delta / 1000
    total = sum(spending.steps for spending in history)
    half = _rdp(history, error / 4).value
    for spending in history:
        half = max(half, _rdp((replace(spending, steps=1),), error / (8 * total)).value)
    mesh = PRV_ERROR / math.sqrt(total * math.log(12 / error) / 2)
    return 2 * (max(half, PRV_ERROR) + 3) / mesh


def _gdp(history: tuple[Spending, ...], delta: float, bound: Epsilon) -> Epsilon:
    from opacus.accountants.analysis.gdp import compute_mu_poisson, delta_eps_mu, eps_from_mu

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        # In the limit mu's squares add up, also over different steps.
        squares = 0.0
        for spending in history:
            noise, rate = spending.noise_multiplier, spending.sample_rate
            squares += float(compute_mu_poisson(steps=spending.steps, noise_multiplier=noise, sample_rate=rate)) ** 2
        mu = math.sqrt(squares)
        if not math.isfinite(mu):
            return _instead(bound, "gdp", "its mu overflows")
        if delta_eps_mu(eps=0.0, mu=mu) <= delta:
            return Epsilon(0.0, delta, "gdp", GDP_NOTE)
        try:
            value = float(eps_from_mu(mu=mu, delta=delta))
        except (ValueError, ArithmeticError):
            return _instead(bound, "gdp", "epsilon is beyond its range of 500")
    return Epsilon(value, delta, "gdp", GDP_NOTE)


def _instead(bound: Epsilon, asked: str, why: str) -> Epsilon:
    notes = [f"by rdp instead of {asked}: {why}", bound.note]
    return replace(bound, note="; ".join(note for note in notes if note))
