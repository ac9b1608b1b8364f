"""No example's contribution is longer than the bound, in any way, whatever the network and the image."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedsec.privacy.gradients.clipping import BookKeeping, ClippedSum, Functional, OneByOne, clip_weights, twin
from fedsec.privacy.gradients.modes import choose
from fedsec.privacy.gradients.opacus_modes import OpacusGhost, OpacusSum

WAYS: dict[str, Callable[[nn.Module], ClippedSum]] = {
    "book-keeping": BookKeeping,
    "torch.func": Functional,
    "one by one": OneByOne,
    "ghost": OpacusGhost,
    "hooks": OpacusSum,
}
SIZE = 8


def criterion(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


class Words(nn.Module):
    """A layer on places that hardly differ: its Gram matrices cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.head = nn.Linear(8, 40), nn.LayerNorm(40), nn.Linear(40, 3)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.inner(images.flatten(1).view(-1, 8, 8))).tanh().mean(1))
        return out


def network(kind: str, width: int, kernel: int, stride: int) -> nn.Module:
    if kind == "words":
        return Words()
    convolution = nn.Conv2d(1, width, kernel, stride)
    norm = {"one channel a group": nn.GroupNorm(width, width), "one group": nn.GroupNorm(1, width)}[kind]
    places = ((SIZE - kernel) // stride + 1) ** 2
    return nn.Sequential(convolution, norm, nn.Tanh(), nn.Flatten(), nn.Linear(width * places, 3))


def contribution(way: ClippedSum, image: Tensor, label: Tensor, bound: float) -> float:
    """Length of what one example adds, in float64."""
    total = way(image[None], (label[None],), criterion, bound)
    return float(torch.cat([part.double().flatten() for part in total]).norm())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.sampled_from(["one channel a group", "one group", "words"]),
    st.sampled_from([4, 32]),
    st.sampled_from([(3, 3), (5, 2), (4, 4)]),
    st.integers(0, 10_000),
    st.sampled_from([1e-7, 1e-5, 1e-3, 1e-1, 1.0]),
    st.sampled_from([0.0, 0.5, 3.0, 100.0, 255.0]),
    st.sampled_from([1e-20, 1e-6, 1e-2, 0.5]),
)
def test_every_way_keeps_to_the_bound(
    kind: str, width: int, window: tuple[int, int], seed: int, contrast: float, level: float, share: float
) -> None:
    torch.manual_seed(seed)
    module, label = network(kind, width, *window), torch.tensor(1)
    image = level + contrast * torch.randn(1, SIZE, SIZE)
    own = contribution(OneByOne(twin(module)), image, label, 1e30)
    bound = max(share * own, 1e-25)
    for name, make in WAYS.items():
        length = contribution(make(twin(module)), image, label, bound)
        assert length <= bound, f"{name}: {length / bound:.9g} times the bound"


@pytest.mark.parametrize("scale", [1.0, 4.0, 255.0])
def test_near_constant_images_before_a_normalization_by_channel(scale: float) -> None:
    """Found in an audit: gradients at a convolution's output sum to zero there, and its inputs hardly differ."""
    worst = dict.fromkeys(WAYS, 0.0)
    for seed in range(4):
        torch.manual_seed(seed)
        module = network("one channel a group", 64, 4, 4)
        image = scale * (0.7 + 1e-4 * torch.randn(1, SIZE, SIZE))
        for name, make in WAYS.items():
            way = make(twin(module))
            bound = 0.3 * contribution(OneByOne(twin(module)), image, torch.tensor(seed % 3), 1e30)
            worst[name] = max(worst[name], contribution(way, image, torch.tensor(seed % 3), bound) / bound)
    assert max(worst.values()) <= 1, worst
    assert min(worst.values()) > 0.5, worst  # and a bound that errs upward does not silence them


def test_a_way_that_underestimates_a_norm_of_a_near_constant_image_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = network("one channel a group", 8, 3, 3)
    images, labels = torch.randn(3, 1, SIZE, SIZE), torch.tensor([0, 1, 2])
    assert choose(module, "auto", images, (labels,), criterion).words == "book-keeping"
    honest = BookKeeping.total

    def deceived(self: BookKeeping, images: Tensor, *rest: object) -> tuple[list[Tensor], Tensor]:
        total, squares = honest(self, images, *rest)  # type: ignore[arg-type]
        flat = images.flatten(1)
        return total, torch.where(flat.amax(1) - flat.amin(1) < 0.1, 0.2 * squares, squares)

    monkeypatch.setattr(BookKeeping, "total", deceived)
    way = choose(module, "auto", images, (labels,), criterion)
    assert way.words == "torch.func"
    assert "underestimates the norm of a near-constant image" in way.reason


@given(st.floats(1e-30, 1e30), st.floats(0, 1e60))
def test_weights_are_rounded_down(bound: float, square: float) -> None:
    squares = torch.tensor([square], dtype=torch.float64)
    for dtype in (torch.float32, torch.float64):
        weight = clip_weights(squares, bound, dtype)
        assert weight.dtype == dtype
        assert 0 <= float(weight) <= 1
        assert float(weight.double()) * square**0.5 <= bound
        if square**0.5 < bound * (1 - 1e-5):
            assert float(weight) == 1


def test_tiny_gradients_are_seen_by_a_tiny_bound() -> None:
    """Their squares vanish in float32."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 3, bias=False))
    image = torch.full((1, SIZE, SIZE), 1e-24)
    for make in WAYS.values():
        assert 0 < contribution(make(twin(module)), image, torch.tensor(0), 1e-26) <= 1e-26


def test_private_steps_do_without_in_place_activations() -> None:
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3)
    module, images = nn.Sequential(*layers), torch.randn(3, 1, SIZE, SIZE)
    assert choose(module, "auto", images, (torch.arange(3),), criterion).words == "book-keeping"
    assert layers[1].inplace  # the copy's alone
