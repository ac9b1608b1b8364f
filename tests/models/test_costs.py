"""Floating-point operations against published numbers and against an independent count by hooks."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import EfficientNet_B0_Weights, MobileNet_V3_Large_Weights, ViT_B_16_Weights

from fedsec.errors import InputError
from fedsec.models import MODELS, build, catalog
from fedsec.models.costs import Costs, costs, module_costs
from fedsec.models.split import extractor


def products(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Multiply-adds of every layer for one example, in the order of the forward pass, from the layers' definitions."""
    counts: dict[str, int] = {}
    handles = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            each = layer.weight[0].numel()

            def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor, name: str = name, each: int = each) -> None:
                counts[name] = each * output[0].numel()

            handles.append(layer.register_forward_hook(hook))
    with torch.no_grad():
        model.eval()(torch.zeros(1, *input_shape))
    for handle in handles:
        handle.remove()
    return counts


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("mlp", (1, 8, 8), {}),
        ("lenet", (3, 16, 16), {}),
        ("convnet64", (3, 12, 9), {"width": 4}),
        ("resnet8", (3, 16, 12), {"norm": "gn"}),
        ("resnet20", (1, 9, 13), {}),
        ("resnet7", (16, 8, 8), {"norm": "none"}),
        ("mobilenet_v3_large", (3, 32, 32), {"image_size": 32}),
    ],
)
def test_counts_are_those_of_the_layers(name: str, shape: tuple[int, int, int], options: dict[str, Any]) -> None:
    model = build(name, shape, 7, **options)
    counts = products(model, shape)
    # A backward pass takes each layer's products twice, but once where the layer reads the model's input. Without a
    # stem that is the first block's branch and its projection.
    reads_input = ["stages.0.0.body.0", "stages.0.0.shortcut.0"] if name == "resnet7" else [next(iter(counts))]
    total = sum(counts.values())
    training = 3 * total - sum(counts[layer] for layer in reads_input)
    told = Costs(sum(p.numel() for p in model.parameters()), 2 * total, 2 * training)
    assert costs(name, shape, 7, **options) == told
    assert module_costs(model, shape) == told


@pytest.mark.parametrize("name", ["cnn", "resnet8", "resnet4"])
def test_torch_s_own_counter_agrees(name: str) -> None:
    model = build(name, (3, 16, 16), 7)
    with FlopCounterMode(display=False) as counter:
        outputs = model(torch.zeros(2, 3, 16, 16))
        forward = counter.get_total_flops()
        outputs.sum().backward()
    found = module_costs(model, (3, 16, 16))
    assert (found.forward_flops, found.training_flops) == (forward // 2, counter.get_total_flops() // 2)


@settings(max_examples=25, deadline=None)
@given(
    groups=st.integers(1, 4),
    before=st.integers(1, 3),
    after=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    transposed=st.booleans(),
)
def test_grouped_convolutions(groups: int, before: int, after: int, kernel: int, stride: int, transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    model = nn.Sequential(
        nn.Conv2d(1, groups * before, 1), kind(groups * before, groups * after, kernel, stride, groups=groups)
    )
    inner = torch.zeros(1, groups * before, 7, 6)
    sums = inner[0, 0] if transposed else model[1](inner)[0, 0]
    second = sums.numel() * groups * before * after * kernel**2
    first = 42 * groups * before
    found = module_costs(model, (1, 7, 6))
    assert found.forward_flops == 2 * (first + second)
    assert found.training_flops == 2 * (2 * first + 3 * second)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("efficientnet_b0", EfficientNet_B0_Weights.IMAGENET1K_V1),
        ("mobilenet_v3_large", MobileNet_V3_Large_Weights.IMAGENET1K_V1),
        ("vit_b_16", ViT_B_16_Weights.IMAGENET1K_V1),
    ],
)
def test_torchvision_s_published_operations(name: str, published: Any) -> None:
    found = costs(name, (3, 224, 224), 1000)
    # torchvision publishes billions of multiply-adds.
    assert found.forward_flops / 2e9 == pytest.approx(published.meta["_ops"], abs=6e-4)
    assert found.parameters == published.meta["num_params"]
    assert found.training_flops / found.forward_flops == pytest.approx(3, abs=0.06)


def test_a_part_and_frozen_weights() -> None:
    model = build("resnet8", (3, 32, 32), 10)
    stem = module_costs(extractor(model), (3, 32, 32))
    assert stem == Costs(464, 2 * 27 * 16 * 1024, 4 * 27 * 16 * 1024)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    frozen, whole = module_costs(model, (3, 32, 32)), costs("resnet8", (3, 32, 32), 10)
    assert (frozen.parameters, frozen.forward_flops) == (10_586, whole.forward_flops)
    assert frozen.training_flops == frozen.forward_flops


def test_counting_leaves_the_module_alone() -> None:
    model = build("resnet4", (1, 8, 8), 3).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        found = module_costs(model, (1, 8, 8))
    assert found == costs("resnet4", (1, 8, 8), 3)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None and not p.is_meta for p in model.parameters())


def test_shapes_and_outputs_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"^Linear cannot take inputs of shape \(4,\): .*\w"):
        module_costs(nn.Linear(3, 2), (4,))

    class Pair(nn.Linear):
        def forward(self, inputs: Tensor) -> Any:
            return inputs, inputs

    with pytest.raises(InputError, match="Pair: expected one tensor, got a tuple"):
        module_costs(Pair(3, 2), (3,))


def test_the_catalog_and_fedgkt_s_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("resnet56", "resnet110", "resnet8", "resnet55")
    monkeypatch.setattr(catalog, "MODELS", {name: MODELS[name] for name in names})
    listed = catalog.catalog((3, 32, 32), 10)
    found = {item.name: item for item in listed}
    assert all(item.costs is not None for item in listed)
    assert found["resnet55"].on_features
    assert found["resnet55"].input_shape == (16, 32, 32)
    assert not found["resnet56"].on_features
    small, large = catalog.edge_ratios(listed)
    assert (small.network, large.network) == ("resnet56", "resnet110")
    # The paper: 9 and 17 times the FLOPs; 54 and 105 times the parameters, over 11K.
    assert round(small.forward_flops) == round(small.training_flops) == small.paper_flops == 9
    assert int(large.forward_flops) == int(large.training_flops) == large.paper_flops == 17
    assert small.parameters == pytest.approx(591_322 / 10_586)
    assert large.parameters == pytest.approx(1_147_738 / 10_586)
    assert (small.paper_parameters, large.paper_parameters) == (54, 105)
