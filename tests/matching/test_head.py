"""Heads that are linear underneath, and what is not one."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import Decoupled
from fedsec.matching.head import find_head
from fedsec.matching.labels import recover_labels
from fedsec.threat import Observation

SHAPE = (1, 8, 8)


class Temperature(nn.Module):
    """Divides logits, by a number or by a parameter."""

    def __init__(self, model: nn.Module, by: float, learned: bool = False) -> None:
        super().__init__()
        self.model = model
        self.by = nn.Parameter(torch.tensor(by)) if learned else by

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images) / self.by
        return logits


class Shift(nn.Module):
    """Adds the same constants to the logits of every image, as prior correction does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("shift", torch.linspace(-1, 1, 5))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images) + self.shift
        return logits


def body() -> list[nn.Module]:
    return [nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.Sigmoid()]


def plain(bias: bool = True) -> nn.Sequential:
    return nn.Sequential(*body(), nn.Flatten(), nn.Linear(96, 5, bias=bias))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": plain,
    "log_softmax": lambda: nn.Sequential(*plain(), nn.LogSoftmax(1)),
    "temperature": lambda: Temperature(plain(), 2.5),
    "no bias, temperature": lambda: Temperature(plain(bias=False), 0.5),
    "learned temperature": lambda: Temperature(plain(), 0.4, learned=True),
    "both": lambda: nn.Sequential(Temperature(plain(), 2.0), nn.LogSoftmax(1)),
    "shift": lambda: Shift(plain()),
    "nested": lambda: nn.Sequential(
        nn.Sequential(*body()), nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(96, 5)))
    ),
    "1x1 convolution, then mean": lambda: nn.Sequential(
        *body(), nn.Conv2d(6, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "mean, then 1x1 convolution": lambda: nn.Sequential(
        *body(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 5, 1), nn.Flatten()
    ),
    "convolution of everything": lambda: nn.Sequential(*body(), nn.Conv2d(6, 5, 4), nn.Flatten()),
}


def observe(model: nn.Module, images: Tensor, labels: Tensor) -> Observation:
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    return Observation.of_gradient(model, rows, input_shape=SHAPE, num_classes=5, batch_size=len(labels))


@pytest.mark.parametrize("name", MODELS)
def test_features_make_the_logits_and_the_gradient(name: str) -> None:
    torch.manual_seed(0)
    model, images, labels = MODELS[name](), torch.rand(3, *SHAPE), torch.tensor([4, 0, 4])
    seen = observe(model, images, labels)
    head = find_head(seen)
    assert head is not None
    features, outputs = head.features(images)
    logits = features @ head.weight.T + (0 if head.bias is None else head.bias)
    torch.testing.assert_close(logits.softmax(1), outputs.softmax(1))
    delta = (logits.softmax(1) - F.one_hot(labels, 5)) / 3
    torch.testing.assert_close(head.weight_gradient(seen.gradient), delta.T @ features, atol=1e-5, rtol=1e-3)
    bias_gradient = head.bias_gradient(seen.gradient)
    if bias_gradient is not None:
        torch.testing.assert_close(bias_gradient, delta.sum(0), atol=1e-5, rtol=1e-3)
    assert [key.rsplit(".", 1)[-1] for key in head.body_names] == ["weight", "bias"]
    assert sorted(recover_labels(seen).labels.tolist()) == [0, 4, 4]


@pytest.mark.parametrize("name", ["log_softmax", "learned temperature"])
def test_images_are_recovered_behind_a_tail(name: str) -> None:
    torch.manual_seed(0)
    images = F.interpolate(torch.rand(2, 1, 3, 3), size=SHAPE[1:], mode="bilinear", align_corners=True)
    recovered = Decoupled(iterations=4).reconstruct(observe(MODELS[name](), images, torch.tensor([1, 3])))
    assert recovered.features is not None
    assert recovered.images is not None
    assert float((recovered.images - images).square().mean()) < 0.1 * float((images - 0.5).square().mean())


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flat, self.layer = nn.Linear(64, 5), nn.Linear(5, 5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(torch.tanh(self.layer(self.flat(images.flatten(1)))))
        return logits


@pytest.mark.parametrize(
    "model", [nn.Sequential(*plain(), nn.Tanh()), nn.Sequential(*plain(), nn.Softmax(1)), Twice(), nn.Flatten()]
)
def test_what_is_no_head(model: nn.Module) -> None:
    holder = nn.Sequential(model, nn.Identity())
    holder.register_parameter("spare", nn.Parameter(torch.ones(2)))
    seen = Observation(holder, {"spare": torch.zeros(2)}, SHAPE, 5, 2)
    assert find_head(seen) is None


class Tied(nn.Module):
    """A head that has its weight in common with the layer before it."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first, self.hidden = nn.Linear(64, 5), nn.Linear(5, 5, bias=bias)
        self.head = nn.Linear(5, 5, bias=bias)
        self.head.weight = self.hidden.weight

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.sigmoid(self.hidden(torch.sigmoid(self.first(images.flatten(1))))))
        return logits


@pytest.mark.parametrize("bias", [True, False])
def test_tied_weights(bias: bool) -> None:
    torch.manual_seed(0)
    seen = observe(Tied(bias), torch.rand(2, *SHAPE), torch.tensor([1, 3]))
    head = find_head(seen)
    assert head is not None
    assert head.tied
    assert head.weight_name == "hidden.weight"
    assert recover_labels(seen).labels.tolist() == [1, 3]
    notes = Decoupled(iterations=1).reconstruct(seen).notes
    assert any("its weight is used elsewhere too" in note for note in notes)
