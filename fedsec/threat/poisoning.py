"""Interfaces of Byzantine attacks: what an attacker may see, and what it may change.

The base classes own the contract. An attack fills in one small method, gets exactly the knowledge it
declares, and can change nothing but its own data or its own rows: none can cheat its budget. Which
clients are Byzantine, and how many, is the scenario's business and no parameter of an attack.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.attack import ByzantineAttack
from fedsec.threat.defense_trial import DefenseTrial
from fedsec.threat.machine import AttackerMachine
from fedsec.threat.rows import as_given, as_matrix, finite_rows
from fedsec.threat.sealed import isolated, unmodified

__all__ = ["AttackerView", "DataPoisoning", "UpdatePoisoning"]


class DataPoisoning(ByzantineAttack):
    """Corrupts a Byzantine client's data before it trains; a subclass fills in `corrupt`.

    One that also forges updates inherits from `UpdatePoisoning`, too, behind this class.
    """

    role: ClassVar[str] = "data"
    """What its kind of attack acts on, in every federation of clients."""

    @final
    def poison(
        self,
        images: Tensor,
        labels: Int64[Tensor, "n"] | Float[Tensor, "n ..."],
        *,
        num_classes: int | None,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """The poisoned data of one client.

        Args:
            images: [n, ...] the client's inputs, images or others, of any dtype and on any device; left unchanged.
            labels: their classes in [0, num_classes) or, of a task without classes, their floating-point targets
                [n, ...]; left unchanged.
            num_classes: how many classes there are; None for a task without classes.
            generator: the only source of randomness.

        Returns:
            As many inputs and targets, of the same shapes, dtypes and device. An attack that changes
            targets only returns the very same inputs object.

        Raises:
            InputError: the arguments, or what the subclass made of them, break this contract.
        """
        name = type(self).__name__
        if len(images) != len(labels):
            raise InputError(f"{name}: {len(images)} images do not go with {len(labels)} labels")
        _check_targets(f"{name}: labels", labels, num_classes)
        inputs, targets = isolated(images), isolated(labels)
        with unmodified(f"{name}.corrupt", images=inputs, labels=targets):
            new_inputs, new_targets = self.corrupt(inputs, targets, num_classes=num_classes, generator=generator)
        if new_inputs is inputs:
            new_inputs = images
        else:
            _check_like(f"{name}.corrupt: images", new_inputs, images)
        _check_like(f"{name}.corrupt: labels", new_targets, labels)
        _check_targets(f"{name}.corrupt: labels", new_targets, num_classes)
        return new_inputs, new_targets

    @abstractmethod
    def corrupt(
        self, inputs: Tensor, targets: Tensor, *, num_classes: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """New inputs and targets; see `poison`, which checks both sides of the contract.

        Args:
            inputs: [n, ...], the images of image tasks.
            targets: classes of int64 [n] or, where `num_classes` is None, floating-point targets [n, ...].
            num_classes: how many classes there are.
            generator: the only source of randomness.
        """


@dataclass(frozen=True, eq=False)
class AttackerView:
    """All that an attacker on updates knows in one round.

    Attributes:
        own: what the Byzantine clients of this round would have sent honestly.
        honest: the honest clients' rows that the attacker may see; no rows if it sees only its own.
        parameters: the model parameters that the server broadcast.
        num_clients: how many clients take part in this round, Byzantine ones included.
        num_byzantine: how many of them the attacker controls.
        round: number of the round.
        generator: the only source of randomness.
        defense: the server's whole defense to try out, for attacks that know it; the server does not notice. None for
            others.
        clients: the ids of the honest rows' clients, for attacks that follow one; 0, 1, ... if not given.
        last_aggregate: what the server made of the last round's rows, which whoever receives both models can tell; for
            attacks that ask for it, and None before the second round.
        report: what the attack has to say of this round, by name; the attack fills it in, and reports of runs show it.
            What it says under `remark` is written below the tables.
        machines: one for each Byzantine client of this round, in the order of `own`, for attacks that train; no machine
            for others.
        leverage: how far one unit of each own row moves the model where the server takes the weighted mean: the row's
            share of the weight, times the server's learning rate. Equal shares, if it is not given.
    """

    own: Float[Tensor, "byzantine parameters"]
    honest: Float[Tensor, "visible parameters"]
    parameters: Float[Tensor, "parameters"]
    num_clients: int
    num_byzantine: int
    round: int
    generator: torch.Generator
    defense: DefenseTrial | None = None
    clients: tuple[int, ...] = ()
    last_aggregate: Float[Tensor, "parameters"] | None = None
    report: dict[str, float | str] = field(default_factory=dict)
    machines: tuple[AttackerMachine, ...] = ()
    leverage: tuple[float, ...] = ()

    @property
    def benign(self) -> Float[Tensor, "benign parameters"]:
        """Honest updates, as far as the attacker knows any: the honest clients' or else its own clients', unforged.

        Rows that are not finite are left out, as the server does, unless there are no others.
        """
        rows = self.honest if len(self.honest) else self.own
        finite = finite_rows(rows)
        return rows if bool(finite.all()) or not bool(finite.any()) else rows[finite]

    def __post_init__(self) -> None:
        columns = len(self.parameters)
        if not self.clients:
            object.__setattr__(self, "clients", tuple(range(len(self.honest))))
        elif len(self.clients) != len(self.honest):
            raise InputError(f"AttackerView: {len(self.clients)} ids do not go with {len(self.honest)} honest rows")
        if not self.leverage:
            object.__setattr__(self, "leverage", (1 / self.num_clients,) * self.num_byzantine)
        if len(self.leverage) != self.num_byzantine or len(self.machines) not in (0, self.num_byzantine):
            raise InputError(
                f"AttackerView: {len(self.machines)} machines and {len(self.leverage)} leverages do not go with "
                f"{self.num_byzantine} Byzantine clients"
            )
        if self.last_aggregate is not None and self.last_aggregate.shape != (columns,):
            shape = tuple(self.last_aggregate.shape)
            raise InputError(f"AttackerView: a last aggregate of shape {shape} does not go with {columns} parameters")
        if self.own.shape != (self.num_byzantine, columns) or self.honest.shape[1:] != (columns,):
            raise InputError(
                f"AttackerView: {self.num_byzantine} Byzantine clients and {columns} parameters do not go with own "
                f"rows of shape {tuple(self.own.shape)} and honest rows of shape {tuple(self.honest.shape)}"
            )
        if self.num_byzantine + len(self.honest) > self.num_clients:
            raise InputError(
                f"AttackerView: {self.num_byzantine} Byzantine and {len(self.honest)} honest rows are more than "
                f"the round's {self.num_clients} clients"
            )


class UpdatePoisoning(ByzantineAttack):
    """Replaces the Byzantine clients' updates; a subclass fills in `forge`.

    Attributes:
        knowledge: "own": sees only what its own clients would have sent; "omniscient": sees the honest
            clients' updates too. `craft` withholds the rest.
        knows_defense: whether it adapts to the server's defense. `craft` withholds it from the others.
        needs_last_aggregate: whether it looks at what the server made of the last round's rows, likewise.
        trains: whether it trains on the Byzantine clients' machines, likewise; it then forges updates only, and nothing
            that clients send beside them.
        forges: whether there is anything to replace: an attack on data whose updates are sent as they are says no.
        by_columns: whether any columns of its rows follow from the same columns of what it sees, from nothing drawn and
            nothing remembered, and its report from no numbers at all: rows whose columns lie on several machines can
            then be forged piece by piece. Of rows that are not finite it is shown NaN alone. A class that replaces a
            method says so itself, or it does not hold.

    An attack that remembers says so by `state` and `restore`, which checkpoints use; it must not remember elsewhere.
    """

    claims = ("by_columns",)
    role: ClassVar[str] = "updates"
    """What its kind of attack acts on, where clients exchange updates."""
    knowledge: Literal["own", "omniscient"]
    knows_defense: bool = False
    needs_last_aggregate: ClassVar[bool] = False
    trains: bool = False
    forges: bool = True
    by_columns: bool = False

    @final
    def craft(
        self, view: AttackerView | Float[Tensor, "byzantine parameters"]
    ) -> Float[Tensor, "byzantine parameters"]:
        """What the Byzantine clients send instead of `view.own`.

        Args:
            view: what the attacker knows; left unchanged. Of an attack that knows its own clients only, their rows may
                stand for it: all clients of the round are then Byzantine, and the model is zero.

        Returns:
            One row for each Byzantine client, with the dtype and the device of `view.own`. Rows may
            hold anything, NaN included.

        Raises:
            InputError: rows for an attack that needs more, a round that it can do nothing in, an unknown knowledge, or
                the subclass broke this contract.
        """
        name = type(self).__name__
        if self.knowledge not in ("own", "omniscient"):
            raise InputError(f"{name}: knowledge must be own or omniscient, not {self.knowledge!r}")
        to_kind = as_given(view) if not isinstance(view, AttackerView) else lambda rows: rows
        if not isinstance(view, AttackerView):
            view = _view_of_own_rows(name, view, self.knowledge)
        self.check_clients(view.num_clients, view.num_byzantine)
        # Copies: of a view the base, or the memory behind it, would tell what the attacker may not know.
        last = view.last_aggregate if self.needs_last_aggregate else None
        view = replace(
            view,
            own=isolated(view.own),
            honest=isolated(view.honest[:0] if self.knowledge == "own" else view.honest),
            clients=() if self.knowledge == "own" else view.clients,
            parameters=isolated(view.parameters),
            defense=view.defense if self.knows_defense else None,
            last_aggregate=None if last is None else isolated(last),
            machines=view.machines if self.trains else (),
        )
        if self.trains and not view.machines:
            raise InputError(f"{name}: trains on the attackers' machines; expected an AttackerView that has them")
        with unmodified(f"{name}.forge", own=view.own, honest=view.honest, parameters=view.parameters):
            rows = self.forge(view)
        _check_like(f"{name}.forge: rows", rows, view.own)
        result: Tensor = to_kind(rows)
        return result

    def check_clients(self, num_clients: int, num_byzantine: int) -> None:
        """Refuse rounds that the attack can do nothing in; none for most attacks.

        Args:
            num_clients: how many clients take part.
            num_byzantine: how many of them are Byzantine.

        Raises:
            InputError: it cannot work with so many.
        """

    @abstractmethod
    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        """The rows to send; see `craft`, which checks them."""

    def state(self) -> dict[str, Tensor]:
        """What the next round's rows depend on beside what the attacker sees, by name; nothing for most attacks."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            InputError: it is not what this attack remembers.
        """
        if state:
            raise InputError(f"{type(self).__name__} remembers nothing; expected no state, got {sorted(state)}")


def _view_of_own_rows(name: str, rows: Any, knowledge: str) -> AttackerView:
    if knowledge != "own":
        raise InputError(f"{name}: sees the honest clients' updates; expected an AttackerView, not rows alone")
    own = as_matrix(name, rows)
    generator, count = torch.Generator().manual_seed(0), len(own)
    return AttackerView(own, own[:0], torch.zeros_like(own[0]), count, count, 1, generator)


def _check_like(what: str, tensor: Tensor, original: Tensor) -> None:
    if (tensor.shape, tensor.dtype, tensor.device) != (original.shape, original.dtype, original.device):
        raise InputError(
            f"{what} must keep shape {tuple(original.shape)}, {original.dtype} and {original.device}, but are "
            f"{tuple(tensor.shape)}, {tensor.dtype} and {tensor.device}"
        )


def _check_targets(what: str, targets: Tensor, num_classes: int | None) -> None:
    if num_classes is None:
        if targets.ndim < 1 or not targets.is_floating_point():
            raise InputError(
                f"{what} must be floating-point targets where there are no classes, not {targets.dtype} of shape "
                f"{tuple(targets.shape)}"
            )
        return
    if targets.ndim != 1 or targets.dtype != torch.int64:
        raise InputError(f"{what} must be a vector of int64, not {targets.dtype} of shape {tuple(targets.shape)}")
    if targets.numel() and (int(targets.min()) < 0 or int(targets.max()) >= num_classes):
        raise InputError(f"{what} must lie in [0, {num_classes}), but reach from {targets.min()} to {targets.max()}")
