"""Every way to clipped sums against one example at a time, written anew here."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.models import build
from fedsec.privacy.gradients import per_example
from fedsec.privacy.gradients.clipping import (
    BookKeeping,
    Functional,
    OneByOne,
    UnsupportedError,
    check_independent,
    twin,
)
from fedsec.privacy.gradients.modes import Way, choose


def criterion(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def oracle(module: nn.Module, images: Tensor, labels: Tensor, norm: float) -> tuple[list[Tensor], Tensor]:
    """The sum of clipped gradients in float64, and the norms before clipping."""
    parameters = [each for each in module.parameters() if each.requires_grad]
    total, norms = [torch.zeros_like(each, dtype=torch.float64) for each in parameters], []
    for image, label in zip(images, labels, strict=True):
        loss = F.cross_entropy(module(image[None]), label[None])
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        size = torch.cat([each.flatten() for each in found]).double().norm()
        norms.append(size)
        for sum_, each in zip(total, found, strict=True):
            sum_ += each.double() * min(1.0, norm / float(size))
    return total, torch.stack(norms)


def agree(found: Sequence[Tensor], expected: Sequence[Tensor], rel: float = 1e-4) -> None:
    scale = max(float(each.abs().max()) for each in expected)
    assert scale > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=rel, atol=rel * scale)


def batch(count: int, shape: tuple[int, ...], classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    # Different scales, so that some gradients are clipped and others not.
    scales = torch.linspace(0.05, 2, count).view(-1, *[1] * len(shape))
    return torch.randn(count, *shape, generator=generator) * scales, torch.arange(count) % classes


class Sequences(nn.Module):
    """A linear layer on sequences of pixels' rows, and a layer normalization."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.norm, self.inner, self.head = nn.LayerNorm(12), nn.Linear(12, 40), nn.Linear(40, 4)

    def forward(self, images: Tensor) -> Tensor:
        words = images.flatten(1)[:, : self.tokens * 12].view(-1, self.tokens, 12)
        out: Tensor = self.head(self.inner(self.norm(words)).tanh().mean(1))
        return out


class Twice(nn.Module):
    """One layer used twice, a second one that shares its weight, and one that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tied, self.idle = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(3, 3)
        self.tied.weight = self.first.weight
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.tied(self.first(self.first(images.flatten(1)[:, :6]).tanh())).tanh())
        return out


class Scaled(nn.Module):
    """A trainable parameter outside of any known layer."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(36, 4)
        self.scale = nn.Parameter(torch.tensor(1.5), requires_grad=not in_place)
        self.in_place = in_place

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.linear(images.flatten(1))
        return out.mul_(self.scale) if self.in_place else out * self.scale


def convolutional(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(4))


def zoo() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    conv = nn.Conv2d
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy modules
        found: dict[str, nn.Module] = {
            "stride, dilation": convolutional(conv(4, 6, 3, stride=2, dilation=2, padding=(2, 1))),
            "groups": convolutional(conv(4, 8, 3, groups=2, padding=1), nn.Tanh(), conv(8, 8, 2, groups=8, bias=False)),
            "deep, uneven": convolutional(conv(4, 16, 1), nn.Tanh(), conv(16, 12, (3, 2), stride=(1, 2), groups=2)),
            "same": convolutional(conv(4, 6, 4, padding="same")),
            "circular": convolutional(conv(4, 6, 3, padding=1, padding_mode="circular")),
            "gram": convolutional(conv(4, 48, 3, stride=3), nn.Tanh(), conv(48, 48, 3, padding=1)),
            "group norm": convolutional(conv(4, 6, 3), nn.GroupNorm(3, 6), conv(6, 6, 1), nn.GroupNorm(1, 6)),
            "words": Sequences(6),
            "few words": Sequences(2),
            "twice": Twice(),
            "frozen": convolutional(conv(4, 6, 3).requires_grad_(False), nn.GroupNorm(2, 6, affine=False)),
        }
        for module in found.values():
            module(torch.zeros(2, 4, 9, 9))
    return found


@pytest.mark.parametrize("name", zoo())
def test_book_keeping_of_every_layer(name: str) -> None:
    module, (images, labels) = zoo()[name], batch(5, (4, 9, 9))
    _, norms = oracle(module, images, labels, 1.0)
    norm = float(norms.median())
    expected, _ = oracle(module, images, labels, norm)
    agree(BookKeeping(twin(module))(images, (labels,), criterion, norm), expected)
    agree(Functional(twin(module))(images, (labels,), criterion, norm), expected)
    agree(OneByOne(twin(module))(images, (labels,), criterion, norm), expected)


