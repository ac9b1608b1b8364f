"""Conformance checks of rules and inversions; see `fedsec.testing`."""

import copy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.defense import Aggregate, Aggregator, AggregatorTrial, RoundContext
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
from fedsec.threat import Inversion, MaliciousServer, Observation, ServerView

__all__ = ["check_aggregator", "check_inversion"]

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
        _check_memory(rule, updates)
        _check_trial(rule, random_matrix(num_clients, 37, dtype=torch.float64, device=device))
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


def check_inversion(
    attack: Inversion,
    *,
    model: nn.Module | None = None,
    batch_size: int = 1,
    gain: float | None = 6.0,
    labels_granted: bool = True,
) -> None:
    """Put an inversion through its contract; a malicious server's on the model that it crafts.

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
        if isinstance(attack, MaliciousServer):
            victim = _crafted(attack, victim, images)
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


def _crafted(attack: MaliciousServer, model: nn.Module, images: Tensor) -> nn.Module:
    """The model that a malicious server sends in a model's place."""
    auxiliary, labels = pictures(8, str(images.device))
    channels, height, width = images.shape[1:]
    view = ServerView(model, (channels, height, width), 10, len(images), auxiliary=auxiliary, auxiliary_labels=labels)
    state = {name: row.clone() for name, row in model.state_dict().items()}
    with global_randomness_untouched():
        crafted = attack.craft(view, generator=seeded(1))
    again = attack.craft(view, generator=seeded(1)).state_dict()
    same = all(torch.equal(row, state[name]) for name, row in model.state_dict().items())
    expect(same, "the model that would be sent honestly must not change")
    equal = all(torch.equal(row, again[name]) for name, row in crafted.state_dict().items())
    expect(equal, "equal generators must give equal models")
    return crafted


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
    counted = weights.double() if rule.uses_weights else torch.ones(len(updates), dtype=torch.float64)
    known = weighted.weights is not None and torch.allclose(weighted.weights.cpu(), counted / counted.sum())
    expect(known, f"an aggregate tells the clients' weights, not {weighted.weights}")
    if rule.uses_weights:
        expect(not torch.equal(vector, weighted.vector), "weights must matter")
        expect(float(weighted.influence[0]) == 0, "a client of weight zero has no influence")
        expect_close(call(updates, 7 * weights), weighted.vector, "only the weights' ratios may matter")
    else:
        expect(torch.equal(vector, weighted.vector), "weights must be ignored")


def _check_memory(rule: Aggregator, updates: Tensor) -> None:
    """What it does in later rounds follows from its state."""
    first, stranger = copy.deepcopy(rule), copy.deepcopy(rule)
    for round_number in (1, 2, 3):
        second, rows = copy.deepcopy(stranger), updates.roll(round_number, 1) * round_number
        second.restore({name: tensor.clone() for name, tensor in first.state().items()})
        vectors = [one(rows, **_context(one, rows)) for one in (first, second)]
        expect(torch.equal(*vectors), f"equal states must give equal results in round {round_number}")
        states = first.state(), second.state()
        same = states[0].keys() == states[1].keys()
        same = same and all(identical(tensor, states[1][name]) for name, tensor in states[0].items())
        expect(same, f"equal states must stay equal in round {round_number}")
    unknown = {"what no rule remembers": torch.zeros(1)}
    expect_error(InputError, partial(first.restore, unknown), "a state that is not its own")


def _check_trial(rule: Aggregator, points: Tensor) -> None:
    """What an attacker who knows the rule sees in a search, of rows that are mixtures, is what their rows do."""
    count, context = len(points), _context(rule, points)
    context.pop("generator", None)
    trial = AggregatorTrial(rule, seeded(2), context=context)
    mixing = torch.eye(count, dtype=torch.float64)
    mixing[-1] = torch.linspace(-1, 0.5, count)  # the last client's row lies on the other side
    mean = torch.full((count,), 1 / count, dtype=torch.float64)
    whole = trial.damage(mixing.to(points) @ points, mean.to(points) @ points)
    seen = trial.mixtures(points, count).damage(mixing, mean)
    same = abs(seen - whole) <= 1e-6 * whole + 1e-9
    expect(same, f"a trial of the rule on mixtures of rows sees the damage that these do, {whole}, not {seen}")


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
    # A sum of the row's numbers: of equal rows equal losses, and a common shift or factor changes what is alike.
    known["losses"] = updates.double().mean(-1).nan_to_num(0.0, 0.0, 0.0)
    known["shapes"] = {"weight": (columns // 2, 2), "bias": (columns % 2,)}
    return {key: value for key, value in known.items() if key in _needs(rule)}  # type: ignore[return-value]


def _needs(rule: Aggregator) -> list[str]:
    needed = {"generator": rule.draws, "server_update": rule.needs_server_update, "shapes": rule.needs_shapes}
    needed["losses"] = rule.needs_losses
    return [key for key, value in needed.items() if value]
