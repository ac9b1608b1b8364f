"""Labels from the last layer: counts, constraints, and what each method takes for granted."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Int64
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.matching import labels as module
from fedsec.matching import last_layer
from fedsec.matching.labels import LabelMethod, labels_of, recover_labels, round_counts
from fedsec.threat import LocalSteps, Observation, PixelScale

SHAPE = (1, 12, 12)


class Convolutions(nn.Module):
    """LeNet-like: strided convolutions and one linear layer."""

    def __init__(self, activation: Callable[[Tensor], Tensor], uniform: bool, bias: bool = True, classes: int = 10):
        super().__init__()
        self.first = nn.Conv2d(SHAPE[0], 8, 5, stride=2, padding=2)
        self.second = nn.Conv2d(8, 8, 5, stride=2, padding=2)
        self.head = nn.Linear(72, classes, bias=bias)
        self.activation = activation
        if uniform:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -0.5, 0.5)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.activation(self.second(self.activation(self.first(images))))
        logits: Tensor = self.head(hidden.flatten(1))
        return logits


class Dense(nn.Sequential):
    """A multilayer perceptron."""

    def __init__(self, classes: int = 10):
        super().__init__(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, classes))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": lambda: Convolutions(torch.sigmoid, uniform=True),
    "relu": lambda: Convolutions(torch.relu, uniform=False),
    "tanh": lambda: Convolutions(torch.tanh, uniform=False),
    "mlp": Dense,
    "sigmoid, no bias": lambda: Convolutions(torch.sigmoid, uniform=True, bias=False),
    "relu, no bias": lambda: Convolutions(torch.relu, uniform=False, bias=False),
    "tanh, no bias": lambda: Convolutions(torch.tanh, uniform=False, bias=False),
}


def images_of(count: int, seed: int) -> Tensor:
    """Blobs of random brightness: smooth, unlike white noise, and unlike each other."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, SHAPE[0], 4, 4, generator=generator)
    return F.interpolate(coarse, size=SHAPE[1:], mode="bilinear")


def observe(model: nn.Module, labels: Int64[Tensor, "batch"], seed: int = 0, classes: int = 10) -> Observation:
    loss = F.cross_entropy(model(images_of(len(labels), seed)), labels)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    return Observation.of_gradient(model, gradient, input_shape=SHAPE, num_classes=classes, batch_size=len(labels))


def shared(found: Int64[Tensor, "batch"], labels: Int64[Tensor, "batch"]) -> int:
    """How many labels were recovered, whatever their order."""
    return sum(min(int((found == c).sum()), int((labels == c).sum())) for c in set(labels.tolist()))


def accuracy(build: Callable[[], nn.Module], batch: int, trials: int, method: LabelMethod = "auto") -> float:
    right = 0
    for trial in range(trials):
        torch.manual_seed(trial)
        labels = torch.randint(10, (batch,))
        right += shared(recover_labels(observe(build(), labels, trial), method=method).labels, labels)
    return right / (batch * trials)


def test_hundreds_of_single_images() -> None:
    assert accuracy(NETWORKS["sigmoid"], 1, 100) == 1
    assert accuracy(NETWORKS["relu"], 1, 100) == 1
    assert accuracy(NETWORKS["mlp"], 1, 100) == 1


@pytest.mark.parametrize("name", ["tanh", "sigmoid, no bias", "relu, no bias", "tanh, no bias"])
def test_single_images_of_other_networks(name: str) -> None:
    assert accuracy(NETWORKS[name], 1, 40) == 1


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [2, 8])
def test_batches_with_repeats(name: str, batch: int) -> None:
    assert accuracy(NETWORKS[name], batch, 30) > 0.95


@pytest.mark.parametrize("name", NETWORKS)
def test_impact_and_offset(name: str) -> None:
    assert accuracy(NETWORKS[name], 8, 20, "wainakh") > 0.95


@pytest.mark.parametrize("name", ["sigmoid", "relu", "mlp"])
def test_smallest_entries_give_distinct_labels(name: str) -> None:
    for trial in range(20):
        torch.manual_seed(trial)
        labels = torch.randperm(10)[:4]
        estimate = recover_labels(observe(NETWORKS[name](), labels, trial), method="yin")
        assert shared(estimate.labels, labels) >= 3
        assert estimate.counts.max() == 1


def test_one_class_only() -> None:
    for name, label in product(("sigmoid", "relu", "mlp"), (0, 7)):
        torch.manual_seed(label)
        labels = torch.full((8,), label)
        assert recover_labels(observe(NETWORKS[name](), labels)).labels.tolist() == labels.tolist()


def test_more_images_than_classes() -> None:
    assert accuracy(NETWORKS["relu"], 64, 5) > 0.95
    torch.manual_seed(0)
    labels = torch.randint(3, (40,))
    estimate = recover_labels(observe(Convolutions(torch.relu, False, classes=3), labels, classes=3))
    assert estimate.labels.tolist() == sorted(labels.tolist())


