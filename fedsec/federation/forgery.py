"""What the server receives in place of what the Byzantine clients would have sent."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense.shards import ColumnShards, lost_rows
from fedsec.errors import InputError
from fedsec.federation.user_privacy import tagged, untagged
from fedsec.seeds import Streams
from fedsec.threat import AttackerMachine, AttackerView, DefenseTrial, UpdatePoisoning
from fedsec.threat.rows import finite_rows

Trial = Callable[[str, Sequence[int], torch.Generator], DefenseTrial | None]
"""Gives the server's defense of one vector, to try out: takes the vector's name, the places of the honest clients' and
then of the Byzantine ones' rows in what the server receives, and the attacker's random stream. None in a round that has
no aggregate, for lack of clients."""

Equip = Callable[[Sequence[int], int], Sequence[AttackerMachine]]
"""Gives each of these clients its machine in a round."""

_LAST = "last aggregate"


class Forgery:
    """The attack on updates of one federation, and all that it remembers.

    Each vector that clients send is forged by an attack of its own: one that remembers must not mix them up.

    Args:
        attack: what the Byzantine clients do; only attacks on updates do anything here.
        sends: names of the vectors that clients send, the update first.
        streams: the experiment's.
        equip: for attacks that train.

    Attributes:
        report: what the attack had to say of the last round.
        examples: how many gradients of examples each of the last round's attackers computed in order to forge, on
            average; None where they do not train.
    """

    def __init__(self, attack: object | None, sends: Sequence[str], streams: Streams, equip: Equip) -> None:
        self._attacks: dict[str, UpdatePoisoning] = {}
        if isinstance(attack, UpdatePoisoning) and attack.forges:
            forged = sends[:1] if attack.trains else sends
            self._attacks = {name: attack if name == "update" else copy.deepcopy(attack) for name in forged}
        self._equip = equip
        self.examples: float | None = None
        self._streams = streams
        self._last: dict[str, Tensor] = {}
        self.report: dict[str, float | str] = {}

    @property
    def whole_rows(self) -> str:
        """The attack, where it looks at whole updates; nothing where any columns do, or nobody forges."""
        for attack in self._attacks.values():
            if not attack.by_columns or attack.needs_last_aggregate or attack.trains or attack.knows_defense:
                return type(attack).__name__
        return ""

    @property
    def forges(self) -> bool:
        """Whether Byzantine clients send anything else than what they trained."""
        return bool(self._attacks)

    @property
    def sees_others(self) -> str:
        """Why what attackers send needs the rows of others, in words; nothing where their own will do."""
        for attack in self._attacks.values():
            if attack.knows_defense:
                return f"{type(attack).__name__} tries the server's defense on them"
            if attack.knowledge != "own":
                return f"{type(attack).__name__} sees the rows of honest clients"
        return ""

    def __call__(
        self,
        sent: Mapping[str, Float[Tensor, "clients parameters"]],
        clients: Sequence[int],
        byzantine: Sequence[int],
        parameters: Float[Tensor, "parameters"],
        round_number: int,
        trial: Trial,
        leverage: Sequence[float],
        *,
        units: Float[Tensor, "clients 1"] | None = None,
    ) -> dict[str, Float[Tensor, "clients parameters"]]:
        """What the server receives of each vector: what was sent, the Byzantine clients' rows forged.

        An attack forges one vector after another; in a round that it can do nothing in, it sends what is honest. A
        client of which one vector is not finite is not heard at all: its rows are NaN in the others, too.

        Args:
            sent: of each vector a row for each client; left unchanged, and handed on as it is where nobody forges.
            clients: their ids.
            byzantine: places of the Byzantine ones in the rows.
            parameters: that the server broadcast.
            round_number: from 1.
            trial: of the server's defense, for attacks that adapt to it.
            leverage: how far one unit of each client's row moves the model in a weighted mean.
            units: by what clients divide what they trained before they send it. Attacks that train make rows that are
                not divided yet, beside others' as they were before.
        """
        received, self.report, self.examples = dict(sent), {}, None
        if byzantine:
            for name, attack in self._attacks.items():
                scale = units if attack.trains else None
                rows = sent[name] if scale is None else sent[name] * scale
                rows = self._forged(name, rows, clients, byzantine, parameters, round_number, trial, leverage)
                received[name] = rows if scale is None else rows / scale
        if len(received) > 1:
            lost = torch.stack([~finite_rows(rows) for rows in received.values()]).any(0)
            if bool(lost.any()):
                received = {name: rows.masked_fill(lost[:, None], torch.nan) for name, rows in received.items()}
        return received

    def of_own(
        self,
        own: Float[Tensor, "byzantine parameters"],
        clients: Sequence[int],
        byzantine: Sequence[int],
        parameters: Float[Tensor, "parameters"],
        round_number: int,
        leverage: Sequence[float],
    ) -> Float[Tensor, "byzantine parameters"]:
        """What the server receives of attackers who look at no rows but their own.

        Args:
            own: what they would have sent, in the order of their places.
            clients: of the round.
            byzantine: places of the attackers.
            parameters: that the server broadcast.
            round_number: from 1.
            leverage: of each client's row.

        Raises:
            InputError: the attack needs other rows.
        """
        self.report, self.examples = {}, None
        if self.sees_others:
            raise InputError(f"attack: {self.sees_others}; expected one matrix of all")
        attack = self._attacks.get("update")
        if attack is None or not byzantine:
            return own
        try:
            attack.check_clients(len(clients), len(byzantine))
        except InputError as error:
            self.report = {"remark": str(error)}
            return own
        machines = self._machines(attack, clients, byzantine, round_number)
        view = AttackerView(
            own=own,
            honest=own[:0],
            parameters=parameters,
            num_clients=len(clients),
            num_byzantine=len(byzantine),
            round=round_number,
            generator=self._streams.torch("attack", "round", round_number),
            last_aggregate=self._last.get("update"),
            machines=machines,
            leverage=tuple(leverage[place] for place in byzantine),
        )
        forged = attack.craft(view)
        self.report, self.examples = view.report, _mean_examples(machines)
        return forged

    def _machines(
        self, attack: UpdatePoisoning, clients: Sequence[int], byzantine: Sequence[int], round_number: int
    ) -> tuple[AttackerMachine, ...]:
        return tuple(self._equip([clients[place] for place in byzantine], round_number)) if attack.trains else ()

    def on_shards(
        self,
        shards: ColumnShards,
        clients: Sequence[int],
        byzantine: Sequence[int],
        parameters: Float[Tensor, "parameters"],
        round_number: int,
        leverage: Sequence[float],
    ) -> ColumnShards:
        """What the server receives of updates whose columns lie in several pieces, forged where they lie.

        Args:
            shards: what was sent; used up.
            clients: as for a call, like the others.
            byzantine: places of the Byzantine ones in the rows.
            parameters: that the server broadcast.
            round_number: from 1.
            leverage: of each client's row.

        Raises:
            InputError: the attack looks at whole rows.
        """
        self.report, self.examples = {}, None
        attack = self._attacks.get("update")
        if attack is None or not byzantine:
            return shards
        if self.whole_rows:
            raise InputError(f"attack: {self.whole_rows} looks at whole updates; expected one matrix, not shards")
        try:
            attack.check_clients(shards.num_rows, len(byzantine))
        except InputError as error:
            self.report = {"remark": str(error)}
            return shards
        lost = lost_rows(shards)
        if lost:  # in one piece a row may look finite that is not
            shards = shards.changed(partial(_all_lost, rows=lost))
        attackers = {*byzantine}
        honest = [place for place in range(shards.num_rows) if place not in attackers]
        scene = _Scene(
            list(byzantine),
            [] if attack.knowledge == "own" else honest,
            shards.num_rows,
            round_number,
            self._streams.torch("attack", "round", round_number),
            tuple(clients),
            tuple(leverage),
        )
        pieces = shards.split(parameters)
        self.report = shards.map(partial(_reported, attack=attack, scene=scene), pieces)[0]
        return shards.changed(partial(_forged, attack=attack, scene=scene), pieces)

    def remember(self, aggregates: Mapping[str, Float[Tensor, "parameters"]]) -> None:
        """Note what the server made of a round's rows, for attacks that look at it in the next one."""
        if any(attack.needs_last_aggregate for attack in self._attacks.values()):
            self._last = dict(aggregates)

    def state(self) -> dict[str, Tensor]:
        """What the next rounds' rows depend on, by name; nothing for attacks that do not remember."""
        state = tagged(self._last, _LAST)
        for name, attack in self._attacks.items():
            state |= {f"{name}.{key}": tensor.clone() for key, tensor in attack.state().items()}
        return state

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Take over what `state` gave.

        Args:
            state: on any device.
            device: of the federation's tensors.

        Raises:
            InputError: it is not what this attack remembers.
        """
        state = {name: tensor.to(device, copy=True) for name, tensor in state.items()}
        self._last = untagged(state, _LAST)
        for name, attack in self._attacks.items():
            attack.restore(untagged(state, name))

    def _forged(
        self,
        name: str,
        rows: Float[Tensor, "clients parameters"],
        clients: Sequence[int],
        byzantine: Sequence[int],
        parameters: Float[Tensor, "parameters"],
        round_number: int,
        trial: Trial,
        leverage: Sequence[float],
    ) -> Float[Tensor, "clients parameters"]:
        attack = self._attacks[name]
        try:
            attack.check_clients(len(rows), len(byzantine))
        except InputError as error:  # by sampling: for once its clients are honest
            self.report = {"remark": str(error)}
            return rows
        places, attackers = list(byzantine), set(byzantine)
        others = [place for place in range(len(rows)) if place not in attackers]
        honest = [] if attack.knowledge == "own" else others
        stream = ("attack", "round", round_number, *(() if name == "update" else (name,)))
        generator = self._streams.torch(*stream)
        defense = trial(name, [*others, *places], generator) if attack.knows_defense else None
        if attack.knows_defense and defense is None:
            return rows
        machines = self._machines(attack, clients, places, round_number)
        scene = _Scene(places, honest, len(rows), round_number, generator, tuple(clients), tuple(leverage))
        last = self._last.get(name)
        view = scene.view(rows, parameters, defense=defense, last_aggregate=last, machines=machines)
        received = rows.clone()
        received[places] = attack.craft(view)
        if name == "update":
            self.report = view.report
            self.examples = _mean_examples(machines)
        return received


def _mean_examples(machines: Sequence[AttackerMachine]) -> float | None:
    return fmean(machine.examples for machine in machines) if machines else None


@dataclass(frozen=True, eq=False)
class _Scene:
    """What an attacker is told of a round beside numbers.

    Attributes:
        places: of the Byzantine clients in the rows.
        honest: of the honest ones that the attacker sees.
        num_clients: of the round.
        round: its number.
        generator: the attacker's.
        clients: ids, in the order of the rows.
        leverage: likewise.
    """

    places: list[int]
    honest: list[int]
    num_clients: int
    round: int
    generator: torch.Generator
    clients: tuple[int, ...]
    leverage: tuple[float, ...]

    def view(self, rows: Tensor, parameters: Tensor, **more: Any) -> AttackerView:
        """Of these rows, and the same columns of the model."""
        return AttackerView(
            own=rows[self.places],
            honest=rows[self.honest],
            parameters=parameters,
            num_clients=self.num_clients,
            num_byzantine=len(self.places),
            round=self.round,
            generator=self.generator,
            clients=tuple(self.clients[place] for place in self.honest),
            leverage=tuple(self.leverage[place] for place in self.places),
            **more,
        )


def _forged(piece: Tensor, parameters: Tensor, attack: UpdatePoisoning, scene: _Scene) -> Tensor:
    received = piece.clone()
    received[scene.places] = attack.craft(scene.view(piece, parameters.to(piece)))
    return received


def _reported(piece: Tensor, parameters: Tensor, attack: UpdatePoisoning, scene: _Scene) -> dict[str, float | str]:
    """What the attack has to say, which does not depend on the columns: a single one will do."""
    view = scene.view(piece[:, :1], parameters[:1].to(piece))
    attack.craft(view)
    return view.report


def _all_lost(piece: Tensor, rows: Sequence[int]) -> Tensor:
    lost = piece.clone()
    lost[list(rows)] = torch.nan
    return lost
