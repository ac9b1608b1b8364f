"""Updates as an attacker compares them who knows the defense, against slow ways of saying the same."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsec.matching.candidates import Candidates
from fedsec.matching.distances import cosine_distance, squared_distance
from fedsec.threat import Distortion, LocalSteps, Observation

SHAPE = (1, 6, 6)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 3)).double()


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, *SHAPE, generator=generator).double(), torch.randint(3, (2,), generator=generator)


def observe(seed: int, distortion: Distortion | None, local: LocalSteps | None = None) -> Observation:
    model = network()
    images, labels = batch(seed)
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    update = dict(zip([name for name, _ in model.named_parameters()], rows, strict=True))
    return Observation(model, update, SHAPE, 3, 2, distortion=distortion, local=local)


def masks(seed: int, names: tuple[str, ...] = ("0.weight", "3.weight", "3.bias")) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = dict(network().named_parameters())
    return {name: torch.rand(rows[name].shape, generator=generator) < 0.5 for name in names}


def compared(
    distortions: list[Distortion | None], distance: str = "squared", restarts: int = 1
) -> tuple[Tensor, Tensor]:
    """Losses of some candidates and their gradients by the images."""
    seen = [observe(seed, each) for seed, each in enumerate(distortions)]
    candidates = Candidates(seen, restarts)
    pairs = [batch(100 + problem) for problem in range(candidates.problems)]
    images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
    candidates.prepare(labels)
    images.requires_grad_()
    which = torch.arange(candidates.problems)
    updates, targets = candidates.updates(images, labels, which), candidates.targets_of(which)
    scales = candidates.scales[candidates.owner[which]]
    if distance == "cosine":
        losses = cosine_distance(updates, targets, scales.sqrt())
    else:
        losses = squared_distance(updates, targets, scales)
    return losses.detach(), torch.autograd.grad(losses.sum(), images)[0]


def left(seed: int) -> dict[str, Tensor]:
    """What earlier updates left; in some coordinates nothing."""
    generator = torch.Generator().manual_seed(seed)
    row = dict(network().named_parameters())["3.weight"]
    return {"3.weight": 0.5 * torch.randint(3, row.shape, generator=generator).to(row)}


def slow(seed: int, problem: int, told: Distortion, distance: str = "squared") -> tuple[Tensor, Tensor]:
    """The same for one candidate: kept coordinates are gathered one by one, and everything else is spelled out."""
    seen = observe(seed, None)
    images, labels = batch(100 + problem)
    images.requires_grad_()
    model = network()
    loss = F.cross_entropy(model(images), labels)
    mine = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    left, right = [], []
    least = min(told.noise.values(), default=1.0)
    # A tenth of the largest, whatever is said to carry less.
    most = max((float(row.max()) for row in told.carried.values()), default=0.0)
    for (name, row), update in zip(seen.update.items(), mine, strict=True):
        places = [i for i in range(row.numel()) if name not in told.kept or bool(told.kept[name].flatten()[i])]
        if not places:
            continue
        goal, found = row.flatten()[places], update.flatten()[places]
        if told.signs:
            goal = goal / goal.abs().mean()
            found = found / (found.abs() + 0.03 * found.abs().mean())
        weight: float | Tensor = least / told.noise[name] if told.noise else 1.0
        if told.carried:
            held = told.carried[name].flatten()[places] if name in told.carried else torch.zeros_like(goal)
            weight = 0.1 * most / held.clamp_min(0.1 * most)
        left.append(found * weight)
        right.append(goal * weight)
        if name in told.limit and not told.rescaled and not told.signs:
            dropped = [i for i in range(row.numel()) if i not in places]
            sizes = update.flatten()[dropped].abs() - told.limit[name]
            left.append(torch.stack([size if size > 0 else 0 * size for size in sizes]))
            right.append(torch.zeros_like(left[-1]))
    one, other = torch.cat(left), torch.cat(right)
    if told.rescaled:
        one, other = one / one.norm(), other / other.norm()
    if distance == "cosine":
        result = 1 - F.cosine_similarity(one, other, dim=0)
    else:
        result = (one - other).square().sum() / other.square().sum()
    return result.detach(), torch.autograd.grad(result, images)[0]


LIMIT = {"3.weight": 0.05}
NOISE = {"0.weight": 0.1, "0.bias": 0.2, "3.weight": 0.05, "3.bias": 0.4}


@pytest.mark.parametrize("distance", ["squared", "cosine"])
@pytest.mark.parametrize(
    "make",
    [
        lambda seed: Distortion(masks(seed)),
        lambda seed: Distortion(masks(seed), rescaled=True),
        lambda seed: Distortion(masks(seed, ("3.weight",)), signs=True),
        lambda seed: Distortion(masks(seed), limit={"3.weight": 0.05, "3.bias": 0.01 * seed}),
        lambda seed: Distortion(masks(seed), limit=LIMIT, rescaled=True),
        lambda seed: Distortion(masks(seed, ("3.weight",)), limit=LIMIT, signs=True),
        lambda seed: Distortion(masks(seed), NOISE),
        lambda seed: Distortion(masks(seed), carried=left(seed)),
        lambda seed: Distortion(noise={name: (1 + seed) * value for name, value in NOISE.items()}, rescaled=True),
    ],
    ids=[
        "kept",
        "kept and rescaled",
        "kept and signs",
        "dropped up to a limit",
        "limit and rescaled",
        "limit and signs",
        "kept and noise",
        "kept and carried",
        "noise and rescaled",
    ],
)
def test_against_the_slow_way(make, distance: str) -> None:  # type: ignore[no-untyped-def]
    told = [make(0), make(1)]
    losses, gradients = compared(told, distance, restarts=2)
    for problem in range(4):
        expected, gradient = slow(problem // 2, problem, told[problem // 2], distance)
        assert torch.allclose(losses[problem], expected, rtol=1e-6)
        assert torch.allclose(gradients[problem], gradient, rtol=1e-5, atol=1e-9)


@given(
    named=st.sets(st.sampled_from(["0.weight", "0.bias", "3.weight", "3.bias"])), deviation=st.sampled_from([0, 0.5])
)
@settings(max_examples=8, deadline=None)
def test_an_update_that_was_kept_whole_is_compared_as_ever(named: set[str], deviation: float) -> None:
    rows = dict(network().named_parameters())
    whole = {name: torch.ones_like(rows[name], dtype=torch.bool) for name in named}
    told = Distortion(whole, dict.fromkeys(rows, deviation))
    for one, other in zip(compared([told, told]), compared([None, None]), strict=True):
        assert torch.equal(one, other)


def test_observations_may_differ_in_what_they_name() -> None:
    told = [Distortion(masks(1, ("3.bias",))), Distortion()]
    losses, _ = compared(list(told))
    for problem, each in enumerate(told):
        assert torch.allclose(losses[problem], slow(problem, problem, each)[0], rtol=1e-6)


def test_signs_have_a_second_derivative() -> None:
    candidates = Candidates([observe(0, Distortion(signs=True))])
    images, labels = batch(7)
    images = images[None].requires_grad_()
    updates = candidates.updates(images, labels[None], torch.tensor([0]))
    assert all(float(row.detach().abs().max()) <= 1 for row in updates)
    (first,) = torch.autograd.grad(sum(row.square().sum() for row in updates), images, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), images)
    assert bool(second.isfinite().all())
    assert float(second.abs().max()) > 0


def test_the_true_image_explains_its_signs() -> None:
    seen = observe(0, None)
    sent = {name: row.abs().mean() * row.sign() for name, row in seen.update.items()}
    images, labels = batch(0)
    distances = []
    for told in (None, Distortion(signs=True)):
        candidates = Candidates([Observation(network(), sent, SHAPE, 3, 2, distortion=told)])
        updates = candidates.updates(images[None], labels[None], torch.tensor([0]))
        distances.append(cosine_distance(updates, candidates.targets, candidates.scales.sqrt()).item())
    assert distances[1] < 0.02 < 0.05 < distances[0]


def test_the_share_of_noise() -> None:
    plain = observe(0, None)
    energy = sum(float(row.square().sum()) for row in plain.update.values())
    count = sum(row.numel() for row in plain.update.values())
    deviation = (0.25 * energy / count) ** 0.5
    told = Distortion(noise=dict.fromkeys(plain.update, deviation))
    assert float(Candidates([observe(0, told)]).noise) == pytest.approx(0.25)
    assert float(Candidates([plain]).noise) == 0
    rows = masks(0, ("3.weight",))
    kept = dict(plain.update) | {"3.weight": plain.update["3.weight"][rows["3.weight"]]}
    masked = Candidates([observe(0, Distortion(rows, dict.fromkeys(plain.update, deviation)))])
    expected = (
        deviation**2
        * sum(row.numel() for row in kept.values())
        / sum(float(row.square().sum()) for row in kept.values())
    )
    assert float(masked.noise) == pytest.approx(expected)


def test_local_steps_are_masked_too() -> None:
    told = Distortion(masks(0))
    local = LocalSteps(lr=0.1, steps=2)
    images, labels = batch(5)
    both = [
        Candidates([observe(0, each, local)]).updates(images[None], labels[None], torch.tensor([0]))
        for each in (None, told)
    ]
    names = list(dict(network().named_parameters()))
    for name, whole, masked in zip(names, *both, strict=True):
        expected = whole * told.kept[name] if name in told.kept else whole
        assert torch.allclose(masked, expected)


class Scaled(nn.Module):
    """Logits times a parameter that is a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.factor = network(), nn.Parameter(torch.tensor(2.0).double())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.factor * self.network(images)
        return logits


@pytest.mark.parametrize(
    "distortion",
    [
        None,
        Distortion(kept={"factor": torch.tensor(True)}, noise={"factor": 0.1}),
        Distortion(signs=True),
        Distortion(rescaled=True),
    ],
)
def test_a_parameter_may_be_a_single_number(distortion: Distortion | None) -> None:
    model, (images, labels) = Scaled(), batch(0)
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    seen = Observation.of_gradient(model, rows, input_shape=SHAPE, num_classes=3, batch_size=2, distortion=distortion)
    candidates = Candidates([seen], restarts=2)
    both = torch.stack([images, batch(1)[0]])
    candidates.prepare(labels.expand(2, 2))
    updates = candidates.updates(both, labels.expand(2, 2), torch.arange(2))
    losses = squared_distance(updates, candidates.targets_of(torch.arange(2)), candidates.scales[[0, 0]]).detach()
    if distortion is None or not distortion.signs:
        assert float(losses[0]) < 1e-9
    assert float(losses[1]) > float(losses[0])
