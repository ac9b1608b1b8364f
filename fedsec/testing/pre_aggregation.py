"""The check of `fedsec.testing` for what mixes rows before a rule combines them."""

from functools import partial

import torch
from torch import Tensor

from fedsec.defense import Aggregator, Cohort, CoordinateRule, Pipeline, PreAggregator, Scratch, weighted_sum
from fedsec.errors import AggregationError, InputError
from fedsec.testing.checks import (
    devices,
    expect,
    expect_close,
    expect_error,
    global_randomness_untouched,
    random_matrix,
    seeded,
)

__all__ = ["check_pre_aggregator"]

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class _Mean(CoordinateRule):
    """The plain mean of what it sees."""

    def max_rejected(self, num_clients: int) -> int:
        return num_clients - 1

    def reduce(self, chunk: Tensor, cohort: Cohort, scratch: Scratch) -> Tensor:
        return weighted_sum(chunk, cohort.weights, scratch)

    def share(self, chunk: Tensor, cohort: Cohort, scratch: Scratch) -> Tensor:
        return torch.tensor(cohort.weights, dtype=torch.float64, device=chunk.device)


def check_pre_aggregator(mixture: PreAggregator, *, num_clients: int = 11, shortens: bool = False) -> None:
    """Put a pre-aggregator through its contract.

    Args:
        mixture: set up for `num_clients` clients.
        num_clients: how many rows it is tried with, at least 2.
        shortens: whether it shortens some of the updates. It then need not treat a common shift as one, and what the
            clients contributed is no mean of theirs.

    Raises:
        AssertionError: it breaks the contract.
    """
    pipeline = Pipeline([mixture, _Mean()])
    start = {name: tensor.clone() for name, tensor in mixture.state().items()}
    for device in devices():
        for dtype in _DTYPES:
            updates = random_matrix(num_clients, 37, dtype=dtype, device=device)
            before, what = updates.clone(), f"for {dtype} on {device}"
            with global_randomness_untouched():
                mixed = mixture(updates, generator=seeded(1))
            mixture.restore(start)
            expect(torch.equal(updates, before), f"the updates must not change {what}")
            expect(mixed.shape == (mixture.num_mixed(num_clients), 37), f"`num_mixed` rows {what}")
            expect(mixed.dtype == dtype and mixed.device == updates.device, f"same dtype and device {what}")
            expect(torch.equal(mixed, mixture(updates, generator=seeded(1))), f"equal generators, equal rows {what}")
            mixture.restore(start)
        updates = random_matrix(num_clients, 1003, device=device)
        mixed = mixture(updates, generator=seeded(1))
        mixture.restore(start)
        shift = random_matrix(1, 1003, seed=2, device=device)
        moved = mixture(updates + shift, generator=seeded(1))
        mixture.restore(start)
        if shortens:
            lengths = [torch.linalg.vector_norm(rows, dim=1) for rows in (mixed, updates)]
            expect(bool((lengths[0] < lengths[1] * (1 - 1e-3)).any()), "some rows must be shortened")
        else:
            expect_close(moved, mixed + shift, "a common shift must shift every mixed row")
        aggregate = pipeline.aggregate(updates, generator=seeded(1))
        mixture.restore(start)
        expect_close(aggregate.vector, mixed.mean(0), "a pipeline's rule sees the mixed rows")
        expect(abs(float(aggregate.influence.sum()) - 1) < 1e-6, "influences of the clients sum to one")
        by_influence = aggregate.influence.to(updates) @ updates
        if shortens:
            by_influence *= float(aggregate.vector.norm() / by_influence.norm())
        expect_close(aggregate.vector, by_influence, "the mean of mixed rows is that of the clients by influence")
        _check_gate(pipeline, updates)
        mixture.restore(start)
    for malformed in (torch.zeros(num_clients), torch.zeros(0, 3), updates.long(), updates * torch.nan):
        expect_error(InputError, partial(mixture, malformed, generator=seeded(1)), f"{malformed.dtype} not finite rows")
    if mixture.draws:
        expect_error(InputError, partial(mixture, updates), "no generator")


def _check_gate(pipeline: Aggregator, updates: Tensor) -> None:
    expect_error(AggregationError, partial(pipeline, updates * torch.nan, generator=seeded(1)), "no finite row is left")
    if pipeline.max_rejected(len(updates)) == 0:
        return
    broken = updates.clone()
    broken[1, -1] = torch.nan
    aggregate = pipeline.aggregate(broken, generator=seeded(1))
    expect(aggregate.rejected == (1,), "rows that are not finite are rejected before they are mixed")
    expect(bool(aggregate.vector.isfinite().all()) and float(aggregate.influence[1]) == 0, "and reach no mixture")
