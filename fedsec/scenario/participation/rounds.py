"""Who takes part in the rounds of a cell, as far as that is known before it runs."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError
from fedsec.federation.algorithms.asynchronous.arrivals import Durations, expected_fast
from fedsec.federation.algorithms.asynchronous.asynchronous import Asynchronous
from fedsec.federation.rounds import sample_clients
from fedsec.federation.selection import SELECTIONS, Selection
from fedsec.federation.selection.selection import Electorate, expected_byzantine, nobody_states
from fedsec.scenario.participation.selection_config import SelectionConfig
from fedsec.scenario.threat import drawn_threat
from fedsec.seeds import Streams

if TYPE_CHECKING:
    from fedsec.scenario.config import CellConfig


def selection_of(config: SelectionConfig | None) -> Selection | None:
    """The way of drawing that a federation names; None for none.

    Raises:
        InputError: options that it cannot have.
    """
    return None if config is None else SELECTIONS[config.name](**config.options)


def drawn_clients(config: "CellConfig", round_number: int) -> list[int] | None:
    """The clients of a round of a cell; None where they depend on what clients will say or how fast they are.

    Args:
        config: of the cell.
        round_number: from 1.
    """
    clients, streams = 1 if config.pooled else config.partition.clients, Streams(config.seed)
    selection = selection_of(config.federation.selection)
    if config.federation.traits.get("by_arrival"):
        return None
    if selection is None:
        return sample_clients(clients, config.cohort, round_number, streams, config.federation.sampling or "fixed")
    if selection.by_loss:
        return None
    return selection.clients(_electorate(config, round_number), round_number, nobody_states)


def byzantine_in_rounds(config: "CellConfig") -> Iterator[tuple[int, int]]:
    """(clients, Byzantine clients among them, at most) in each round of a cell with a selection."""
    selection = selection_of(config.federation.selection)
    assert selection is not None
    for number in range(1, config.federation.rounds + 1):
        known = _electorate(config, number)
        size = config.cohort if selection.by_loss else len(selection.clients(known, number, nobody_states))
        yield config.heard_of(size), selection.most_byzantine(known, number)


def told_byzantine(section: Any, num_clients: int, cohort: int, num_byzantine: int) -> int | None:
    """How many Byzantine clients a round has on average, rounded up, for a defense that is to be told.

    Args:
        section: `federation.selection`, as it was written or resolved.
        num_clients: of the federation.
        cohort: clients of a round.
        num_byzantine: of the federation.

    Returns:
        None where the section cannot be used, which is complained about elsewhere.
    """
    try:
        known = section if isinstance(section, SelectionConfig) else SelectionConfig.model_validate(section)
        selection = selection_of(known)
        assert selection is not None
        selection.check(num_clients, cohort)
    except ValueError:  # of pydantic, or an InputError
        return None
    return expected_byzantine(selection, num_clients, cohort, num_byzantine)


def told_arriving(section: Any, num_clients: int, cohort: int, num_byzantine: int, speed: Any) -> int | None:
    """How many Byzantine updates a step of an asynchronous server has on average, where attackers have a speed.

    Args:
        section: `federation`, as it was written or resolved.
        num_clients: of the federation.
        cohort: updates of a step.
        num_byzantine: of the federation.
        speed: how many times as fast as others the attackers are.

    Returns:
        None where no clock runs, or the section cannot be used, which is complained about elsewhere.
    """
    if _of(section, "algorithm") != "async" or not isinstance(speed, int | float) or not 0 < speed < float("inf"):
        return None
    names = ("concurrency", "durations", "spread", "refill")
    options = {name: value for name in names if (value := _of(section, name)) is not None}
    try:
        algorithm = Asynchronous(local=LocalTraining(steps=1, batch_size=1, lr=1.0), **options)
    except (InputError, TypeError):
        return None
    clock = (algorithm.concurrency, algorithm.durations, algorithm.spread, algorithm.refill == "at_once")
    return _arriving(num_clients, cohort, num_byzantine, float(speed), clock)


@cache
def _arriving(
    num_clients: int, cohort: int, num_byzantine: int, speed: float, clock: tuple[int | None, Durations, float, bool]
) -> int:
    """Counted once for the cells of a scenario."""
    concurrency, durations, spread, at_once = clock
    return expected_fast(
        num_clients,
        cohort,
        num_byzantine,
        speed,
        concurrency=concurrency,
        durations=durations,
        spread=spread,
        at_once=at_once,
    )


def _of(section: Any, key: str) -> Any:
    return section.get(key) if isinstance(section, Mapping) else getattr(section, key, None)


def _electorate(config: "CellConfig", round_number: int) -> Electorate:
    streams = Streams(config.seed)
    attackers = drawn_threat(config, streams).controlled(round_number)
    return Electorate(config.partition.clients, config.cohort, streams, attackers)