def test_both_rules_for_matrices_are_covered() -> None:
    """The agreement above holds for formed gradients and for Gram matrices."""
    kinds = set()
    for name in ("gram", "few words", "stride, dilation"):
        tried = BookKeeping(twin(zoo()[name]))
        pending = tried._pending
        tried._pending = lambda g, n, p=pending: kinds.update(type(e) for e in p(g, n).values()) or p(g, n)  # type: ignore[assignment,func-returns-value]
        images, labels = batch(2, (4, 9, 9))
        tried(images, (labels,), criterion, 1.0)
    assert kinds == {per_example.Formed, per_example.Products, per_example.Outer}


MODELS = {
    "mlp": ((1, 12, 12), {}),
    "cnn": ((1, 12, 12), {}),
    "lenet": ((3, 12, 12), {}),
    "resnet8": ((3, 12, 12), {"norm": "gn"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_all_modes_agree_on_the_models(name: str) -> None:
    shape, options = MODELS[name]
    torch.manual_seed(0)
    module, (images, labels) = build(name, shape, 4, **options), batch(6, shape)
    _, norms = oracle(module, images, labels, 1.0)
    norm = float(norms.median())
    expected, _ = oracle(module, images, labels, norm)
    for mode in MODES:
        way = choose(module, mode, images[:3], (labels[:3],), criterion)  # type: ignore[arg-type]
        assert way.words == ("book-keeping" if mode == "auto" else f"Opacus's {mode}")
        sums = way.make(twin(module), torch.enable_grad)
        for _ in range(2):  # nothing is left over from the call before
            agree(sums(images, (labels,), criterion, norm), expected, rel=5e-4)


def test_norms_are_bounded_whatever_the_scale() -> None:
    module, (images, labels) = zoo()["group norm"], batch(1, (4, 9, 9))
    for norm in (1e-6, 1e-2, 0.5):
        found = BookKeeping(twin(module))(images * 30, (labels,), criterion, norm)
        size = float(torch.cat([each.flatten() for each in found]).norm())
        assert size == pytest.approx(norm, rel=1e-4)


MODES = ("auto", "ghost", "hooks", "functorch", "ew")


@pytest.mark.parametrize("broken", [[1], [0, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_an_example_that_is_not_finite_adds_nothing(name: str, broken: list[int]) -> None:
    """In every way; the others' sum is what it is without it, and a batch of such examples is empty."""
    shape = (1, 12, 12)
    torch.manual_seed(0)
    module, (images, labels) = build(name, shape, 4), batch(4, shape)
    finite = [place for place in range(4) if place not in broken]
    expected = [torch.zeros_like(each, dtype=torch.float64) for each in module.parameters()]
    if finite:
        expected, _ = oracle(module, images[finite], labels[finite], 0.5)
    images = images.clone()
    images[broken, 0, 3, 3] = torch.tensor([torch.nan, torch.inf, -torch.inf, torch.nan])[: len(broken)]
    made = [choose(module, mode, batch(3, shape)[0], (labels[:3],), criterion).make for mode in MODES]  # type: ignore[arg-type]
    for make in (*made, Functional, OneByOne):
        found = make(twin(module), nullcontext)(images, (labels,), criterion, 0.5)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-5)


def test_lengths_of_outer_products_neither_overflow_nor_vanish() -> None:
    outputs, inputs = torch.tensor([[0.0], [1e-25], [1e-25], [2.0]]), torch.tensor([[1e30], [1e30], [1e-25], [3.0]])
    found = per_example.Outer(outputs, inputs).squares().sqrt()
    torch.testing.assert_close(found, torch.tensor([0.0, 1e5, 1e-50, 6.0], dtype=torch.float64), rtol=1e-5, atol=0)


def test_an_overflow_times_nothing_is_nothing() -> None:
    """A huge image whose true gradient is zero leaves the others' sum alone, and is not left out for it."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.Hardtanh(), nn.Linear(5, 4))
    images, labels = batch(3, (4, 3, 3))
    images[1] *= 1e30
    expected, _ = oracle(module, images, labels, 0.5)
    agree(BookKeeping(twin(module))(images, (labels,), criterion, 0.5), expected)


class Folded(nn.Module):
    """A linear layer on the halves of an image, folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(18, 5), nn.Linear(10, 4)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.inner(images.reshape(-1, 18)).tanh().reshape(len(images), -1))
        return out


class SequenceFirst(nn.Module):
    """Words, then examples."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words, self.inner, self.head = words, nn.Linear(36 // words, 5), nn.Linear(5, 4)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.inner(images.reshape(len(images), self.words, -1).transpose(0, 1)).tanh().mean(0))
        return out


class Constant(nn.Module):
    """A branch that sees no image."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.head = nn.Linear(3, 36), nn.Linear(36, 4)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(images.flatten(1) * self.branch(torch.ones(1, 3)))
        return out


class Named(nn.Module):
    """Calls its layers by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.head = nn.Linear(36, 6), nn.GroupNorm(2, 6), nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(input=self.norm(input=self.inner(input=images.flatten(1))).tanh())
        return out


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Named(), "book-keeping"),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.GroupNorm(3, 6), nn.Linear(6, 4)), "book-keeping"),
        (Folded(), "torch.func"),
        (SequenceFirst(4), "torch.func"),
        (SequenceFirst(3), "torch.func"),  # as many words as there are trial images
        (Constant(), "torch.func"),
    ],
)
def test_auto_has_a_way_for_every_layout(module: nn.Module, words: str) -> None:
    images, labels = batch(6, (4, 3, 3))
    way = choose(module, "auto", images[:3], (labels[:3],), criterion)
    assert way.words == words, way.reason
    batch_first = (isinstance(module, SequenceFirst) and module.words == 3) or words == "book-keeping"
    assert batch_first != ("a Linear does not keep the batch as its first axis" in way.reason)
    norm = float(oracle(module, images, labels, 1.0)[1].median())
    expected, _ = oracle(module, images, labels, norm)
    agree(way.make(twin(module), nullcontext)(images, (labels,), criterion, norm), expected)


def test_auto_survives_whatever_a_rule_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
        raise IndexError("out of range")

    monkeypatch.setitem(per_example.RULES, nn.Linear, fail)  # type: ignore[arg-type]
    images, labels = batch(3, (4, 3, 3))
    way = choose(nn.Sequential(nn.Flatten(), nn.Linear(36, 4)), "auto", images, (labels,), criterion)
    assert way.words == "torch.func"
    assert "no book-keeping: IndexError: out of range" in way.reason


@pytest.mark.parametrize(("module", "reason"), [(Scaled(), "has no rule"), (Scaled(in_place=True), "in place")])
def test_auto_takes_a_slower_way_and_says_why(module: nn.Module, reason: str) -> None:
    images, labels = batch(4, (4, 3, 3))
    way = choose(module, "auto", images, (labels,), criterion)
    assert way.words == "torch.func"
    assert reason in way.reason
    expected, _ = oracle(module, images, labels, 0.5)
    agree(way.make(twin(module), torch.enable_grad)(images, (labels,), criterion, 0.5), expected)


class Branching(nn.Module):
    """What vmap cannot run."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Bilinear(36, 2, 4)

    def forward(self, images: Tensor) -> Tensor:
        if float(images.sum()) > 1e9:
            raise AssertionError
        out: Tensor = self.linear(images.flatten(1), images.flatten(1)[:, :2])
        return out


def test_the_slowest_way_always_works() -> None:
    images, labels = batch(3, (4, 3, 3))
    way = choose(Branching(), "auto", images, (labels,), criterion)
    assert way.words == "one example at a time"
    assert "Bilinear" in way.reason
    assert "vmap" in way.reason


def test_a_way_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(per_example.Outer, "squares", lambda self: self.outputs.square().sum(1))
    images, labels = batch(3, (4, 3, 3))
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 4, bias=False))
    for scale in (20, 0.05):  # norms above one, and all below
        way = choose(module, "auto", images * scale, (labels,), criterion)
        assert way.words == "torch.func"
        assert "no book-keeping: it is off by" in way.reason


def test_a_mode_that_cannot_be_had_is_refused() -> None:
    images, labels = batch(3, (4, 3, 3))
    with pytest.raises(InputError, match="grad_sample_mode: hooks cannot be had"):
        choose(Twice(), "hooks", images, (labels,), _broken)


def _broken(logits: Tensor, labels: Tensor) -> Tensor:
    """A criterion with which one example's loss depends on the others': no mode agrees with the oracle."""
    return F.cross_entropy(logits * len(logits), labels, reduction="none")


class Centered(nn.Module):
    """Takes the batch's mean away, under a harmless name."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs - inputs.mean(0)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(6), nn.BatchNorm2d(6, track_running_stats=False), Centered()])
def test_layers_that_couple_examples_are_refused_by_name(layer: nn.Module) -> None:
    module = nn.Sequential(nn.Conv2d(4, 6, 3), layer, nn.Flatten(), nn.Linear(294, 4))
    with pytest.raises(InputError, match=r"(?s)layer '1'.*norm: gn"):
        check_independent(module.train(), batch(2, (4, 9, 9))[0])
    check_independent(zoo()["group norm"], batch(2, (4, 9, 9))[0])


def test_a_twin_shares_numbers_and_nothing_else() -> None:
    module = Twice()
    other = twin(module)
    other.register_forward_hook(lambda *_: pytest.fail("a hook of the twin"))
    module(torch.zeros(1, 6))
    assert other.tied.weight is other.first.weight  # type: ignore[union-attr]
    with torch.no_grad():
        module.head.weight.fill_(7)
    assert bool((other.head.weight == 7).all())  # type: ignore[union-attr,operator]
    assert isinstance(Way("", "", BookKeeping).make(twin(module), torch.enable_grad), BookKeeping)
    with pytest.raises(UnsupportedError, match="Bilinear"):
        BookKeeping(twin(Branching()))
