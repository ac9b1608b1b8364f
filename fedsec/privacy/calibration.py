"""How much noise a privacy budget asks for."""

import math
from functools import cache, lru_cache

from fedsec.errors import InputError
from fedsec.privacy.accounting import Accountant, Spending, check_accountant, check_delta, epsilon

DIGITS = 1000
"""Noise multipliers are whole multiples of one over this."""
LARGEST = 10_000
"""Noise multiplier beyond which a target counts as unreachable."""


@lru_cache(maxsize=1024)  # asked before the run and by each cell
def calibrate(
    target_epsilon: float, delta: float, sample_rate: float, steps: int, accountant: Accountant = "rdp"
) -> float:
    """The least noise multiplier, to three decimals, whose epsilon does not exceed the target.

    Epsilon falls as the noise grows, so a bracketing search finds it; what it finds always keeps to the target.

    Args:
        target_epsilon: the budget, positive.
        delta: in (0, 1).
        sample_rate: probability of each example to be in a step's batch, in (0, 1].
        steps: of the whole run.
        accountant: see `epsilon`; where it falls back to rdp, so does this.

    Raises:
        InputError: a number out of range, or a target that no noise reaches.
    """
    check_delta(delta)
    check_accountant(accountant)
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise InputError(f"target_epsilon must be positive and finite, got {target_epsilon}")
    if not 0 < sample_rate <= 1 or steps < 1:
        raise InputError(f"expected a sample_rate in (0, 1] and at least one step, got {sample_rate} and {steps}")

    @cache
    def spent(thousandths: int) -> float:
        return epsilon([Spending(thousandths / DIGITS, sample_rate, steps)], delta, accountant).value

    high = DIGITS
    if accountant != "rdp":  # its evaluations are cheap, and its answer is near the others'
        high = round(DIGITS * calibrate(target_epsilon, delta, sample_rate, steps))
    low = 0
    while spent(high) > target_epsilon:
        if high >= DIGITS * LARGEST:
            raise InputError(
                f"no noise_multiplier up to {LARGEST:,} keeps {steps} steps at sample_rate {sample_rate:.4g} within "
                f"epsilon {target_epsilon:g} at delta {delta:g} (the least is {spent(high):.3g} by {accountant}); "
                "expected a larger target_epsilon, or another accountant"
            )
        low, high = high, min(2 * high, DIGITS * LARGEST)
    while low == 0 and high > 1:
        if spent(high // 2) > target_epsilon:
            low = high // 2
        else:
            high //= 2
    while high - low > 1:
        middle = _between(low, high, spent(low), spent(high), target_epsilon)
        halved = high - low
        for guess in (middle, (low + high) // 2):
            if low < guess < high and 2 * (high - low) > halved:  # bisect where the first guess did not cut enough
                low, high = (guess, high) if spent(guess) > target_epsilon else (low, guess)
    return high / DIGITS


def _between(low: int, high: int, above: float, below: float, target: float) -> int:
    """Where a power law through two noise multipliers' epsilons meets the target: epsilon nearly follows one."""
    if not (math.isfinite(above) and 0 < below < above):
        return (low + high) // 2
    share = math.log(above / target) / math.log(above / below)
    return min(high - 1, max(low + 1, round(low * math.pow(high / low, share))))
