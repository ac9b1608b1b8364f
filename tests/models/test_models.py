"""Conformance of every model in the table, and golden parameter counts."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap

from fedsec.errors import InputError
from fedsec.models import MODELS, build
from fedsec.plugins import registry

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 13)]
# What is slow at 32x32 on one core shows all cases of rounding at small sizes too.
SMALL_SHAPES = [(1, 8, 8), (2, 9, 13), (3, 17, 16)]
SMALLEST = {"convnet64": 9, "pooled_cnn": 16}
RESNETS = [name for name in MODELS if name.startswith("resnet")]
NORMALIZED = ["convnet64", *RESNETS]
# Their image size is their own; torchvision's transformer has 86 million weights, so tests/models/test_torchvision.py
# runs a small one in its place.
SMALL: dict[str, dict[str, Any]] = {name: {"image_size": 16} for name in ("efficientnet_b0", "mobilenet_v3_large")}
SMALL["darts_small"] = {"channels": 2}  # it has no other initialization
TEXTS = ["char_lstm", "char_transformer"]  # of tokens, see test_text_models.py
RUN = [name for name in MODELS if name not in ("vit_b_16", *TEXTS)]
# Seconds a test, and nothing but more of the same blocks than resnet18, resnet56 and resnet55 have.
TWINS = ["resnet49", "resnet50", "resnet109", "resnet110"]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, SMALL.get(name, {})) for name in RUN if name not in TWINS),
    *((name, {"norm": "gn", "activation": "sigmoid"}) for name in ("convnet64", "resnet18", "resnet20_4")),
    *((name, {"norm": {"name": "gn", "groups": 4}, "activation": "sigmoid"}) for name in ("resnet7", "resnet8")),
    *((name, {"norm": "none", "activation": "sigmoid"}) for name in ("convnet64", "resnet20_4")),
    ("resnet18", {"norm": "bn", "activation": "tanh", "init": "uniform"}),
    ("lenet", {"activation": "relu", "init": "default"}),
]
PARAMETERS = {
    ("logistic", (1, 28, 28)): 7_850,
    ("linear", (1, 28, 28)): 7_850,
    ("mlp", (1, 8, 8)): 4_810,
    ("cnn", (1, 28, 28)): 28_938,
    ("cnn", (3, 32, 32)): 34_538,
    ("pooled_cnn", (1, 28, 28)): 80_202,
    # 12 kernels of 25 x channels and a bias, three times; then features x classes and a bias.
    ("lenet", (3, 32, 32)): (12 * 75 + 12) + 2 * (12 * 300 + 12) + 768 * 10 + 10,
    ("lenet", (1, 28, 28)): (12 * 25 + 12) + 2 * (12 * 300 + 12) + 588 * 10 + 10,
    ("convnet64", (3, 32, 32)): 2_904_970,
    ("resnet18", (3, 32, 32)): 11_173_962,
    ("resnet50", (3, 32, 32)): 23_520_842,
    ("resnet20_4", (3, 32, 32)): 4_327_754,
    # A stem; 3 x 2 convolutions of 16, one of 16 to 32, 5 of 32, a projection; the same from 32 to 64; a linear layer.
    ("resnet20", (3, 32, 32)): (432 + 32)
    + 6 * (16 * 16 * 9 + 32)
    + (16 * 32 * 9 + 64)
    + 5 * (32 * 32 * 9 + 64)
    + (16 * 32 + 64)
    + (32 * 64 * 9 + 128)
    + 5 * (64 * 64 * 9 + 128)
    + (32 * 64 + 128)
    + 650,
    ("resnet56", (3, 32, 32)): 591_322,
    ("resnet110", (3, 32, 32)): 1_147_738,
    ("resnet4", (3, 32, 32)): (432 + 32) + 2 * (16 * 16 * 9 + 32) + 170,
    ("resnet6", (3, 32, 32)): (432 + 32) + 4 * (16 * 16 * 9 + 32) + 170,
    ("resnet8", (3, 32, 32)): 10_586,
    ("resnet7", (16, 32, 32)): 10_586 - 464,
    ("resnet19", (16, 32, 32)): 272_474 - 464,
    ("resnet55", (16, 32, 32)): 590_858,
    ("resnet109", (16, 32, 32)): 1_147_274,
    # ResNet-50 without the stem of 64 channels, and with 16 instead of 64 into its first convolution and projection.
    ("resnet49", (16, 32, 32)): 23_520_842 - (3 * 64 * 9 + 128) - 48 * (64 + 256),
}
FEATURES = {
    ("lenet", (3, 32, 32)): 768,
    ("lenet", (1, 28, 28)): 588,
    ("lenet", (1, 30, 29)): 12 * 8 * 8,
    ("convnet64", (3, 32, 32)): 2_304,
    ("convnet64", (1, 28, 28)): 2_304,
    ("convnet64", (2, 9, 19)): 512,
    ("resnet18", (3, 32, 32)): 512,
    ("resnet50", (3, 32, 32)): 2_048,
    ("resnet20_4", (3, 32, 32)): 256,
    ("resnet20", (3, 32, 32)): 64,
    ("resnet56", (3, 32, 32)): 256,
    ("resnet8", (3, 32, 32)): 64,
    ("resnet6", (3, 32, 32)): 16,
    ("resnet55", (16, 32, 32)): 256,
    ("resnet49", (16, 32, 32)): 2_048,
}


def smallest(name: str) -> tuple[int, int, int]:
    side = SMALLEST.get(name, 8)
    return 1, side, side


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (name, shape)
        for name in RUN
        for shape in (
            [(2, 9, 13)] if name in TWINS else SMALL_SHAPES if name in NORMALIZED or name in SMALL else SHAPES
        )
    ],
)
def test_every_model_takes_every_shape_it_does_not_refuse(name: str, shape: tuple[int, int, int]) -> None:
    if min(shape[1:]) < SMALLEST.get(name, 1):
        with pytest.raises(
            InputError,
            match=f"{name}: images must be at least {SMALLEST[name]} pixels a side, got {shape[1]}x{shape[2]}",
        ):
            build(name, shape, 7)
        return
    if "image_size" in SMALL.get(name, {}) and shape[0] == 2:
        with pytest.raises(InputError, match=f"{name}: images must have 1 or 3 channels, got 2"):
            build(name, shape, 7, **SMALL[name])
        return
    model = build(name, shape, 7, **SMALL.get(name, {}))
    logits = model(torch.rand(3, *shape))
    assert logits.shape == (3, 7)
    logits.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_every_model_can_be_differentiated_twice_and_has_no_in_place_operation(
    name: str, options: dict[str, Any]
) -> None:
    model = build(name, smallest(name), 3, **options).double()
    images = torch.rand(2, *smallest(name), dtype=torch.double, requires_grad=True)
    loss = F.cross_entropy(model(images), torch.tensor([0, 2]))
    gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    (second,) = torch.autograd.grad(sum(g.square().sum() for g in gradients), images)
    assert second.isfinite().all()
    # Every gradient depends on the image, even that of a logistic model whose weights are zero.
    assert second.abs().max() > 0
    assert not any(getattr(m, "inplace", False) for m in model.modules())
    assert not any("Dropout" in type(m).__name__ for m in model.modules())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_an_image_s_logits_do_not_depend_on_the_others_in_eval_mode(name: str, options: dict[str, Any]) -> None:
    model = build(name, smallest(name), 3, **options).eval().double()
    images = torch.rand(3, *smallest(name), dtype=torch.double)
    with torch.no_grad():
        together, alone = model(images), model(images[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_vmap_over_stacked_parameters_gives_what_each_model_gives(name: str, options: dict[str, Any]) -> None:
    # The batch normalization's statistics take part, so that each model also has its own of them.
    random = {} if name in SMALL else {"init": "default"}
    models = [build(name, smallest(name), 3, **{**random, **options}).eval().double() for _ in range(2)]
    images = torch.rand(2, 2, *smallest(name), dtype=torch.double)
    stacked = {key: torch.stack([m.state_dict()[key] for m in models]) for key in models[0].state_dict()}
    with torch.no_grad():
        found = vmap(lambda state, x: functional_call(models[0], state, (x,)))(stacked, images)
        expected = torch.stack([model(x) for model, x in zip(models, images, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in RUN if name not in TWINS])
def test_the_random_state_decides_the_initial_weights(name: str) -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        options: dict[str, Any] = SMALL.get(name, {"init": "default"})
        weights.append(torch.cat([p.flatten() for p in build(name, smallest(name), 3, **options).parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("which", "count"), PARAMETERS.items())
def test_parameter_counts(which: tuple[str, tuple[int, int, int]], count: int) -> None:
    norms: list[dict[str, Any]] = [{"norm": "bn"}, {"norm": "gn"}] if which[0] in NORMALIZED else [{}]
    for options in norms:
        with torch.device("meta"):
            assert sum(p.numel() for p in build(*which, 10, **options).parameters()) == count


@pytest.mark.parametrize(("name", "count"), [("resnet56", 855_770), ("resnet110", 1_730_714)])
def test_parameter_counts_of_he_s_basic_blocks(name: str, count: int) -> None:
    for norm in ("bn", "gn"):
        with torch.device("meta"):
            model = build(name, (3, 32, 32), 10, block="basic", norm=norm)
        assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(("which", "width"), FEATURES.items())
def test_feature_widths(which: tuple[str, tuple[int, int, int]], width: int) -> None:
    name, shape = which
    with torch.device("meta"):
        model = build(name, shape, 10)
        assert model(torch.zeros(2, *shape)).shape == (2, 10)
    classifier = model.get_submodule("classifier")
    assert classifier.in_features == width


@pytest.mark.parametrize(
    ("name", "options"), [("cnn", {"init": "uniform"}), ("lenet", {}), ("resnet20_4", {"init": "uniform"})]
)
def test_uniform_init_is_dlgs(name: str, options: dict[str, Any]) -> None:
    weights = torch.cat([p.flatten() for p in build(name, (1, 28, 28), 10, **options).parameters()])
    assert weights.abs().max() <= 0.5
    assert weights.std().item() == pytest.approx(12**-0.5, rel=0.02)
    assert abs(weights.mean().item()) < 0.02


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "message"),
    [
        ("resnet9000", (1, 8, 8), 3, {}, "known: logistic"),
        ("cnn", (8, 8), 3, {}, "channels, height, width"),
        ("cnn", (1, 8, 8), -1, {}, "at least 1, got -1"),
        ("mlp", (10,), 0, {}, "no classes to tell apart: the dataset's targets are numbers"),
        ("cnn", (5,), 3, {}, "takes images, but the inputs are vectors of 5 numbers; take logistic or linear or mlp"),
        ("cnn", (1, 8, 8), 3, {"activation": "swish"}, "sigmoid, relu"),
        ("cnn", (1, 8, 8), 3, {"init": "xavier"}, "uniform"),
        ("cnn", (1, 8, 8), 3, {"channels": [4]}, "two numbers"),
        ("pooled_cnn", (1, 28, 28), 3, {"channels": [4]}, "two numbers"),
        ("pooled_cnn", (1, 28, 28), 3, {"hidden": 0}, "hidden must be at least 1, got 0"),
        ("pooled_cnn", (1, 15, 28), 3, {}, "at least 16 pixels a side, got 15x28"),
        ("mlp", (1, 8, 8), 3, {"hidden": []}, "at least one"),
        ("mlp", (1, 8, 8), 3, {"depth": 3}, "depth"),
        ("lenet", (1, 8, 8), 3, {"activation": "swish"}, "sigmoid, relu"),
        ("lenet", (1, 8, 8), 3, {"init": "xavier"}, "uniform"),
        ("convnet64", (3, 32, 8), 3, {}, "convnet64: images must be at least 9 pixels a side, got 32x8"),
        ("convnet64", (1, 9, 9), 3, {"width": 0}, "width must be at least 1"),
        ("convnet64", (1, 9, 9), 3, {"width": 3, "norm": "gn"}, "norm.groups must divide the 3 channels .*, got 2"),
        ("resnet18", (1, 8, 8), 3, {"norm": "ln"}, "unknown norm 'ln'; known: bn, gn, none"),
        (
            "resnet50",
            (1, 8, 8),
            3,
            {"norm": {"name": "gn", "groups": 3}},
            "resnet50: norm.groups must divide the 64 channels .*, got 3",
        ),
        ("resnet56", (1, 8, 8), 3, {"block": "wide"}, "resnet56: unknown block 'wide'; known: bottleneck, basic"),
        ("resnet18", (1, 8, 8), 3, {"block": "basic"}, "model 'resnet18': .*block"),
        ("resnet20_4", (1, 8, 8), 3, {"activation": "swish"}, "sigmoid, relu"),
        ("resnet18", (1, 8, 8), 3, {"init": "xavier"}, "uniform"),
    ],
)
def test_bad_requests_say_what_was_expected(
    name: str, shape: Any, classes: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build(name, shape, classes, **options)


@pytest.mark.parametrize("name", ["logistic", "linear", "mlp"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_vectors_are_inputs_too(name: str, outputs: int) -> None:
    model = build(name, (7,), outputs)
    assert model(torch.rand(5, 7)).shape == (5, outputs)


def test_a_plugin_brings_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def theirs(input_shape: tuple[int, ...], num_classes: int, bias: bool = True) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes, bias=bias))

    brought = {"theirs": theirs, "no": lambda *shape: 3}
    monkeypatch.setattr(registry, "load", lambda kind, name: brought[name])
    assert build("theirs", (1, 2, 2), 3, bias=False)(torch.zeros(1, 1, 2, 2)).shape == (1, 3)
    with pytest.raises(InputError, match=r"model 'no': expected a torch\.nn\.Module, got an object of type int"):
        build("no", (1, 2, 2), 2)
