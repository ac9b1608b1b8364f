"""Interfaces of what a client does to its own update before it sends it.

An `UpdateTransform` changes one client's update: it clips, adds noise, or leaves entries out. Any number of them apply
in order (`compose`), before the server's own rule, and none sees another client. What remains is judged against an
attacker who knows the defense and its settings: `known` says what such an attacker can tell from what was sent.

**Updates that are not finite are sent as they are.** The server's gate rejects them; a defense that turned NaN into
numbers would carry them past it.

**Error feedback** is a memory that the caller keeps, one for each client: `with_feedback` adds what earlier rounds
held back and returns what this one does. Calling a transform has no memory.

Reference: error feedback: Seide, Fu, Droppo, Li, Yu, 1-bit stochastic gradient descent, Interspeech 2014; Karimireddy,
Rebjock, Stich, Jaggi, Error feedback fixes SignSGD and other gradient compression schemes, ICML 2019, arXiv:1901.09847.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from fedsec.defense.noise_share import NoiseShare
from fedsec.errors import InputError
from fedsec.threat.distortion import Distortion
from fedsec.threat.rows import as_given, as_matrix, as_tensor
from fedsec.threat.sealed import Sealed, isolated, unmodified

__all__ = ["UNDISTORTED", "ClientSide", "UpdateTransform", "compose", "distortions", "with_feedback"]

UNDISTORTED = Distortion()
"""Nothing was done to an update."""

_ROW = "update"
"""The one parameter that a flattened update is taken for."""


@dataclass(frozen=True, eq=False)
class ClientSide:
    """What only the client has when it defends its update.

    Attributes:
        model: architecture and received weights, in the mode in which the client computed; left unchanged.
        images: the model's input.
        labels: of the images.

    Raises:
        InputError: no images, or not one label for each.
    """

    model: nn.Module
    images: Float[Tensor, "examples channels height width"]
    labels: Int64[Tensor, "examples"]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) == 0 or not self.images.is_floating_point():
            raise InputError(
                "ClientSide: images must be the model's input [examples, channels, height, width], got "
                f"{self.images.dtype} of shape {tuple(self.images.shape)}"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise InputError(
                f"ClientSide: labels must be {len(self.images)} of int64, got {self.labels.dtype} of shape "
                f"{tuple(self.labels.shape)}"
            )


class UpdateTransform(Sealed, ABC):
    """Changes one client's update before it is sent; a subclass fills in `transform` and `known`.

    Attributes:
        needs_client: whether it looks at the client's data and model.
        error_feedback: whether what it holds back should be added to the client's next update; see `with_feedback`.
        draws: whether it draws random numbers, so that each client needs a generator of its own.
        noise_share: its noise as a part of a sum's, where the federation keeps an account of that; None for no account.
    """

    role: ClassVar[str] = "update"
    """Where in a round its kind acts: each client, on its own update."""
    guarantee: ClassVar[str] = "none: it proves nothing"
    """Of privacy: `none` or the parameters of what is proven, a colon, and why not, or of what unit."""
    called_private: ClassVar[bool] = False
    """Whether its name or its makers call it privacy, so that reports say where it is not."""
    tasks: ClassVar[tuple[str, ...]] = ()
    """The tasks whose updates it can defend; whatever the task is, where none is named."""
    needs_client: bool = False
    error_feedback: bool = False
    draws: bool = False
    noise_share: NoiseShare | None = None

    @overload
    def __call__(
        self,
        update: Mapping[str, Tensor],
        *,
        generator: torch.Generator | None = None,
        client: ClientSide | None = None,
    ) -> dict[str, Tensor]: ...
    @overload
    def __call__(
        self, update: Tensor, *, generator: torch.Generator | None = None, client: ClientSide | None = None
    ) -> Tensor: ...
    @overload
    def __call__(
        self, update: np.ndarray, *, generator: torch.Generator | None = None, client: ClientSide | None = None
    ) -> np.ndarray: ...
    @overload
    def __call__(
        self, update: Sequence[Any], *, generator: torch.Generator | None = None, client: ClientSide | None = None
    ) -> list[Any]: ...
    @final
    def __call__(
        self,
        update: Mapping[str, Tensor] | Tensor | np.ndarray | Sequence[Any],
        *,
        generator: torch.Generator | None = None,
        client: ClientSide | None = None,
    ) -> dict[str, Tensor] | Tensor | np.ndarray | list[Any]:
        """What the client sends.

        Args:
            update: by parameter name, of any floating dtype, on any device; left unchanged. If an entry is NaN or
                infinite, the update is sent as it is, for the server's gate to reject. Also a flattened update, which
                then counts as one parameter, or several clients' in a matrix or a list, each transformed for itself,
                one after the other; tensors, arrays or lists of numbers.
            generator: the only source of randomness, on the CPU; one seeded with 0 by default. The numbers drawn are
                the same whatever the update's device.
            client: the client's own model and data, for those with `needs_client`.

        Returns:
            New tensors with the names, shapes, dtypes and devices of `update`; for rows, the kind that was given.

        Raises:
            InputError: the arguments are malformed or missing, or the subclass broke this contract.
        """
        name = type(self).__name__
        generator = generator or torch.Generator().manual_seed(0)
        if isinstance(update, Mapping):
            return self._sent(name, update, generator, client)
        if self.needs_client:
            raise InputError(f"{name}: looks at layers by name; expected a dictionary by parameter name, not rows")
        single = not isinstance(update, list | tuple) and as_tensor(name, update).ndim == 1
        single = single or (isinstance(update, list | tuple) and bool(update) and isinstance(update[0], int | float))
        matrix = as_matrix(name, [update] if single else update)
        rows = [self._sent(name, {_ROW: row}, generator, client)[_ROW] for row in matrix]
        result = as_given([update] if single else update)
        if single:
            return result(rows[0])  # type: ignore[no-any-return]
        if isinstance(update, list | tuple):
            return [result(row) for row in rows]
        return result(torch.stack(rows))  # type: ignore[no-any-return]

    def _sent(
        self, name: str, update: Mapping[str, Tensor], generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        _check_update(name, update)
        if self.needs_client and client is None:
            raise InputError(f"{name}: looks at the client's model and images; expected client=ClientSide(...)")
        if generator.device.type != "cpu":
            raise InputError(f"{name}: generator must be on the CPU, not on {generator.device}")
        rows = {key: isolated(row) for key, row in update.items()}
        if not _is_finite(rows):
            return {key: row.clone() for key, row in rows.items()}
        watched = {f"update[{key!r}]": row for key, row in rows.items()}
        if client is not None:
            watched |= {"client.images": client.images, "client.labels": client.labels}
            watched |= {f"client.model[{key!r}]": row for key, row in client.model.state_dict().items()}
        with unmodified(f"{name}.transform", **watched):
            transformed = self.transform(rows, generator=generator, client=client)
        return _checked(f"{name}.transform", transformed, rows)

    def check_model(self, model: nn.Module) -> None:
        """Refuse a model whose updates cannot be defended; asked once, before any training.

        Args:
            model: its weights may be on the `meta` device.

        Raises:
            InputError: it lacks what the defense is about.
        """

    @abstractmethod
    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> Mapping[str, Tensor]:
        """The transformed update; see `__call__`, which checks both sides of the contract.

        Args:
            update: finite, none of its tensors empty, without gradient history.
            generator: on the CPU.
            client: given where `needs_client`.
        """

    @abstractmethod
    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        """What an attacker who knows the defense and its settings can tell from what was sent.

        Args:
            sent: as this transform made it, or as others after it changed that.
            later: what those others did to it, as far as is known.

        Returns:
            What this transform did, in the units of what was sent; not what was done later.
        """

    def known_of_sum(self, names: Sequence[str], share: float) -> Distortion | None:
        """What an attacker can tell of the mean of several clients' updates that were all defended so, each for itself.

        Args:
            names: of the parameters.
            share: of the deviation of independent noise that is left in the mean.

        Returns:
            None by default: it is not worked out.
        """
        return None

    def remembered(self, sent: Mapping[str, Tensor], own: Distortion, waited: Mapping[str, Tensor]) -> Distortion:
        """What an attacker can tell of what earlier updates left in this one, for those with `error_feedback`.

        Args:
            sent: as in `known`.
            own: what `known` gave for it.
            waited: by parameter, how many of the client's messages in a row, until now, held something of a coordinate
                back, as far as the server could tell: all of them, where `known` has no mask.

        Returns:
            The noise that this adds; none by default.
        """
        return Distortion()


@final
class _Chain(UpdateTransform):
    """Several transforms, applied in order."""

    def __init__(self, members: Sequence[UpdateTransform]) -> None:
        self.members = tuple(members)
        self.needs_client = any(member.needs_client for member in self.members)
        self.error_feedback = any(member.error_feedback for member in self.members)
        self.draws = any(member.draws for member in self.members)

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        for member in self.members:
            update = member(update, generator=generator, client=client)
        return update

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        result = Distortion()
        for distortion in distortions(self.members, sent, later):
            result = result.joined(distortion)
        return result

    def known_of_sum(self, names: Sequence[str], share: float) -> Distortion | None:
        result = Distortion()
        for member in self.members:
            distortion = member.known_of_sum(names, share)
            if distortion is None:
                return None
            result = result.then(distortion)
        return result


def compose(transforms: Sequence[UpdateTransform]) -> UpdateTransform:
    """Several transforms as one, applied in order; none at all sends the update as it is."""
    members = [part for one in transforms for part in (one.members if isinstance(one, _Chain) else (one,))]
    return members[0] if len(members) == 1 else _Chain(members)


def distortions(
    transforms: Sequence[UpdateTransform], sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED
) -> list[Distortion]:
    """What each of several transforms did, all in the units of what was sent; see `UpdateTransform.known`.

    Nobody but the client saw what the earlier ones made: each reads what it can off the final update, the last one
    first, so that those before it know what was done to theirs.

    Args:
        transforms: in the order in which they were applied.
        sent: what the last of them made, or as others changed that.
        later: what those others did.
    """
    known: list[Distortion] = []
    for transform in reversed(transforms):
        known.append(transform.known(sent, later))
        later = known[-1].joined(later)
    return known[::-1]


def whole_columns(mask: Bool[Tensor, "..."]) -> bool:
    """Whether a mask drops columns of a matrix, whatever they held, instead of single entries, for they are small."""
    if mask.ndim != 2 or len(mask) < 2:  # a single row has an entry a column
        return False
    return not bool(mask.all()) and bool((mask.any(0) == mask.all(0)).all())


def with_feedback(
    transform: UpdateTransform,
    update: Mapping[str, Tensor],
    carried: Mapping[str, Tensor] | None = None,
    *,
    generator: torch.Generator | None = None,
    client: ClientSide | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Transform an update together with what this client held back before.

        sent = T(update + carried),    carried' = update + carried - sent

    In a composition each member that wants a memory has its own. An update that is not finite is sent as it is and
    leaves the memory alone.

    Args:
        transform: one without `error_feedback` is merely applied.
        update: of one client.
        carried: what this function returned for the same client the last time; None or empty for a fresh client, which
            carries nothing.
        generator: see `UpdateTransform.__call__`.
        client: likewise.

    Returns:
        What is sent, and what to carry to the client's next update: plain tensors by name, in float32 at least; empty
        where nothing is carried.

    Raises:
        InputError: the arguments are malformed, or the memory is that of another model or another defense.

    Reference: Karimireddy et al., ICML 2019, arXiv:1901.09847
    """
    generator = generator or torch.Generator().manual_seed(0)
    _check_update(type(transform).__name__, update)
    memory = dict(carried or {})
    if not _is_finite(update):
        return transform(update, generator=generator, client=client), memory
    members = transform.members if isinstance(transform, _Chain) else (transform,)
    sent, held_back = dict(update), dict[str, Tensor]()
    for index, member in enumerate(members):
        if not member.error_feedback:
            sent = member(sent, generator=generator, client=client)
            continue
        prefix = f"{index}/" if isinstance(transform, _Chain) else ""
        own = {name: memory.pop(prefix + name, None) for name in sent}
        total = {name: _added(name, row, own[name]) for name, row in sent.items()}
        sent = member({name: total[name].to(row) for name, row in sent.items()}, generator=generator, client=client)
        held_back |= {prefix + name: row - sent[name].to(row) for name, row in total.items()}
    if memory:
        raise InputError(
            f"with_feedback: carried has {', '.join(map(repr, list(memory)[:3]))}, which belongs to no member of "
            f"{type(transform).__name__}; expected what it returned for this client"
        )
    return sent, held_back


