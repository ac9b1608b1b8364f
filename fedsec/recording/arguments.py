"""What a loop tells a recorder, checked, in the form in which files keep it."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.recording.manifest import Manifest
from fedsec.recording.round_file import ClientId
from fedsec.threat.rows import as_tensor

__all__ = [
    "are_flat",
    "in_order",
    "check_kind",
    "checked_id",
    "client_name",
    "is_one_state",
    "measured",
    "members",
    "plain",
]

_NEAR = 0.2
"""An update this near to the parameters themselves, relative to their length, is the parameters."""
_TELLING = 8
"""Fewer numbers than these may be near to each other by chance."""


def client_name(where: str, client: ClientId) -> str:
    """How messages call a client in a round."""
    return f"{where}, client {client!r}"


def checked_id(where: str, client: Any) -> ClientId:
    """An id as files keep it.

    Raises:
        InputError: neither a whole number nor text.
    """
    if isinstance(client, str):
        return client
    try:
        number = client.__index__()  # NumPy's whole numbers as well
    except (AttributeError, TypeError):
        number = None
    if number is None or isinstance(client, bool):
        raise InputError(f"{where}: a client's id must be a whole number or text, got {client!r}")
    return int(number)


def are_flat(received: Any) -> bool:
    """Whether clients send flat rows."""
    first = next(iter(received.values())) if isinstance(received, Mapping) else received[0]
    return not isinstance(first, nn.Module | Mapping | list | tuple)


def is_one_state(received: Mapping[Any, Any]) -> bool:
    """Whether what should be messages by client is one message."""
    return all(not isinstance(value, Mapping | list | tuple | nn.Module) for value in received.values()) and any(
        getattr(value, "ndim", 1) != 1 for value in received.values()
    )


def check_kind(
    where: str, manifest: Manifest, sent: Mapping[str, Tensor], messages: Sequence[Mapping[str, Tensor]]
) -> None:
    """Refuse states in the place of updates, where most clients send what is plainly that."""
    if not sent or manifest.holds != "updates":
        return
    names = [name for name in manifest.parameters if sent[name].is_floating_point()]
    start = torch.cat([sent[name].detach().cpu().flatten().double() for name in names])
    length = float(start.norm())
    if length == 0 or len(start) < _TELLING:
        return
    near = 0
    for message in messages:
        row = torch.cat([message[name].cpu().flatten().double() for name in names])
        near += float((row - start).norm()) < _NEAR * length
    if near > len(messages) / 2:
        raise InputError(
            f"{where}: most clients' updates are nearly the parameters that were sent, as states after training are; "
            'expected holds="states", or those states minus what was sent'
        )


def in_order(
    what: str, given: Mapping[ClientId, float] | Sequence[float] | None, clients: Sequence[ClientId]
) -> Tensor | None:
    """Numbers of the clients in the order of their rows; None where none were given.

    Raises:
        InputError: a client without one, or numbers that weigh nothing.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        missing = [client for client in clients if client not in given]
        if missing:
            raise InputError(f"{what} does not name client {missing[0]!r}")
        given = [given[client] for client in clients]
    values = as_tensor(what, given).detach().cpu().double()
    if values.shape != (len(clients),) or not bool((values.isfinite() & (values >= 0)).all()) or not values.any():
        raise InputError(
            f"{what} must be {len(clients)} finite numbers, none negative and not all zero, got {values.tolist()}"
        )
    return values.clone()


def members(
    where: str, byzantine: Collection[ClientId] | None, clients: Sequence[ClientId]
) -> tuple[ClientId, ...] | None:
    if byzantine is None:
        return None
    names = {checked_id(where, client) for client in byzantine}
    return tuple(client for client in clients if client in names)


def measured(where: str, metrics: Mapping[str, float] | None) -> dict[str, float]:
    """Metrics as files keep them.

    Raises:
        InputError: one that is no number.
    """
    try:
        return {str(name): float(value) for name, value in (metrics or {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{where}: metrics: expected numbers by name ({error})") from error


def plain(what: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy as JSON will give it back."""
    if value is not None and not isinstance(value, Mapping):
        raise InputError(f"{what}: expected a mapping, got {type(value).__name__}")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(value or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: expected what JSON can hold ({error})") from error
    return plain
