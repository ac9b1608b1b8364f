"""What must not be combined with clients that train one after another."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedsec.defense import Pipeline
from fedsec.federation.algorithms.sequential.fedseq import FedSeq
from fedsec.threat import DataPoisoning, UpdatePoisoning

if TYPE_CHECKING:
    from fedsec.federation.guards import Problem, RunDescription


def superclients_are_whole(run: "RunDescription") -> "Iterator[Problem]":
    """Nobody but a superclient sends an update: what is asked of single clients has no answer."""
    algorithm = run.algorithm
    if not isinstance(algorithm, FedSeq):
        return
    size = algorithm.superclient
    if algorithm.grouping is not None and run.task not in (None, "classification"):
        yield "federation.grouping", f"it is by classes of examples, and {run.task} has none; expected no grouping"
    for place, number in (("partition.clients", run.clients), ("federation.clients_per_round", run.cohort)):
        if number % size:
            yield "federation.superclient", f"{place} = {number} must be a multiple of superclient = {size}"
    if run.selection is not None or run.sampling != "fixed":
        yield (
            "federation.selection" if run.selection is not None else "federation.sampling",
            f"{run.name} draws superclients, not clients; expected sampling: fixed and no selection",
        )
    if isinstance(run.attack, UpdatePoisoning) and run.attack.forges and size > 1:
        name = type(run.attack).__name__
        if run.attack.trains:
            yield "attack", f"{name} trains from a server's model, and clients of {run.name} from another client's"
        elif isinstance(run.attack, DataPoisoning):
            yield (
                "attack",
                f"{name} corrupts data and forges, which with {run.name} only the last of a chain can; expected an "
                "attack on data or on updates alone",
            )
    if run.transforms:
        yield (
            "defense",
            f"{type(run.transforms[0]).__name__} acts on the update of a single client, and a client of {run.name} "
            "hands its whole model to the next; expected a rule of the server alone",
        )
    if run.inspector is not None:
        yield (
            "defense",
            f"{type(run.inspector).__name__} looks at a model that all clients receive from the server, and with "
            f"{run.name} most receive another client's; expected no such check",
        )
    if run.rule is not None and run.rule.needs_losses:
        rule = run.rule.rule if isinstance(run.rule, Pipeline) else run.rule
        yield (
            "defense",
            f"{type(rule).__name__} asks each client for its loss, and {run.name}'s server hears of superclients; "
            "expected another rule",
        )
    if run.secure_aggregation is not None:
        yield (
            "federation.secure_aggregation",
            f"clients of {run.name} hand on models that no sum hides; expected none, or fedavg",
        )
    if run.running_statistics and run.bn != "average":
        yield "federation.bn", f"clients of {run.name} hand on their running statistics, too; expected average"