def _added(name: str, row: Tensor, carried: Tensor | None) -> Tensor:
    """The sum, in float32 at least: what is carried for long must not be lost to rounding."""
    wide = row.detach().to(torch.promote_types(row.dtype, torch.float32))
    if carried is None:
        return wide
    if carried.shape != row.shape:
        raise InputError(
            f"with_feedback: carried[{name!r}] has shape {tuple(carried.shape)}, the update {tuple(row.shape)}"
        )
    return wide + carried.to(wide)


def _check_update(name: str, update: Mapping[str, Tensor]) -> None:
    if not update:
        raise InputError(f"{name}: the update is empty; expected tensors by parameter name")
    for key, row in update.items():
        if not isinstance(row, Tensor) or not row.is_floating_point() or row.numel() == 0:
            got = f"{row.dtype} of shape {tuple(row.shape)}" if isinstance(row, Tensor) else type(row).__name__
            raise InputError(f"{name}: update[{key!r}] must hold floating-point numbers, got {got}")


def _is_finite(update: Mapping[str, Tensor]) -> bool:
    return all(bool(row.isfinite().all()) for row in update.values())


def _checked(what: str, sent: Mapping[str, Tensor], update: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is sent, in the update's order, sharing no memory with it."""
    if sent.keys() != update.keys():
        raise InputError(f"{what}: gave {', '.join(sent)} for an update of {', '.join(update)}")
    for key, row in update.items():
        if (sent[key].shape, sent[key].dtype, sent[key].device) != (row.shape, row.dtype, row.device):
            raise InputError(
                f"{what}: gave {sent[key].dtype} of shape {tuple(sent[key].shape)} on {sent[key].device} for {key!r}; "
                f"expected {row.dtype} of shape {tuple(row.shape)} on {row.device}"
            )
    storages = {row.untyped_storage().data_ptr() for row in update.values()}
    rows = {key: sent[key].detach() for key in update}
    return {key: row.clone() if row.untyped_storage().data_ptr() in storages else row for key, row in rows.items()}
