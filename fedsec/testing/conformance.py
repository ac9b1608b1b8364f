"""Conformance checks of attacks, rules and inversions; see `fedsec.testing`."""

import copy
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.defense import Aggregate, Aggregator, RoundContext
from fedsec.defense.trial import CallableTrial
from fedsec.errors import AggregationError, InputError
from fedsec.testing.checks import (
    devices,
    expect,
    expect_close,
    expect_error,
    global_randomness_untouched,
    identical,
    pictures,
    random_matrix,
    seeded,
)
from fedsec.threat import AttackerView, DataPoisoning, Inversion, Observation, UpdatePoisoning

__all__ = ["check_aggregator", "check_data_poisoning", "check_inversion", "check_update_poisoning"]

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def check_aggregator(
    rule: Aggregator,
    *,
    num_clients: int = 11,
    num_byzantine: int = 0,
    permutation_invariant: bool = True,
    translation_equivariant: bool = True,
) -> None:
    """Put an aggregation rule through its contract.

    Args:
        rule: the rule, set up for `num_clients` clients.
        num_clients: how many rows the rule is tried with, at least 2.
        num_byzantine: so many huge rows must leave the result within the range of the honest rows in
            every coordinate. True of coordinate-wise rules; leave it at 0 for others.
        permutation_invariant: the order of the clients makes no difference but rounding.
        translation_equivariant: adding a vector to every update adds it to the result.

    Raises:
        AssertionError: the rule breaks the contract.
    """
    for device in devices():
        for dtype in _DTYPES:
            _check_result(rule, random_matrix(num_clients, 37, dtype=dtype, device=device))
        updates = random_matrix(num_clients, 1003, device=device)
        call = _FreshRule(rule)
        vector = call(updates)
        if permutation_invariant:
            for order in (torch.arange(num_clients).roll(1), torch.randperm(num_clients, generator=seeded(1))):
                expect_close(call(updates[order.to(device)]), vector, "the order of the clients must not matter")
        if translation_equivariant:
            shift = random_matrix(1, 1003, seed=2, device=device)
            expect_close(call(updates + shift), vector + shift[0], "a common shift must shift the result")
        _check_gate(rule, updates)
        _check_weights(rule, updates)
        if num_byzantine:
            _check_breakdown(rule, updates, num_byzantine)
    for malformed in (torch.zeros(num_clients), torch.zeros(0, 3), torch.zeros(num_clients, 0), updates.long()):
        expect_error(
            InputError,
            partial(rule, malformed, generator=seeded(1) if rule.draws else None),
            f"{malformed.dtype} of {tuple(malformed.shape)}",
        )
    for missing in _needs(rule):
        some = {key: value for key, value in _context(rule, updates).items() if key != missing}
        expect_error(InputError, partial(rule, updates, **some), f"no {missing}")


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


def check_inversion(
    attack: Inversion,
    *,
    model: nn.Module | None = None,
    batch_size: int = 1,
    gain: float | None = 6.0,
    labels_granted: bool = True,
) -> None:
    """Put an inversion through its contract.

    Args:
        attack: the attack, with a budget of seconds.
        model: for images of 1x16x16 and 10 classes; by default two sigmoid convolutions and a linear layer.
        batch_size: images in a batch.
        gain: the reconstructions' mean PSNR must be so many dB above that of a gray image; None: not checked.
        labels_granted: whether the attacker is told the labels.

    Raises:
        AssertionError: the attack breaks the contract.
    """
    for device in devices():
        victim = (model if model is not None else _small_network()).to(device)
        images, labels = pictures(batch_size, device)
        loss = F.cross_entropy(victim(images), labels)
        seen = Observation.of_gradient(
            victim,
            torch.autograd.grad(loss, list(victim.parameters())),
            input_shape=images.shape[1:],
            num_classes=10,
            batch_size=batch_size,
            labels=labels if labels_granted else None,
        )
        before = {name: row.clone() for name, row in _held(seen).items()}
        with global_randomness_untouched():
            result = attack.reconstruct(seen, generator=seeded(1))
        after = _held(seen)
        same = before.keys() == after.keys() and all(torch.equal(row, after[name]) for name, row in before.items())
        expect(same, "the observation must not change")
        again = attack.reconstruct(seen, generator=seeded(1))
        if result.images is None or again.images is None:
            expect(result.images is None and result.labels is not None, "images, labels, or both")
            continue
        expect(torch.allclose(result.images, again.images, atol=1e-5), "equal generators must give equal results")
        if labels_granted and result.labels is not None:
            expect(torch.equal(result.labels.sort().values, labels.sort().values), "granted labels must be used")
        if gain is not None:
            errors = (result.images[:, None] - images[None]).square().flatten(2).mean(2)
            gray = (images - 0.5).square().flatten(1).mean(1)
            better = 10 * float((gray / errors.amin(0)).log10().mean())
            expect(better >= gain, f"a PSNR of at least {gain} dB above a gray image's, not {better:.1f} dB")


