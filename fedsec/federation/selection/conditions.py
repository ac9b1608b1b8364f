"""What a way of drawing clients must not be combined with."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedsec.defense import PrivateAggregator
from fedsec.errors import InputError

if TYPE_CHECKING:
    from fedsec.federation.guards import Problem, RunDescription

_PLACE = "federation.selection"


def rounds_can_be_drawn(run: "RunDescription") -> "Iterator[Problem]":
    """Who takes part must be possible, and must not tell what something else hides."""
    selection = run.selection
    if selection is None:
        return
    name = type(selection).__name__
    try:
        selection.check(run.clients, run.cohort)
    except InputError as error:
        yield _PLACE, str(error)
    if run.cohort >= run.clients and selection.fills_rounds:
        yield (
            _PLACE,
            f"all {run.clients} clients take part, and {name} has nobody to choose; expected clients_per_round",
        )
    if run.sampling != "fixed":
        yield _PLACE, f"{name} draws the clients of a round in place of sampling: {run.sampling}; expected one of them"
    if run.private and selection.by_loss:
        yield (
            "defense",
            f"{name} asks clients for the loss of their examples, which no noise of DP-SGD covers: epsilon would be "
            "void; expected a selection that does not depend on data, or none",
        )
    if isinstance(run.rule, PrivateAggregator):
        yield (
            "defense",
            f"{type(run.rule).__name__}: its account holds for clients that are drawn independently of each other and "
            f"with equal chances, not by {name}; expected sampling: poisson and no selection",
        )
    if run.secure_aggregation is not None and not selection.fills_rounds:
        yield (
            _PLACE,
            f"how many clients take part varies with {name}, and a sum needs so many each round; expected none",
        )
    if run.secure_aggregation is not None and selection.by_loss:
        yield _PLACE, f"{name} has each client state its loss, which secure aggregation would hide; expected none"
