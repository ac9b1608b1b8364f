"""One round of somebody else's federation, as lists of NumPy arrays, through any of fedsec's rules."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsec.defense.cohort import Aggregate
from fedsec.defense.states.rules import RuleLike
from fedsec.defense.states.state_dicts import StateAggregate, aggregate_state_dicts
from fedsec.errors import InputError

__all__ = ["ArrayAggregate", "aggregate_arrays"]


@dataclass(frozen=True, eq=False)
class ArrayAggregate:
    """A round's new arrays and the verdict on every client; unpacks into `arrays, aggregate`.

    Attributes:
        arrays: like the reference, a list or a dictionary; own their memory.
        of_states: the same as a `StateAggregate`, with places as names where the reference is a list.
    """

    arrays: Any
    of_states: StateAggregate

    def __iter__(self) -> Iterator[Any]:
        return iter((self.arrays, self.aggregate))

    @property
    def aggregate(self) -> Aggregate:
        """Of the parameters; see `StateAggregate`."""
        return self.of_states.aggregate

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader should know of the round, one line each."""
        return self.of_states.remarks


def aggregate_arrays(
    client_arrays: Iterable[Any] | Mapping[int, Any],
    rule: RuleLike,
    *,
    reference: Sequence[np.ndarray] | Mapping[str, np.ndarray],
    names: Sequence[str] | None = None,
    buffers: Collection[str | int] | None = None,
    **options: Any,
) -> ArrayAggregate:
    """The next global arrays, as `aggregate_state_dicts` makes them of lists (or dictionaries) of NumPy arrays.

        arrays, verdict = aggregate_arrays([client_1, client_2, client_3], Median(), reference=sent)

    Args:
        client_arrays: one list of arrays a client, or one dictionary; a list of them, or by the clients' numbers.
        rule: as for `aggregate_state_dicts`.
        reference: the arrays that the clients began with.
        names: of the arrays in a list, as in the state dict that they come from: `list(model.state_dict())`. Without
            them an array's place is its name, and running statistics cannot be told from parameters.
        buffers: names or places of statistics.
        options: all others of `aggregate_state_dicts`.

    Returns:
        Arrays of the reference's shapes and dtypes, in its order, and the verdicts; unpacks into both.

    Raises:
        InputError: as `aggregate_state_dicts`, or lists of another length.
    """
    by_name = isinstance(reference, Mapping)
    as_state = _by_name if by_name else _ListNames(reference, names).state
    sent = as_state("reference", reference)
    if isinstance(client_arrays, Mapping):
        states: Any = {client: as_state(f"client {client}", arrays) for client, arrays in client_arrays.items()}
    else:
        if not isinstance(client_arrays, Iterable):
            kind = type(client_arrays).__name__
            raise InputError(f"client_arrays: expected a list, one of a client each, not {kind}")
        given = options.get("clients")
        numbers = dict(enumerate(() if given is None else given))
        states = [as_state(f"client {numbers.get(place, place)}", arrays) for place, arrays in enumerate(client_arrays)]
    known = list(sent)
    if buffers is not None and not by_name:
        buffers = [known[buffer] if isinstance(buffer, int) and buffer < len(known) else buffer for buffer in buffers]
    result = aggregate_state_dicts(states, rule, reference=sent, buffers=buffers, **options)  # type: ignore[arg-type]
    return ArrayAggregate(result.state_dict if by_name else list(result.state_dict.values()), result)


def _by_name(who: str, arrays: Any) -> Any:
    """What has names already."""
    return arrays


class _ListNames:
    """Arrays in a list by name.

    Args:
        reference: a list of them.
        names: of the arrays; their places by default.
    """

    def __init__(self, reference: Any, names: Sequence[str] | None) -> None:
        if not isinstance(reference, list | tuple):
            raise InputError(f"reference: expected a list of arrays or a dictionary, not {type(reference).__name__}")
        self.names = [str(place) for place in range(len(reference))] if names is None else list(names)
        if len({*self.names}) != len(reference) or len(self.names) != len(reference):
            raise InputError(f"names: expected {len(reference)} different ones, one an array, got {len(self.names)}")

    def state(self, who: str, arrays: Any) -> dict[str, Any]:
        if not isinstance(arrays, list | tuple):
            raise InputError(f"{who}: expected a list of arrays, not {type(arrays).__name__}")
        if len(arrays) != len(self.names):
            raise InputError(f"{who}: sent {len(arrays)} arrays; expected {len(self.names)}")
        return dict(zip(self.names, arrays, strict=True))
