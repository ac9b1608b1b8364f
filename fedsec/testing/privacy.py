"""The checks of `fedsec.testing` for differential privacy: in clients' training, and by the server."""

import math
from functools import partial

import torch

from fedsec.defense import LocalDefense, PrivateAggregator
from fedsec.errors import InputError
from fedsec.testing.checks import devices, expect, expect_error, global_randomness_untouched, random_matrix, seeded

__all__ = ["check_local_defense", "check_private_aggregator"]


def check_local_defense(defense: LocalDefense) -> None:
    """Put a defense in local training through its contract.

    Args:
        defense: the defense.

    Raises:
        AssertionError: the defense breaks the contract.
    """
    expect(defense.when_spent in ("client", "run"), "`when_spent` must be client or run")
    expect(defense.budget is None or defense.budget > 0, "`budget` must be positive, or None")
    deltas = [defense.delta_of(largest) for largest in (1, 100, 10**6)]
    expect(all(0 < delta < 1 for delta in deltas), f"delta must lie in (0, 1), not {deltas}")
    expect(deltas == sorted(deltas, reverse=True), "delta must not grow with the largest client")
    private = defense.private(100, 20, 50)
    expect(
        private == defense.private(100, 20, 50, largest=100), "the largest client is this one unless another is named"
    )
    more = defense.private(100, 20, 500).noise_of(0)
    expect(more >= private.noise_of(0), "a longer run must not get less noise")
    ledger = defense.ledger(3, 100)
    expect((len(ledger.spent), ledger.delta) == (3, defense.delta_of(100)), "a ledger of 3 clients, with delta_of(100)")
    for batch_size, steps in ((0, 1), (101, 1), (20, 0)):
        expect_error(InputError, partial(defense.private, 100, batch_size, steps), f"batch {batch_size}, {steps} steps")
    expect_error(InputError, partial(defense.private, 100, 20, 1, largest=99), "a largest client smaller than this one")
    for device in devices():
        for dtype in (torch.float32, torch.float64):
            _check_mean(defense, private.noise_of(0), private.max_grad_norm, device, dtype)
        for dtype in (torch.bfloat16, torch.float16):
            _check_half(defense, private.max_grad_norm, device, dtype)
    for rows, batch in ((torch.zeros(3), 1.0), (torch.zeros(2, 3).long(), 1.0), (torch.zeros(2, 3), 0.0)):
        wrong = partial(defense.noisy_mean, rows, batch, seeded(1), noise_multiplier=1.0)
        expect_error(InputError, wrong, f"{rows.dtype} of {tuple(rows.shape)}, expected batch {batch}")


def _check_mean(defense: LocalDefense, noise: float, norm: float, device: str, dtype: torch.dtype) -> None:
    rows = random_matrix(6, 4000, dtype=dtype, device=device)
    before = rows.clone()

    def mean(rows: torch.Tensor, noise: float, seed: int = 1) -> torch.Tensor:
        return defense.noisy_mean(rows, 5.0, seeded(seed), noise_multiplier=noise)

    with global_randomness_untouched():
        output = mean(rows, noise)
    expect(torch.equal(rows, before), "per-example gradients must not change")
    expect(
        (output.dtype, output.device, output.shape) == (dtype, rows.device, rows.shape[1:]),
        "one value a parameter",
    )
    expect(torch.equal(output, mean(rows, noise)), "equal generators must give equal noise")
    for place in range(6):
        for scale in (1e-3, 1.0, 1e4):
            changed = rows.clone()
            changed[place] *= scale
            others = torch.cat([changed[:place], changed[place + 1 :]])
            moved = 5 * float((mean(changed, 0.0) - mean(others, 0.0)).double().norm())
            expect(moved <= norm * (1 + 1e-3), f"an example may move the sum by {norm}, not by {moved}")
    for wrong in (torch.nan, torch.inf):
        broken = rows.clone()
        broken[2, 7] = wrong
        expect(bool(mean(broken, 0.0).isfinite().all()), "an example that is not finite must be left out")
        expect(torch.equal(mean(broken[2:3], 1.0), mean(rows[:0], 1.0)), "examples that are not finite leave noise")
    nothing = mean(rows[:0], 1.0)
    expect(math.isclose(float(nothing.double().std()), norm / 5, rel_tol=0.05), "noise of deviation C over the batch")
    expect(not torch.equal(nothing, mean(rows[:0], 1.0, seed=2)), "other generators must give other noise")


