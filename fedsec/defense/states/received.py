"""The state dicts that a server received in one round, checked, as the matrices that rules take."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.rows import finite_rows
from fedsec.threat.state_entries import State, as_entry
from fedsec.threat.state_layout import StateLayout

__all__ = ["ReceivedStates"]


@dataclass(frozen=True, eq=False)
class ReceivedStates:
    """A round's updates, and what came beside them. A state dict that cannot be used is a row of NaN.

    Attributes:
        states: as they were received.
        layout: of the reference.
        clients: their numbers.
        start: the reference's row.
        updates: what each client moved.
        statistics: what its statistics moved by; no columns where nobody asks for them.
        statistics_start: the reference's statistics.
        counters: of each client; none where nobody asks for them.
        malformed: why a state dict was not taken, by the client's place.
        notes: what else a reader should know, one line each.
    """

    states: Sequence[State]
    layout: StateLayout
    clients: tuple[int, ...]
    start: Float[Tensor, "parameters"]
    updates: Float[Tensor, "clients parameters"]
    statistics: Float64[Tensor, "clients statistics"]
    statistics_start: Float64[Tensor, "statistics"]
    counters: tuple[dict[str, Tensor], ...]
    malformed: Mapping[int, str]
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        states: Sequence[State],
        layout: StateLayout,
        clients: tuple[int, ...],
        *,
        statistics: bool,
        counters: bool,
        malformed: Literal["raise", "reject"],
    ) -> "ReceivedStates":
        """Read each state dict once.

        Args:
            states: one a client.
            layout: of the reference.
            clients: their numbers, for messages.
            statistics: whether statistics are asked for.
            counters: whether counters are.
            malformed: whether a state dict that does not go with the layout is an error, or a row of NaN.

        Raises:
            InputError: a malformed state dict, by client and entry.
            DivergenceError: the reference holds NaN.
        """
        start = layout.start()
        updates = torch.empty(len(states), layout.size, dtype=layout.dtype, device=layout.device)
        before = layout.statistics_row(layout.reference, who="reference")
        block = torch.zeros(len(states), len(before) if statistics else 0, dtype=torch.float64)
        counts, problems, notes = list[dict[str, Tensor]](), dict[int, str](), list[str]()
        for place, state in enumerate(states):
            who = f"client {clients[place]}"
            try:
                layout.write_update(updates[place], state, start, who=who)
                if statistics:
                    usable = layout.write_statistics_update(block[place], state, before, who=who)
                    if not usable:
                        updates[place].fill_(torch.nan)
                counts.append(_counters(layout, state, who) if counters else {})
                notes += [
                    f"{who}: {name!r} differs from {first!r}, which the reference ties it with; the latter counts"
                    for name, first in layout.untied(state)
                ]
            except InputError as error:
                if malformed == "raise":
                    raise
                problems[place] = str(error)
                updates[place].fill_(torch.nan)
                counts.append({})
        return cls(states, layout, clients, start, updates, block, before, tuple(counts), problems, tuple(notes))

    def statistics_after(self, moved: Float64[Tensor, "statistics"]) -> Float64[Tensor, "statistics"]:
        """The reference's statistics, moved; unmoved ones stay to the bit."""
        return torch.where(moved == 0, self.statistics_start, self.statistics_start + moved)

    def broken(self) -> list[int]:
        """Places of the clients whose rows hold NaN or infinity."""
        return (~finite_rows(self.updates)).nonzero().flatten().tolist()

    def remarks(self, places: Iterable[int]) -> tuple[str, ...]:
        """Why the state dicts at some places cannot be used, one line each."""
        lines = []
        for place in places:
            if place in self.malformed:
                lines.append(self.malformed[place])
                continue
            names = self.layout.problems(self.states[place])
            more = f" and {len(names) - 1} more entries" if len(names) > 1 else ""
            lines.append(f"client {self.clients[place]}: {names[0] if names else 'not finite as differences'}{more}")
        return tuple(lines)


def _counters(layout: StateLayout, state: State, who: str) -> dict[str, Tensor]:
    counters = {}
    for name in layout.counters:
        like = as_entry("reference", name, layout.reference[name])
        values = as_entry(who, name, state[name]) if name in state else None
        if values is None or like is None or values.is_floating_point() or values.shape != like.shape:
            raise InputError(f"{who}: {name!r} must be whole numbers like the reference's, to be counted on")
        counters[name] = values.cpu().to(torch.int64)
    return counters
