"""A model in two parts computes what the whole does."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedsec.errors import InputError
from fedsec.models import build
from fedsec.models.gkt import feature_map
from fedsec.models.split import extractor, split

SHAPE = (3, 12, 10)
PARTS = [
    *((name, "stem") for name in ("resnet4", "resnet6", "resnet8", "resnet20", "resnet56", "resnet20_4")),
    *((name, "features") for name in ("cnn", "lenet", "convnet64")),
]


class Both(nn.Module):
    """What a FedGKT client computes: feature maps and logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        part, head = split(self.model)
        features = part(images)
        return features, head(features)


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_the_head_of_the_features_is_the_whole(name: str, part: str) -> None:
    model = build(name, SHAPE, 4).eval()
    assert extractor(model) is model.get_submodule(part)
    images = torch.rand(3, *SHAPE)
    features, logits = Both(model)(images)
    assert features.dim() == 4
    assert torch.equal(logits, model(images))


@pytest.mark.parametrize("name", ["resnet4", "resnet6", "resnet8"])
def test_clients_send_what_servers_take(name: str) -> None:
    model = build(name, SHAPE, 4)
    features = extractor(model)(torch.rand(2, *SHAPE))
    assert features.shape[1:] == feature_map(SHAPE) == (16, 12, 10)
    assert build("resnet7", feature_map(SHAPE), 4)(features).shape == (2, 4)


def test_the_parts_follow_functional_call_and_vmap() -> None:
    models = [Both(build("resnet8", SHAPE, 4)).eval().double() for _ in range(3)]
    images = torch.rand(3, 2, *SHAPE, dtype=torch.double)
    stacked = {key: torch.stack([m.state_dict()[key] for m in models]) for key in models[0].state_dict()}
    features, logits = vmap(lambda state, x: functional_call(models[0], state, (x,)))(stacked, images)
    for index, model in enumerate(models):
        torch.testing.assert_close(features[index], extractor(model.model)(images[index]))
        torch.testing.assert_close(logits[index], model.model(images[index]))


@pytest.mark.parametrize(
    ("name", "shape"), [("mlp", SHAPE), ("logistic", SHAPE), ("resnet7", (16, 8, 8)), ("resnet55", (16, 8, 8))]
)
def test_models_without_an_extractor_are_refused(name: str, shape: Any) -> None:
    called = f"model '{name}'" if name.startswith("resnet") else "the model (MLP|Logistic)"
    with pytest.raises(
        InputError, match=f"^{called} has no feature extractor; FedGKT's clients are resnet4, resnet6, resnet8"
    ):
        split(build(name, shape, 4))


def test_a_user_s_model_needs_a_head_too() -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Conv2d(3, 2, 3)

    mine = Mine()
    assert extractor(mine) is mine.features
    with pytest.raises(InputError, match="the model Mine has no method classify"):
        split(mine)
