"""What must not be combined with a server that steps when updates arrive."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedsec.federation.algorithms.asynchronous.asynchronous import Asynchronous

if TYPE_CHECKING:
    from fedsec.federation.guards import Problem, RunDescription


def arrivals_decide(run: "RunDescription") -> "Iterator[Problem]":
    """Who takes part is who arrives: nothing else may draw clients, and there must be enough of them."""
    algorithm = run.algorithm
    if not isinstance(algorithm, Asynchronous):
        return
    concurrency = algorithm.concurrency or run.clients
    if concurrency > run.clients:
        yield "federation.concurrency", f"expected at most all {run.clients} clients, got {concurrency}"
    if algorithm.refill == "each_step" and concurrency < run.cohort:
        yield (
            "federation.concurrency",
            f"{concurrency} clients never fill a buffer of {run.cohort} where others are asked after steps alone; "
            "expected refill: at_once, or a smaller clients_per_round",
        )
    if run.selection is not None or run.sampling != "fixed":
        yield (
            "federation.selection" if run.selection is not None else "federation.sampling",
            "clients of an asynchronous federation take part when their updates arrive; expected no draws",
        )
    if run.schedule.redraw != "once":
        yield "attack", "who is fast must not change from round to round; expected redraw: once"