@pytest.mark.parametrize("bias", [True, False])
def test_two_classes(bias: bool) -> None:
    # Both rows are equally long, so that without a bias the sign must come from what features look like.
    for trial in range(20):
        torch.manual_seed(trial)
        model = Convolutions(torch.sigmoid, uniform=False, bias=bias, classes=2)
        labels = torch.randint(2, (1,))
        assert torch.equal(recover_labels(observe(model, labels, trial, classes=2)).labels, labels)


def test_the_counting_identity_by_hand() -> None:
    # Zero weights: every posterior is 1/4, so that the scores are the counts themselves.
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    observation = observe(model, torch.tensor([3, 1, 3, 3, 0]), classes=4)
    for method in ("geng", "auto"):
        estimate = recover_labels(observation, method=method)
        assert estimate.method == "geng"
        assert estimate.labels.tolist() == [0, 1, 3, 3, 3]
        assert estimate.counts.tolist() == [1, 1, 0, 3]
        torch.testing.assert_close(estimate.scores, torch.tensor([1.0, 1.0, 0.0, 3.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", ["geng", "wainakh"])
def test_what_a_bias_proves_is_never_contradicted(method: LabelMethod) -> None:
    # n_c >= -B g_b[c] = 1.2 leaves nothing but two of each, although the model is sure of the last class.
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 5))
    nn.init.zeros_(model[1].weight)
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 20.0]))
    bias = torch.tensor([-1.2, -1.2, -1.2, -1.2, 4.8]) / 8
    update = {"1.weight": bias[:, None].expand(5, 144) * 0.5, "1.bias": bias}
    estimate = recover_labels(Observation(model, update, SHAPE, 5, 8), method=method)
    assert estimate.counts.tolist() == [2, 2, 2, 2, 0]
    # A bias's gradient that does not sum to zero was tampered with, and proves nothing.
    update["1.bias"] = bias + 0.1
    assert recover_labels(Observation(model, update, SHAPE, 5, 8), method=method).counts[4] > 0


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=12),
    st.sampled_from(sorted(NETWORKS)),
    st.sampled_from(["geng", "wainakh"]),
    st.integers(0, 5),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_counts_are_a_batch(labels: list[int], name: str, method: LabelMethod, seed: int, noisy: bool) -> None:
    torch.manual_seed(seed)
    observation = observe(NETWORKS[name](), torch.tensor(labels), seed)
    if noisy:
        for row in observation.update.values():
            row.add_(torch.randn_like(row))
    estimate = recover_labels(observation, method=method)
    assert estimate.counts.sum() == len(labels)
    assert estimate.scores.isfinite().all()
    assert estimate.labels.tolist() == sorted(estimate.labels.tolist())
    assert torch.equal(torch.bincount(estimate.labels, minlength=10), estimate.counts)


@given(
    st.lists(st.floats(-3, 5), min_size=1, max_size=4),
    st.lists(st.integers(0, 1), min_size=4, max_size=4),
    st.integers(0, 4),
)
@settings(deadline=None)
def test_rounding_is_the_nearest_of_all(scores: list[float], floor: list[int], spare: int) -> None:
    least = floor[: len(scores)]
    counts = round_counts(torch.tensor(scores, dtype=torch.float64), sum(least) + spare, torch.tensor(least)).tolist()

    def distance(candidate: Sequence[int]) -> float:
        return sum((count - score) ** 2 for count, score in zip(candidate, scores, strict=True))

    assert sum(counts) == sum(least) + spare
    assert all(count >= low for count, low in zip(counts, least, strict=True))
    extras = (extra for extra in product(range(spare + 1), repeat=len(scores)) if sum(extra) == spare)
    nearest = min(distance([low + more for low, more in zip(least, extra, strict=True)]) for extra in extras)
    assert distance(counts) == pytest.approx(nearest)


def test_a_gradient_of_zero_still_gives_a_batch() -> None:
    model = NETWORKS["relu"]()
    update = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for batch in (1, 5):
        estimate = recover_labels(Observation(model, update, SHAPE, 10, batch))
        assert len(estimate.labels) == batch


@pytest.mark.parametrize("name", ["sigmoid", "relu", "mlp"])
def test_several_local_steps(name: str) -> None:
    right = 0
    for trial in range(10):
        torch.manual_seed(trial)
        model, images, labels = NETWORKS[name](), images_of(8, trial), torch.randint(10, (8,))
        before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
        observed = NETWORKS[name]()
        observed.load_state_dict(model.state_dict())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for step in range(8):
            optimizer.zero_grad()
            part = slice(4 * (step % 2), 4 * (step % 2) + 4)
            F.cross_entropy(model(images[part]), labels[part]).backward()
            optimizer.step()
        update = {key: parameter.detach() - before[key] for key, parameter in model.named_parameters()}
        local = LocalSteps(lr=0.01, steps=8, batch_size=4)
        right += shared(labels_of(Observation(observed, update, SHAPE, 10, 8, local=local)), labels)
    assert right >= 70


def test_granted_labels_are_returned_as_they_are() -> None:
    model = NETWORKS["relu"]()
    update = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    granted = torch.tensor([5, 2, 5])
    assert labels_of(Observation(model, update, SHAPE, 10, 3, labels=granted)).tolist() == [5, 2, 5]