def _check_half(defense: LocalDefense, norm: float, device: str, dtype: torch.dtype) -> None:
    """Rounding the mean moves entries up and down; rounding norms or weights makes all of them longer."""
    rows = random_matrix(6, 4000, dtype=torch.float32, device=device).to(dtype)
    for place in range(6):
        for scale in (1e-3, 1.0, 100.0):
            average = defense.noisy_mean(rows[place : place + 1] * scale, 1.0, seeded(1), noise_multiplier=0.0)
            expect(average.dtype == dtype, f"the mean of {dtype} must be {dtype}")
            length = float(average.double().norm())
            expect(length <= norm * (1 + 1e-3), f"an example of {dtype} may have a length of {norm}, not {length}")


def check_private_aggregator(rule: PrivateAggregator) -> None:
    """Put a rule that hides whole clients through its contract.

    Args:
        rule: the rule; it is prepared for a run of its own.

    Raises:
        AssertionError: the rule breaks the contract.
    """
    rule.prepare(50, 0.2, 20)
    expect(rule.round_cost is not None and rule.round_cost.sample_rate == 0.2, "`round_cost` after `prepare`")
    deltas = [rule.delta_of(clients) for clients in (10, 1000)]
    expect(1 > deltas[0] >= deltas[1] > 0, f"delta must lie in (0, 1) and not grow with the clients, not {deltas}")
    for clients, rate, rounds in ((0, 0.2, 20), (50, 0.0, 20), (50, 1.1, 20), (50, 0.2, 0)):
        wrong = partial(rule.prepare, clients, rate, rounds)
        expect_error(InputError, wrong, f"{clients} clients, rate {rate}, {rounds} rounds")
    start = {name: tensor.clone() for name, tensor in rule.state().items()}
    for device in devices():
        updates = random_matrix(10, 2000, device=device)
        before = updates.clone()
        expect_error(InputError, partial(rule, updates), "no generator")
        with global_randomness_untouched():
            release = rule.aggregate(updates, generator=seeded(1))
        moved = {name: tensor.clone() for name, tensor in rule.state().items()}
        expect(torch.equal(updates, before), "updates must not change")
        expect(release.vector.shape == (2000,) and release.vector.device == updates.device, "one value a parameter")
        expect(abs(float(release.influence.sum()) - 1) < 1e-6, "influence must sum to one")
        rule.restore(start)
        expect(
            torch.equal(rule(updates, generator=seeded(1)), release.vector),
            "equal generators must give equal noise",
        )
        expect(all(torch.equal(tensor, rule.state()[name]) for name, tensor in moved.items()), "state and restore")
        rule.restore(start)
        expect(not torch.equal(rule(updates, generator=seeded(2)), release.vector), "others must give other noise")
        rule.restore(start)
        _check_reach(rule, updates, start)
        broken = updates.clone()
        broken[7, 5] = torch.nan
        expect(rule.aggregate(broken, generator=seeded(1)).rejected == (7,), "rows that are not finite are rejected")
        rule.restore(start)


def _check_reach(rule: PrivateAggregator, updates: torch.Tensor, start: dict[str, torch.Tensor]) -> None:
    """A client moves the release by no more than a bound, however long its update, and the noise is as charged."""
    noise = _nobody(rule, updates[0], start)

    def moved(row: torch.Tensor, others: torch.Tensor) -> float:
        rule.restore(start)
        with_it = rule(torch.cat([others, row]), generator=seeded(1))
        rule.restore(start)
        without = rule(others, generator=seeded(1)) if len(others) else noise
        return float((with_it - without).double().norm())

    # Equal generators give equal noise, which cancels.
    bound = moved(updates[3:4] * 1e3, updates[:0])
    for scale in (1.0, 1e3, 1e6):
        for others in (updates[:0], updates[:3]):
            reach = moved(updates[3:4] * scale, others)
            message = f"an update {scale:g} times as long may move the release by {bound:.4g}, not by {reach:.4g}"
            expect(reach <= bound * (1 + 1e-3), message)
    assert rule.round_cost is not None
    # What else a rule releases (a count, to adapt its bound) is paid for by more noise here, never by less.
    charged, measured = rule.round_cost.noise_multiplier, float(noise.double().std()) / bound
    expect(
        measured >= 0.93 * charged, f"the noise over a client's bound is {measured:.4g}, and {charged:.4g} is charged"
    )
    rule.restore(start)


def _nobody(rule: PrivateAggregator, like: torch.Tensor, start: dict[str, torch.Tensor]) -> torch.Tensor:
    """A round without clients, with the noise that a round with them has."""
    rule.restore(start)
    return rule.nobody(like, seeded(1))
