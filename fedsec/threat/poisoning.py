"""Interfaces of Byzantine attacks: what an attacker may see, and what it may change.

The base classes own the contract. An attack fills in one small method, gets exactly the knowledge it
declares, and can change nothing but its own data or its own rows: none can cheat its budget. Which
clients are Byzantine, and how many, is the scenario's business and no parameter of an attack.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.sealed import Sealed, unmodified

__all__ = ["AttackerView", "DataPoisoning", "UpdatePoisoning"]


class DataPoisoning(Sealed, ABC):
    """Corrupts a Byzantine client's data before it trains; a subclass fills in `corrupt`."""

    @final
    def poison(
        self, images: Tensor, labels: Int64[Tensor, "n"], *, num_classes: int, generator: torch.Generator
    ) -> tuple[Tensor, Int64[Tensor, "n"]]:
        """The poisoned data of one client.

        Args:
            images: [n, ...] the client's images, of any dtype and on any device; left unchanged.
            labels: their classes in [0, num_classes); left unchanged.
            num_classes: how many classes there are.
            generator: the only source of randomness.

        Returns:
            As many images and labels, of the same shapes, dtypes and device. An attack that changes
            labels only returns the very same images object.

        Raises:
            InputError: the arguments, or what the subclass made of them, break this contract.
        """
        name = type(self).__name__
        if len(images) != len(labels):
            raise InputError(f"{name}: {len(images)} images do not go with {len(labels)} labels")
        _check_labels(f"{name}: labels", labels, labels.shape, num_classes)
        with unmodified(f"{name}.corrupt", images=images, labels=labels):
            new_images, new_labels = self.corrupt(images, labels, num_classes=num_classes, generator=generator)
        if new_images is not images:
            _check_like(f"{name}.corrupt: images", new_images, images)
        _check_like(f"{name}.corrupt: labels", new_labels, labels)
        _check_labels(f"{name}.corrupt: labels", new_labels, labels.shape, num_classes)
        return new_images, new_labels

    @abstractmethod
    def corrupt(
        self, images: Tensor, labels: Int64[Tensor, "n"], *, num_classes: int, generator: torch.Generator
    ) -> tuple[Tensor, Int64[Tensor, "n"]]:
        """New images and labels; see `poison`, which checks both sides of the contract."""


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
        defense: the server's rule, where the scenario lets the attacker adapt to it.
    """

    own: Float[Tensor, "byzantine parameters"]
    honest: Float[Tensor, "visible parameters"]
    parameters: Float[Tensor, "parameters"]
    num_clients: int
    num_byzantine: int
    round: int
    generator: torch.Generator
    defense: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        columns = len(self.parameters)
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


class UpdatePoisoning(Sealed, ABC):
    """Replaces the Byzantine clients' updates; a subclass fills in `forge`.

    Attributes:
        knowledge: "own": sees only what its own clients would have sent; "omniscient": sees the honest
            clients' updates too. `craft` withholds the rest.
    """

    knowledge: ClassVar[Literal["own", "omniscient"]]

    @final
    def craft(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        """What the Byzantine clients send instead of `view.own`.

        Args:
            view: what the attacker knows; left unchanged.

        Returns:
            One row for each Byzantine client, with the dtype and the device of `view.own`. Rows may
            hold anything, NaN included.

        Raises:
            InputError: the subclass broke this contract.
        """
        name = type(self).__name__
        if self.knowledge == "own":
            view = replace(view, honest=view.honest[:0])
        with unmodified(f"{name}.forge", own=view.own, honest=view.honest, parameters=view.parameters):
            rows = self.forge(view)
        _check_like(f"{name}.forge: rows", rows, view.own)
        return rows

    @abstractmethod
    def forge(self, view: AttackerView) -> Float[Tensor, "byzantine parameters"]:
        """The rows to send; see `craft`, which checks them."""


def _check_like(what: str, tensor: Tensor, original: Tensor) -> None:
    if (tensor.shape, tensor.dtype, tensor.device) != (original.shape, original.dtype, original.device):
        raise InputError(
            f"{what} must keep shape {tuple(original.shape)}, {original.dtype} and {original.device}, but are "
            f"{tuple(tensor.shape)}, {tensor.dtype} and {tensor.device}"
        )


def _check_labels(what: str, labels: Tensor, shape: torch.Size, num_classes: int) -> None:
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise InputError(f"{what} must be a vector of int64, not {labels.dtype} of shape {tuple(labels.shape)}")
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
        raise InputError(f"{what} must lie in [0, {num_classes}), but reach from {labels.min()} to {labels.max()}")
