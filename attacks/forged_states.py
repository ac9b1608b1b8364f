"""Byzantine clients in somebody else's federation: state dicts in, state dicts out.

    received, report = forge_state_dicts(trained, MinMax(), reference=global_state, byzantine=2)

All clients train honestly, as the loop has it; then the attack, which may see what its knowledge allows, puts its own
updates in the place of those that Byzantine clients would have sent.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import torch
from torch import Tensor, nn

from fedsec.defense import AggregatorTrial, StateLayout, as_rule
from fedsec.errors import InputError
from fedsec.threat import AttackerView, DataPoisoning, UpdatePoisoning

__all__ = ["ForgedStates", "forge_state_dicts"]


@dataclass(frozen=True, eq=False)
class ForgedStates:
    """What a server receives under an attack; unpacks into `state_dicts, report`.

    Attributes:
        state_dicts: of all clients, as they were given: a list, or by the clients' numbers. Those of honest clients are
            the same objects.
        report: what the attack has to say of the round, by name; under `remark` what a reader should know.
    """

    state_dicts: Any
    report: Mapping[str, float | str]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.state_dicts, self.report))


@torch.no_grad()
def forge_state_dicts(
    state_dicts: Iterable[Mapping[str, Any]] | Mapping[int, Mapping[str, Any]],
    attack: UpdatePoisoning,
    *,
    reference: Mapping[str, Any],
    byzantine: int | Collection[int],
    round: int = 1,
    generator: torch.Generator | None = None,
    defense: Any = None,
    last_aggregate: Tensor | None = None,
    model: nn.Module | None = None,
    buffers: Collection[str] | None = None,
) -> ForgedStates:
    """What clients send where some of them attack.

    Parameters are forged; statistics, counters and all else that a Byzantine client sends are what its own training
    made. In a precision where a forged number is too large, infinity is sent.

    Args:
        state_dicts: what all clients would send honestly: a list, or by the clients' numbers; left unchanged.
        attack: on updates. One that remembers rounds is to be the same object in every round.
        reference: the state dict that the clients began with; left unchanged.
        byzantine: which clients attack, by their numbers (places in a list); or how many, the first ones.
        round: number of the round, from 1.
        generator: of the attack, on the CPU; one seeded with the round by default.
        defense: the server's rule, for attacks that know it: as `aggregate_state_dicts` takes it.
        last_aggregate: `aggregate.vector` of the last round, for attacks that look at it.
        model: as for `aggregate_state_dicts`.
        buffers: as for `aggregate_state_dicts`.

    Raises:
        InputError: malformed state dicts, clients that are not there, an attack on data or one that trains.
    """
    name = type(attack).__name__
    if isinstance(attack, type):
        given = attack.__name__
        raise InputError(f"forge_state_dicts: {given} is a class; expected an object of it, {given}(...)")
    if not isinstance(attack, UpdatePoisoning):
        poisons = isinstance(attack, DataPoisoning)
        hint = "; call its poison(...) on a client's data before it trains" if poisons else ""
        example = "," if poisons else ", such as SignFlip(),"
        raise InputError(f"forge_state_dicts: expected an attack on updates{example} not {name}{hint}")
    if attack.trains:
        raise InputError(f"forge_state_dicts: {name} trains on the attackers' machines; expected an AttackerView there")
    clients, states = _clients(state_dicts)
    attackers = _attackers(byzantine, clients)
    layout = StateLayout.of(reference, buffers=buffers, model=model)
    updates, start = layout.updates(states, who=[f"client {client}" for client in clients]), layout.start()
    places = [clients.index(client) for client in attackers]
    honest = [place for place in range(len(clients)) if place not in places]
    generator = torch.Generator().manual_seed(round) if generator is None else generator
    trial = None
    if attack.knows_defense:
        if defense is None:
            raise InputError(f"forge_state_dicts: {name} tries the server's defense; expected defense")
        context = {"clients": clients, "shapes": layout.shapes}
        trial = AggregatorTrial(as_rule(defense), generator, [*honest, *places], context=context)  # type: ignore[arg-type]
    view = AttackerView(
        updates[places],
        updates[honest],
        start,
        len(clients),
        len(places),
        round,
        generator,
        trial,
        tuple(clients[place] for place in honest),
        None if last_aggregate is None else last_aggregate.to(start),
    )
    forged = dict(enumerate(states))
    if places and attack.forges:
        for place, row in zip(places, attack.craft(view), strict=True):
            forged[place] = _replaced(layout, states[place], torch.where(row == 0, start, start + row))
    received = list(forged.values())
    named = dict(zip(clients, received, strict=True)) if isinstance(state_dicts, Mapping) else received
    return ForgedStates(named, view.report)


def _clients(state_dicts: Any) -> tuple[list[int], list[Mapping[str, Any]]]:
    if isinstance(state_dicts, Mapping):
        if any(not isinstance(state, Mapping) for state in state_dicts.values()):
            raise InputError("forge_state_dicts: expected state dicts of all clients, not a single one")
        return list(state_dicts), list(state_dicts.values())
    states = list(state_dicts)
    if not states:
        raise InputError("forge_state_dicts: expected at least one state dict, got none")
    return list(range(len(states))), states


def _attackers(byzantine: int | Collection[int], clients: Sequence[int]) -> list[int]:
    if not isinstance(byzantine, Collection):
        try:
            count = index(byzantine)  # NumPy's whole numbers as well
        except TypeError as error:
            raise InputError(f"forge_state_dicts: byzantine must be clients, or how many, not {byzantine!r}") from error
        if not 0 <= count <= len(clients):
            raise InputError(f"forge_state_dicts: {count} of {len(clients)} clients cannot be Byzantine")
        return list(clients[:count])
    absent = [client for client in byzantine if client not in clients]
    if absent:
        raise InputError(f"forge_state_dicts: no client {absent[0]} among {list(clients)}; expected those of the round")
    return [client for client in clients if client in byzantine]


def _replaced(layout: StateLayout, state: Mapping[str, Any], row: Tensor) -> dict[str, Any]:
    """A client's state dict with other parameters, in its own order, dtypes and devices."""
    parameters = layout.entries(row, state)
    return {name: parameters.get(name, values) for name, values in state.items()}
