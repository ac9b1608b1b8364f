"""The check of `fedsec.testing` for defenses that a client applies to its own update."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from fedsec.defense.updates import ClientSide, UpdateTransform, compose, with_feedback
from fedsec.errors import InputError
from fedsec.testing.checks import (
    devices,
    expect,
    expect_error,
    global_randomness_untouched,
    identical,
    pictures,
    random_matrix,
    seeded,
)
from fedsec.threat import Distortion

__all__ = ["check_update_transform"]

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_ROUNDS = 4


def check_update_transform(transform: UpdateTransform, *, changes: bool = True) -> None:
    """Put a defense of single updates through its contract.

    Args:
        transform: the defense; it is tried on updates of a small network whose layers are named 0 and 3, of norm 10 or
            so.
        changes: whether it changes such updates at all.

    Raises:
        AssertionError: the defense breaks the contract.
    """
    for device in devices():
        for dtype in _DTYPES:
            client = _client(dtype, device)
            update = {name: row.to(dtype) for name, row in _update(client.model, seed=1).items()}
            _check_sent(transform, update, client, changes)
            _check_not_finite(transform, update, client)
        client = _client(torch.float32, device)
        _check_feedback(transform, client)
        zeros = {name: torch.zeros_like(row) for name, row in _update(client.model, seed=1).items()}
        sent = transform(zeros, generator=seeded(2), client=client)
        expect(all(bool(row.isfinite().all()) for row in sent.values()), "finite values for an update of zeros")
        transform.known(sent)
    update, client = _update(_client(torch.float32, "cpu").model, seed=1), _client(torch.float32, "cpu")
    expect_error(InputError, partial(transform, {}, client=client), "an empty update")
    integers = {name: row.long() for name, row in update.items()}
    expect_error(InputError, partial(transform, integers, client=client), "integers")
    if transform.needs_client:
        expect_error(InputError, partial(transform, update), "the client's side is missing")


def _check_sent(transform: UpdateTransform, update: dict[str, Tensor], client: ClientSide, changes: bool) -> None:
    what = f"for {next(iter(update.values())).dtype}"
    before = _copy(update)
    held = _copy(client.model.state_dict()) | {"images": client.images.clone()}
    with global_randomness_untouched():
        sent = transform(update, generator=seeded(2), client=client)
    expect(_equal(update, before), f"the update must not change {what}")
    expect(_equal({**client.model.state_dict(), "images": client.images}, held), f"the client must not change {what}")
    expect(list(sent) == list(update), f"the update's parameters, in their order {what}")
    kinds = [(row.shape, row.dtype, row.device) for row in sent.values()]
    expect(kinds == [(row.shape, row.dtype, row.device) for row in update.values()], f"shapes, dtypes, devices {what}")
    expect(all(bool(row.isfinite().all()) for row in sent.values()), f"finite values {what}")
    expect(
        _equal(sent, transform(update, generator=seeded(2), client=client)), f"equal generators, equal results {what}"
    )
    default = transform(update, client=client)
    expect(_equal(default, transform(update, generator=seeded(0), client=client)), f"a generator seeded with 0 {what}")
    expect(_equal(sent, update) != changes, f"an update that {'changes' if changes else 'stays'} {what}")
    for row in sent.values():
        row.zero_()
    expect(_equal(update, before), f"what is sent must not share the update's memory {what}")
    sent = transform(update, generator=seeded(2), client=client)
    _check_known(transform, sent, what)


def _check_known(transform: UpdateTransform, sent: dict[str, Tensor], what: str) -> None:
    before = _copy(sent)
    distortion = transform.known(sent)
    expect(isinstance(distortion, Distortion), f"`known` gives a Distortion {what}")
    distortion.on(sent)
    expect(_equal(sent, before), f"`known` must not change what was sent {what}")
    twice = compose([transform, transform]).known(sent)
    expect(twice.signs == distortion.signs and twice.rescaled == distortion.rescaled, f"`known` composes {what}")


def _check_not_finite(transform: UpdateTransform, update: dict[str, Tensor], client: ClientSide) -> None:
    name = next(iter(update))
    for value in (torch.nan, torch.inf, -torch.inf):
        broken = _copy(update)
        broken[name].view(-1)[-1] = value
        sent = transform(broken, generator=seeded(2), client=client)
        expect(_equal(sent, broken), f"an update with {value} is sent as it is, for the server to reject")
        carried = {} if not transform.error_feedback else with_feedback(transform, update, client=client)[1]
        memory = with_feedback(transform, broken, carried, client=client)[1]
        expect(_equal(memory, carried), f"an update with {value} must not enter the memory")


def _check_feedback(transform: UpdateTransform, client: ClientSide) -> None:
    generator = seeded(3)
    carried: dict[str, Tensor] = {}
    updates = [_update(client.model, seed=10 + index) for index in range(_ROUNDS)]
    total = {name: torch.zeros_like(row) for name, row in updates[0].items()}
    for update in updates:
        sent, carried = with_feedback(transform, update, carried, generator=generator, client=client)
        total = {name: row + sent[name] for name, row in total.items()}
    if not transform.error_feedback:
        expect(not carried, "nothing is carried without error feedback")
        return
    for messages in (0, 1, 255):
        waited = {name: torch.full_like(row, messages, dtype=torch.uint8) for name, row in sent.items()}
        known = transform.remembered(sent, transform.known(sent), waited).on(sent)
        if messages == 0:
            expect(
                not any(known.noise.values()) and not known.carried,
                "a first message holds nothing of earlier ones",
            )
    expect(bool(carried), "something is carried with error feedback")
    for name, row in total.items() if carried.keys() == total.keys() else ():  # not so in compositions
        wanted = torch.stack([update[name] for update in updates]).sum(0)
        close = torch.allclose(row + carried[name], wanted, rtol=1e-4, atol=1e-4)
        expect(close, "what was sent and what is carried are together what there was to send")


def _client(dtype: torch.dtype, device: str) -> ClientSide:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 3, 5, stride=4), nn.Sigmoid(), nn.Flatten(), nn.Linear(27, 10))
    images, labels = pictures(3, device)
    # Convolutions in half precision are slow on a CPU, and some of their gradients do not exist there.
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return ClientSide(model.to(device, wide), images.to(wide), labels)


def _update(model: nn.Module, seed: int) -> dict[str, Tensor]:
    rows = model.named_parameters()
    return {
        name: random_matrix(1, row.numel(), dtype=row.dtype, device=str(row.device), seed=seed + index).view(row.shape)
        for index, (name, row) in enumerate(rows)
    }


def _copy(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: row.clone() for name, row in rows.items()}


def _equal(first: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return first.keys() == other.keys() and all(identical(row, other[name]) for name, row in first.items())