def test_the_observation_and_the_global_random_state_are_left_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 10, bias=False)).train()
    observation = observe(model, torch.tensor([1, 1, 8]))
    before = {name: tensor.clone() for name, tensor in observation.model.state_dict().items()}
    state = torch.get_rng_state()
    recover_labels(observation)
    assert torch.equal(state, torch.get_rng_state())
    for name, tensor in observation.model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_seeds_reproduce() -> None:
    torch.manual_seed(0)
    observation = observe(NETWORKS["sigmoid, no bias"](), torch.tensor([1, 1, 8, 4]))
    first, second, other = (
        recover_labels(observation, generator=torch.Generator().manual_seed(seed)).scores for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_normalized_inputs() -> None:
    scale = PixelScale((0.4,), (0.2,))
    for trial in range(10):
        torch.manual_seed(trial)
        model, labels = NETWORKS["sigmoid, no bias"](), torch.randint(10, (8,))
        loss = F.cross_entropy(model(scale.apply(images_of(8, trial))), labels)
        gradient = torch.autograd.grad(loss, list(model.parameters()))
        observation = Observation.of_gradient(
            model, gradient, input_shape=SHAPE, num_classes=10, batch_size=8, scale=scale
        )
        assert shared(recover_labels(observation).labels, labels) >= 7


def test_refusals() -> None:
    observation = observe(NETWORKS["relu"](), torch.tensor([1, 2]))
    with pytest.raises(InputError, match="idlg reads the label of a single image, not of 2"):
        recover_labels(observation, method="idlg")
    with pytest.raises(InputError, match="method must be auto, idlg"):
        recover_labels(observation, method="argmax")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="labels that are all different, which 11 images of 10 classes"):
        recover_labels(observe(NETWORKS["relu"](), torch.zeros(11, dtype=torch.int64)), method="yin")
    squashed = nn.Sequential(nn.Flatten(), nn.Linear(144, 10), nn.Tanh())
    with pytest.raises(InputError, match="the model does not end in one"):
        recover_labels(observe(squashed, torch.tensor([1])))
    model = Dense()
    frozen = {name: torch.zeros_like(row) for name, row in model.named_parameters() if not name.startswith("3.")}
    with pytest.raises(InputError, match=r"leaves out '3\.weight'.*granted labels"):
        recover_labels(Observation(model, frozen, SHAPE, 10, 1))


@pytest.mark.parametrize("method", ["auto", "geng", "wainakh"])
def test_a_bias_alone_tells_labels_too(method: LabelMethod) -> None:
    labels = torch.tensor([3, 3, 7])
    seen = observe(Dense(), labels)
    update = {name: row for name, row in seen.update.items() if name != "3.weight"}
    alone = Observation(seen.model, update, SHAPE, 10, 3, seen.scale)
    assert recover_labels(alone, method=method).labels.tolist() == labels.tolist()
    # Also read from the way of several local steps, along which the weight does not move.
    way = {name: -0.01 * row for name, row in update.items()}
    steps = Observation(seen.model, way, SHAPE, 10, 3, seen.scale, LocalSteps(0.005, 2))
    assert recover_labels(steps, method=method).labels.tolist() == labels.tolist()
    with pytest.raises(InputError, match="yin reads the last layer's weight"):
        recover_labels(alone, method="yin")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_many_classes_are_read_as_few_are(monkeypatch: pytest.MonkeyPatch, bias: bool, batch: int) -> None:
    torch.manual_seed(batch)
    model = Convolutions(torch.sigmoid, uniform=False, bias=bias, classes=60)
    labels = torch.randint(60, (batch,))
    observation = observe(model, labels, classes=60)
    slow = recover_labels(observation)
    monkeypatch.setattr(module, "MANY", 16)
    monkeypatch.setattr(last_layer, "MANY", 16)
    monkeypatch.setattr(module, "_LIKELY", 40)
    fast = recover_labels(observation)
    torch.testing.assert_close(fast.scores, slow.scores, atol=0.02, rtol=0)
    assert fast.labels.tolist() == slow.labels.tolist() == sorted(labels.tolist())


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_ridge_solutions_are_the_same_from_either_side(classes: int, some: int, rank: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(classes, some, generator=generator, dtype=torch.double)
    rest = torch.randn(classes, rank, generator=generator, dtype=torch.double)
    outer = mixing @ mixing.T
    slow = mixing.T @ torch.linalg.solve(outer + 0.1 * outer.diagonal().mean() * torch.eye(classes).double(), rest)
    torch.testing.assert_close(module._ridge_solution(mixing, rest, 0.1), slow)


def test_a_loss_that_tells_no_labels_is_refused() -> None:
    model, labels = Dense(), torch.tensor([1, 2])
    seen = Observation(
        model,
        observe(model, labels).update,
        SHAPE,
        10,
        2,
        loss=lambda outputs, labels: outputs.square().sum(1),  # type: ignore[arg-type]
    )
    with pytest.raises(InputError, match="no labels can be read from the gradient of the loss"):
        recover_labels(seen)
