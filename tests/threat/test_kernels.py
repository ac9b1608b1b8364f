"""Layers whose fused kernels have no second derivative can be attacked, and everything is as before afterwards."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import DLG, InvertingGradients
from fedsec.threat import Observation
from fedsec.threat.kernels import differentiable_twice


class Attention(nn.Module):
    """Users' own attention: the function, not the module."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        queries, keys, values = self.mix(tokens).chunk(3, -1)
        return F.scaled_dot_product_attention(queries, keys, values)


class Multihead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed: Tensor = self.layer(tokens, tokens, tokens, need_weights=False)[0]
        return mixed


class First(nn.Module):
    """A recurrent layer's outputs without its state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tokens: Tensor) -> Tensor:
        outputs: Tensor = self.layer(tokens)[0]
        return outputs


MIXERS: dict[str, Callable[[], nn.Module]] = {
    "function": Attention,
    "multihead": Multihead,
    "layer": lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
    "encoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1, enable_nested_tensor=False
    ),
    "lstm": lambda: First(nn.LSTM(4, 4, batch_first=True)),
    "gru": lambda: First(nn.GRU(4, 4, batch_first=True)),
}


class Tokens(nn.Module):
    """A transformer in small: patches, one layer that mixes them, their mean, logits."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.patches, self.mixer, self.head = nn.Conv2d(1, 4, 2, 2), mixer, nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        logits: Tensor = self.head(self.mixer(tokens).mean(1))
        return logits


@pytest.mark.parametrize("name", MIXERS)
def test_they_can_be_attacked(name: str) -> None:
    torch.manual_seed(0)
    model = Tokens(MIXERS[name]()).eval()
    images, labels = torch.rand(2, 1, 4, 4), torch.tensor([2, 0])
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    seen = Observation.of_gradient(model, rows, input_shape=(1, 4, 4), num_classes=3, batch_size=2)
    assert InvertingGradients(iterations=2).reconstruct(seen).labels.tolist() == [0, 2]  # type: ignore[union-attr]
    assert DLG(iterations=1).reconstruct(seen).losses.isfinite().all()


def test_everything_is_as_before_afterwards() -> None:
    def state() -> tuple[bool, ...]:
        return (
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.mkldnn.enabled,
            torch.backends.cudnn.enabled,
        )

    before = state()
    with differentiable_twice(nn.LSTM(2, 2)):
        assert not any(state()[:4])
    assert state() == before
