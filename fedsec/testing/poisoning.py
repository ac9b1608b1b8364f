"""Conformance checks of attacks by Byzantine clients, on their data and on their updates; see `fedsec.testing`."""

import copy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fedsec.defense.trial import CallableTrial
from fedsec.errors import InputError
from fedsec.testing.checks import (
    devices,
    expect,
    expect_close,
    expect_error,
    global_randomness_untouched,
    identical,
    random_matrix,
    seeded,
)
from fedsec.testing.machines import machines
from fedsec.threat import AttackerMachine, AttackerView, DataPoisoning, UpdatePoisoning

__all__ = ["check_data_poisoning", "check_update_poisoning"]


def check_data_poisoning(attack: DataPoisoning, *, num_classes: int | None = 10, changes_images: bool = False) -> None:
    """Put an attack on training data through its contract.

    Args:
        attack: the attack.
        num_classes: how many classes it is tried with; None for targets that are numbers.
        changes_images: whether it may return other images; otherwise they must be the same object.

    Raises:
        AssertionError: the attack breaks the contract.
    """
    for device in devices():
        for count in (1, 64):
            images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=seeded(1)).to(device)
            if num_classes is None:
                labels = torch.randn(count, generator=seeded(2)).to(device)
            else:
                labels = torch.randint(0, num_classes, (count,), generator=seeded(2)).to(device)
            _check_poison(attack, images, labels, num_classes, changes_images)


def check_update_poisoning(
    attack: UpdatePoisoning, *, permutation_invariant: bool = True, positively_homogeneous: bool = True
) -> None:
    """Put an attack on updates through its contract.

    Args:
        attack: the attack; it is tried before its first round.
        permutation_invariant: the order of the honest clients makes no difference but rounding.
        positively_homogeneous: updates twice as large make what is sent twice as large.

    Raises:
        AssertionError: the attack breaks the contract.
    """
    expect(getattr(attack, "knowledge", None) in ("own", "omniscient"), "`knowledge` must be own or omniscient")
    for device in devices():
        for num_byzantine, dtype in ((1, torch.float32), (3, torch.float32), (2, torch.float64)):
            _check_craft(attack, num_byzantine, dtype, device)
        _check_memory(attack, device)
        _check_symmetries(attack, device, permutation_invariant, positively_homogeneous)


def _check_poison(
    attack: DataPoisoning, images: Tensor, labels: Tensor, num_classes: int | None, changes_images: bool
) -> None:
    def poison(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return attack.poison(images, labels, num_classes=num_classes, generator=seeded(3))

    before = images.clone(), labels.clone()
    with global_randomness_untouched():
        new_images, new_labels = poison(images, labels)
    expect(torch.equal(images, before[0]) and torch.equal(labels, before[1]), "the inputs must not change")
    expect(changes_images or new_images is images, "the images must be returned as they are")
    again = poison(images, labels)
    same = torch.equal(new_images, again[0]) and torch.equal(new_labels, again[1])
    expect(same, "equal generators must give equal results")
    malformed_labels = [(labels.int(), "labels of another dtype"), (labels[1:], "too few labels")]
    if num_classes is not None:
        malformed_labels.append((labels + num_classes, "labels out of range"))
    for malformed, why in malformed_labels:
        expect_error(InputError, partial(poison, images, malformed), why)


def _view(
    num_byzantine: int,
    dtype: torch.dtype,
    device: str,
    *,
    round_number: int = 1,
    honest_seed: int = 2,
    trains: bool = False,
) -> AttackerView:
    """A round of eight honest clients and some Byzantine ones; they have machines if the attack trains."""
    equipped: tuple[AttackerMachine, ...] = ()
    columns = 37
    if trains:
        equipped, parameters = machines(num_byzantine, dtype, device, round_number)
        columns = len(parameters)
    rows = partial(random_matrix, columns=columns, dtype=dtype, device=device)
    received, last = rows(2, seed=3 + 10 * round_number)
    return AttackerView(
        own=rows(num_byzantine, seed=1 + 10 * round_number),
        honest=rows(8, seed=honest_seed + 10 * round_number),
        parameters=parameters if trains else received,
        num_clients=8 + num_byzantine,
        num_byzantine=num_byzantine,
        round=round_number,
        generator=seeded(4),
        clients=tuple(range(10, 18)),
        last_aggregate=last if round_number > 1 else None,
        defense=CallableTrial(lambda rows: rows.median(0).values),
        machines=equipped,
    )


def _check_craft(attack: UpdatePoisoning, num_byzantine: int, dtype: torch.dtype, device: str) -> None:
    view = partial(_view, num_byzantine, dtype, device, trains=attack.trains)
    seen = view()
    with global_randomness_untouched():
        rows = copy.deepcopy(attack).craft(seen)
    untouched = torch.equal(seen.own, view().own) and torch.equal(seen.honest, view().honest)
    expect(untouched and torch.equal(seen.parameters, view().parameters), "the view must not change")
    expect(identical(rows, copy.deepcopy(attack).craft(view())), "equal views and generators must give equal rows")
    if attack.knowledge == "own":
        others = copy.deepcopy(attack).craft(view(honest_seed=5))
        expect(identical(rows, others), "honest rows must not matter")


def _check_memory(attack: UpdatePoisoning, device: str) -> None:
    """What it does in later rounds follows from its state."""
    first, second, stranger = (copy.deepcopy(attack) for _ in range(3))
    for round_number in (1, 2, 3):
        view = partial(_view, 2, torch.float32, device, round_number=round_number, trains=attack.trains)
        second = copy.deepcopy(stranger)
        second.restore({name: tensor.clone() for name, tensor in first.state().items()})
        rows = first.craft(view())
        expect(identical(rows, second.craft(view())), f"equal states must give equal rows in round {round_number}")
        states = first.state(), second.state()
        same = states[0].keys() == states[1].keys()
        same = same and all(identical(tensor, states[1][name]) for name, tensor in states[0].items())
        expect(same, f"equal states must stay equal in round {round_number}")
    unknown = {"what no attack remembers": torch.zeros(1)}
    expect_error(InputError, partial(first.restore, unknown), "a state that is not its own")


def _check_symmetries(
    attack: UpdatePoisoning, device: str, permutation_invariant: bool, positively_homogeneous: bool
) -> None:
    view = partial(_view, 3, torch.float64, device, trains=attack.trains)
    seen = view()
    rows = copy.deepcopy(attack).craft(seen)
    if permutation_invariant and not bool(rows.isnan().any()):
        order = [5, 2, 7, 0, 6, 1, 4, 3]
        clients = tuple(seen.clients[place] for place in order)
        moved = view()
        moved = replace(moved, honest=moved.honest[order], clients=clients)
        expect_close(copy.deepcopy(attack).craft(moved), rows, "the order of the honest clients must not matter")
    if positively_homogeneous and bool(rows.isfinite().all()):
        larger = view()
        larger = replace(larger, own=2 * larger.own, honest=2 * larger.honest)
        expect_close(
            copy.deepcopy(attack).craft(larger), 2 * rows, "updates twice as large must give rows twice as large"
        )
