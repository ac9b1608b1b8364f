"""torchvision's classifiers for ImageNet, freshly initialized.

Dropout and stochastic depth are left out, since the federation refuses random layers: its batches, updates and resumed
runs must be reproducible. Nothing computes in place. Layers that vmap cannot handle or that cannot be differentiated
twice are replaced by the same formulas in plain operations. The weights are initialized as torchvision does; none are
pretrained.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError


class TorchvisionModel(nn.Module):
    """A classifier of torchvision, with a resizing of its inputs in front.

    Args:
        input_shape: (channels, height, width), one or three channels; gray images become three equal channels.
        num_classes: number of logits.
        image_size: height and width that the network sees; images of another size are resized bilinearly, with
            antialiasing, inside the model.

    Raises:
        InputError: another number of channels, or an image size that the network cannot take.
    """

    name: ClassVar[str]
    factory: ClassVar[str]
    """The function of `torchvision.models`."""
    patch: ClassVar[int] = 1
    """What divides the image size."""

    def __init__(self, input_shape: tuple[int, int, int], num_classes: int, image_size: int = 224) -> None:
        from torchvision import models

        super().__init__()
        if input_shape[0] not in (1, 3):
            raise InputError(f"{self.name}: images must have 1 or 3 channels, got {input_shape[0]}")
        if image_size < 1 or image_size % self.patch:
            multiple = f"a positive multiple of {self.patch}" if self.patch > 1 else "at least 1"
            raise InputError(f"{self.name}: image_size must be {multiple}, got {image_size}")
        self.image_size = image_size
        make: Callable[..., nn.Module] = getattr(models, self.factory)
        self.network = make(weights=None, num_classes=num_classes, **self.options(image_size))
        _adapt(self.network)

    @classmethod
    def options(cls, image_size: int) -> dict[str, Any]:
        """Further arguments of torchvision's function."""
        return {}

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of normalized images."""
        size = (self.image_size, self.image_size)
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        logits: Tensor = self.network(images.expand(-1, 3, -1, -1))
        return logits


class EfficientNetB0(TorchvisionModel):
    """torchvision's EfficientNet-B0 without dropout and stochastic depth (5,288,548 parameters with 1,000 classes).

    Reference: Tan, Le, "EfficientNet", ICML 2019, arXiv:1905.11946
    """

    name = "efficientnet_b0"
    factory = "efficientnet_b0"


class MobileNetV3Large(TorchvisionModel):
    """torchvision's MobileNetV3-Large without dropout (5,483,032 parameters with 1,000 classes).

    Reference: Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244
    """

    name = "mobilenet_v3_large"
    factory = "mobilenet_v3_large"


class ViTB16(TorchvisionModel):
    """torchvision's ViT-B/16 (86,567,656 parameters with 1,000 classes at 224x224); image_size is a multiple of 16.

    torchvision sets the last layer to zero, so that the first logits are all equal.

    Reference: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929
    """

    name = "vit_b_16"
    factory = "vit_b_16"
    patch = 16

    @classmethod
    def options(cls, image_size: int) -> dict[str, Any]:
        """The size decides how many positions are embedded."""
        return {"image_size": image_size}


class SelfAttention(nn.Module):
    """Self-attention softmax(q k^T / sqrt(d)) v of every head, with the parameters of PyTorch's layer.

    PyTorch's fused operations have no second derivative, and in eval mode no rule for vmap.

    Args:
        layer: whose parameters are taken over; batch first, without dropout.
    """

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = layer.num_heads
        self.in_proj_weight, self.in_proj_bias = layer.in_proj_weight, layer.in_proj_bias
        self.out_proj = layer.out_proj

    def forward(
        self, query: Float[Tensor, "batch tokens width"], key: Tensor, value: Tensor, *, need_weights: bool
    ) -> tuple[Float[Tensor, "batch tokens width"], None]:
        """The attended tokens; key and value are the query, and no weights are returned."""
        projected = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        # [3, batch, heads, tokens, width of a head]
        queries, keys, values = projected.reshape(*query.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        scores = queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5
        attended = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
        return self.out_proj(attended), None


class HardSigmoid(nn.Module):
    """min(max(x + 3, 0), 6) / 6, which PyTorch's own layer computes too but cannot differentiate twice."""

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Values between 0 and 1."""
        return F.relu6(inputs + 3) / 6


def _adapt(network: nn.Module) -> None:
    """Replace random layers and those that cannot be differentiated twice, and switch in-place operations off."""
    from torchvision.ops import StochasticDepth

    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.dropout._DropoutNd | StochasticDepth):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Hardsigmoid):
                setattr(module, name, HardSigmoid())
            elif isinstance(child, nn.MultiheadAttention):
                setattr(module, name, SelfAttention(child))
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