def _held(seen: Observation) -> dict[str, Tensor]:
    """The update and the model's state, under names of their own."""
    update = {f"update {name}": row for name, row in seen.update.items()}
    return {**update, **{f"model {name}": row for name, row in seen.model.state_dict().items()}}


def _small_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 12, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Conv2d(12, 12, 5, stride=2, padding=2),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(192, 10),
        ).apply(_wide)


def _wide(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        nn.init.uniform_(parameter, -0.5, 0.5)


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
    num_byzantine: int, dtype: torch.dtype, device: str, *, round_number: int = 1, honest_seed: int = 2
) -> AttackerView:
    """A round of eight honest clients and some Byzantine ones."""
    parameters, last = random_matrix(2, 37, dtype=dtype, device=device, seed=3 + 10 * round_number)
    return AttackerView(
        own=random_matrix(num_byzantine, 37, dtype=dtype, device=device, seed=1 + 10 * round_number),
        honest=random_matrix(8, 37, dtype=dtype, device=device, seed=honest_seed + 10 * round_number),
        parameters=parameters,
        num_clients=8 + num_byzantine,
        num_byzantine=num_byzantine,
        round=round_number,
        generator=seeded(4),
        clients=tuple(range(10, 18)),
        last_aggregate=last if round_number > 1 else None,
        defense=CallableTrial(lambda rows: rows.median(0).values),
    )


def _check_craft(attack: UpdatePoisoning, num_byzantine: int, dtype: torch.dtype, device: str) -> None:
    view = partial(_view, num_byzantine, dtype, device)
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
        view = partial(_view, 2, torch.float32, device, round_number=round_number)
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
    seen = _view(3, torch.float64, device)
    rows = copy.deepcopy(attack).craft(seen)
    if permutation_invariant and not bool(rows.isnan().any()):
        order = [5, 2, 7, 0, 6, 1, 4, 3]
        clients = tuple(seen.clients[place] for place in order)
        moved = _view(3, torch.float64, device)
        moved = replace(moved, honest=moved.honest[order], clients=clients)
        expect_close(copy.deepcopy(attack).craft(moved), rows, "the order of the honest clients must not matter")
    if positively_homogeneous and bool(rows.isfinite().all()):
        larger = _view(3, torch.float64, device)
        larger = replace(larger, own=2 * larger.own, honest=2 * larger.honest)
        expect_close(
            copy.deepcopy(attack).craft(larger), 2 * rows, "updates twice as large must give rows twice as large"
        )


def _check_result(rule: Aggregator, updates: Tensor) -> None:
    before, call = updates.clone(), _FreshRule(rule)
    with global_randomness_untouched():
        vector = call(updates)
    what = f"for {updates.dtype} on {updates.device}"
    expect(vector.shape == updates.shape[1:], f"one value a column {what}, not {tuple(vector.shape)}")
    expect(vector.dtype == updates.dtype and vector.device == updates.device, f"same dtype and device {what}")
    expect(bool(vector.isfinite().all()), f"a finite result {what}")
    expect(torch.equal(updates, before), f"the updates must not change {what}")
    expect(torch.equal(vector, call(updates)), f"the same result twice {what}")
    aggregate = call.aggregate(updates)
    expect(torch.equal(vector, aggregate.vector), f"aggregate() must give the vector of __call__ {what}")
    _expect_influence(aggregate.influence, len(updates))
    expect(aggregate.rejected == (), f"finite rows must not be rejected {what}")
    _expect_suspicion(rule, aggregate)


