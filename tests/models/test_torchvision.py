"""torchvision's classifiers as models: what is theirs, what is replaced, and that the replacements compute the same."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torchvision.models import VisionTransformer

from fedsec.errors import InputError
from fedsec.models import build
from fedsec.models.torchvision_models import HardSigmoid, SelfAttention

COUNTS = {"efficientnet_b0": 5_288_548, "mobilenet_v3_large": 5_483_032, "vit_b_16": 86_567_656}
CONVOLUTIONAL = ["efficientnet_b0", "mobilenet_v3_large"]


@pytest.fixture
def small_transformer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of width 16 instead of twelve of width 768: 86 million weights show nothing more."""

    def make(*, weights: None, num_classes: int, image_size: int) -> VisionTransformer:
        model = VisionTransformer(image_size, 16, 2, 2, 16, 8, dropout=0.1, num_classes=num_classes)
        nn.init.normal_(model.heads[-1].weight)  # it is zero, which hides everything before it
        return model

    monkeypatch.setattr(torchvision.models, "vit_b_16", make)


@pytest.mark.parametrize("name", COUNTS)
def test_golden_parameter_counts_and_no_random_or_in_place_layers(name: str) -> None:
    with torch.device("meta"):
        model = build(name, (3, 224, 224), 1000)
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]
    kinds = {type(module).__name__ for module in model.modules()}
    assert not kinds & {"Dropout", "StochasticDepth", "Hardsigmoid", "MultiheadAttention"}
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_outputs_are_torchvision_s_with_the_same_weights(name: str) -> None:
    theirs = getattr(torchvision.models, name)(weights=None, num_classes=5).eval()
    ours = build(name, (3, 32, 32), 5, image_size=32).eval()
    ours.load_state_dict({f"network.{key}": value for key, value in theirs.state_dict().items()})
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("grad", [True, False])
def test_the_transformer_s_outputs_are_torchvision_s_with_the_same_weights(small_transformer: None, grad: bool) -> None:
    theirs = torchvision.models.vit_b_16(weights=None, num_classes=5, image_size=32).eval()
    ours = build("vit_b_16", (3, 32, 32), 5, image_size=32).eval()
    ours.load_state_dict({f"network.{key}": value for key, value in theirs.state_dict().items()})
    images = torch.randn(3, 3, 32, 32)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(ours(images), theirs(images))


def test_attention_is_pytorch_s() -> None:
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    nn.init.normal_(theirs.in_proj_bias)
    nn.init.normal_(theirs.out_proj.bias)
    tokens = torch.randn(2, 5, 12, dtype=torch.double)
    found, _ = SelfAttention(theirs)(tokens, tokens, tokens, need_weights=False)
    torch.testing.assert_close(found, theirs(tokens, tokens, tokens, need_weights=False)[0])


def test_hard_sigmoid_is_pytorch_s() -> None:
    values = torch.linspace(-5, 5, 101, dtype=torch.double)
    torch.testing.assert_close(HardSigmoid()(values), F.hardsigmoid(values))


@pytest.mark.parametrize("train", [True, False])
def test_the_transformer_under_vmap_and_differentiated_twice(small_transformer: None, train: bool) -> None:
    models = [build("vit_b_16", (1, 20, 20), 3, image_size=32).train(train).double() for _ in range(2)]
    images = torch.rand(2, 2, 1, 20, 20, dtype=torch.double)
    stacked = {key: torch.stack([m.state_dict()[key] for m in models]) for key in models[0].state_dict()}
    with torch.no_grad():
        found = vmap(lambda state, x: functional_call(models[0], state, (x,)))(stacked, images)
        torch.testing.assert_close(found, torch.stack([m(x) for m, x in zip(models, images, strict=True)]))
    batch = images[0].requires_grad_()
    loss = F.cross_entropy(models[0](batch), torch.tensor([0, 2]))
    gradients = torch.autograd.grad(loss, list(models[0].parameters()), create_graph=True)
    (second,) = torch.autograd.grad(sum(g.square().sum() for g in gradients), batch)
    assert second.isfinite().all()
    assert second.abs().max() > 0


@pytest.mark.parametrize("name", COUNTS)
def test_training_is_not_random(small_transformer: None, name: str) -> None:
    model = build(name, (3, 32, 32), 5, image_size=32).train()
    images = torch.rand(4, 3, 32, 32)
    before = torch.get_rng_state()
    assert torch.equal(model(images), model(images))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_are_resized_and_gray_ones_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("mobilenet_v3_large", (1, 50, 40), 5, image_size=24)
    seen: list[Tensor] = []
    model.network = nn.Identity()
    model.network.register_forward_hook(lambda module, inputs, output: seen.append(output))
    gray = torch.rand(2, 1, 50, 40)
    model(gray)
    assert seen[0].shape == (2, 3, 24, 24)
    assert torch.equal(seen[0][:, 0], seen[0][:, 2])
    # Antialiasing keeps the mean brightness where plain bilinear sampling would skip pixels.
    stripes = (torch.arange(72) % 2).float().expand(1, 1, 72, 72)
    model(stripes)
    inner = seen[1][:, :, 2:-2, 2:-2]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5), atol=0.1, rtol=0)
    same = torch.rand(2, 3, 24, 24)
    model(same)
    assert torch.equal(seen[2], same)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("vit_b_16", (3, 32, 32), {"image_size": 40}, "vit_b_16: image_size must be a positive multiple of 16, got 40"),
        ("vit_b_16", (3, 32, 32), {"image_size": 0}, "vit_b_16: image_size must be a positive multiple of 16, got 0"),
        ("efficientnet_b0", (3, 8, 8), {"image_size": 0}, "efficientnet_b0: image_size must be at least 1, got 0"),
        ("mobilenet_v3_large", (16, 8, 8), {}, "mobilenet_v3_large: images must have 1 or 3 channels, got 16"),
    ],
)
def test_what_is_refused(name: str, shape: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(name, shape, 5, **options)