def _check_gate(rule: Aggregator, updates: Tensor) -> None:
    largest = torch.finfo(updates.dtype).max
    huge = updates / updates.abs().max() * largest
    call = _FreshRule(rule)
    aggregate = call.aggregate(huge)
    expect(bool(aggregate.vector.isfinite().all()) and not aggregate.rejected, "huge finite rows are not rejected")
    expect_error(AggregationError, partial(call, updates * torch.inf), "no finite row is left")
    for value in (torch.nan, torch.inf, -torch.inf):
        broken = updates.clone()
        broken[1, -1] = value
        if rule.max_rejected(len(updates)) == 0:
            expect_error(AggregationError, partial(call, broken), "a row was lost")
            continue
        aggregate = call.aggregate(broken)
        expect(aggregate.rejected == (1,), f"the row with {value} must be reported")
        expect(bool(aggregate.vector.isfinite().all()), f"a finite result in spite of {value}")
        _expect_influence(aggregate.influence, len(updates))
        expect(float(aggregate.influence[1]) == 0, "a rejected row has no influence")
        _expect_suspicion(rule, aggregate)


def _check_weights(rule: Aggregator, updates: Tensor) -> None:
    weights, call = torch.arange(len(updates), dtype=torch.float32), _FreshRule(rule)
    for malformed in (weights[1:], -weights, weights * 0, weights + torch.nan):
        expect_error(InputError, partial(call, updates, malformed), f"weights {malformed.tolist()}")
    vector, weighted = call(updates), call.aggregate(updates, weights)
    _expect_influence(weighted.influence, len(updates))
    if rule.uses_weights:
        expect(not torch.equal(vector, weighted.vector), "weights must matter")
        expect(float(weighted.influence[0]) == 0, "a client of weight zero has no influence")
        expect_close(call(updates, 7 * weights), weighted.vector, "only the weights' ratios may matter")
    else:
        expect(torch.equal(vector, weighted.vector), "weights must be ignored")


def _check_breakdown(rule: Aggregator, updates: Tensor, num_byzantine: int) -> None:
    honest = updates[num_byzantine:]
    low, high = honest.amin(0), honest.amax(0)
    slack = 1e-5 * honest.abs().amax(0)
    for size in (1e30, -1e30):
        attacked = updates.clone()
        attacked[:num_byzantine] = size
        vector = _FreshRule(rule)(attacked)
        inside = (vector >= low - slack) & (vector <= high + slack)
        expect(bool(inside.all()), f"{num_byzantine} rows of {size} must not move the result beyond the honest rows")


def _expect_influence(influence: Tensor, num_clients: int) -> None:
    expect(influence.shape == (num_clients,), f"one influence for each client, not {tuple(influence.shape)}")
    expect(bool((influence >= 0).all()), "influences are not negative")
    total = float(influence.sum())
    expect(total == 0 or abs(total - 1) < 1e-6, f"influences sum to one, or to zero where nobody counted, not {total}")


def _expect_suspicion(rule: Aggregator, aggregate: Aggregate) -> None:
    suspected = aggregate.suspected
    if not rule.detects or suspected is None:
        expect(suspected is None and not rule.detects, "suspects of rules that detect, and of no others")
        return
    expect({*aggregate.rejected} <= {*suspected}, "rejected rows are suspected ones")
    excluded = not bool(aggregate.influence[list(suspected)].any())
    expect(excluded, "whom a rule takes for Byzantine has no influence")


class _FreshRule:
    """Calls a rule, with all that it needs, as if it had never been called before."""

    def __init__(self, rule: Aggregator) -> None:
        rule = copy.deepcopy(rule)
        self.rule, self.start = rule, {name: tensor.clone() for name, tensor in rule.state().items()}

    def __call__(self, updates: Tensor, weights: Tensor | None = None) -> Tensor:
        self.rule.restore(self.start)
        return self.rule(updates, weights, **_context(self.rule, updates))

    def aggregate(self, updates: Tensor, weights: Tensor | None = None) -> Aggregate:
        self.rule.restore(self.start)
        return self.rule.aggregate(updates, weights, **_context(self.rule, updates))


def _context(rule: Aggregator, updates: Tensor) -> RoundContext:
    columns = updates.shape[-1]
    server = random_matrix(1, columns, dtype=updates.dtype, device=str(updates.device), seed=9)[0]
    known: RoundContext = {"generator": seeded(1), "server_update": server}
    known["shapes"] = {"weight": (columns // 2, 2), "bias": (columns % 2,)}
    return {key: value for key, value in known.items() if key in _needs(rule)}  # type: ignore[return-value]


def _needs(rule: Aggregator) -> list[str]:
    needed = {"generator": rule.draws, "server_update": rule.needs_server_update, "shapes": rule.needs_shapes}
    return [key for key, value in needed.items() if value]
