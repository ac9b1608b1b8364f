"""Models by name, built for a dataset's image shape and number of classes."""

from typing import Any

from torch import nn

from fedsec.errors import InputError
from fedsec.models.cnn import CNN
from fedsec.models.convnet64 import ConvNet64
from fedsec.models.gkt import ResNet4, ResNet6, ResNet7, ResNet8, ResNet19, ResNet49, ResNet55, ResNet109
from fedsec.models.lenet import LeNet
from fedsec.models.logistic import Logistic
from fedsec.models.mlp import MLP
from fedsec.models.resnet import ResNet18, ResNet20, ResNet20x4, ResNet50, ResNet56, ResNet110
from fedsec.models.torchvision_models import EfficientNetB0, MobileNetV3Large, ViTB16

InputShape = tuple[int, int, int]


def build(name: str, input_shape: InputShape, num_classes: int, **options: Any) -> nn.Module:
    """Build a freshly initialized model.

    The initial weights come from torch's global random state; seed that, or use
    `torch.random.fork_rng`, to choose them.

    Args:
        name: a key of `MODELS`.
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.
        options: the model's own options, see its constructor.

    Raises:
        InputError: unknown name, an option the model does not have, or a shape it cannot take.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise InputError(f"input_shape must be (channels, height, width), each at least 1, got {tuple(input_shape)}")
    if num_classes < 2:
        raise InputError(f"num_classes must be at least 2, got {num_classes}")
    try:
        return MODELS[name](input_shape, num_classes, **options)
    except TypeError as error:
        raise InputError(f"model {name!r}: {error}") from error


MODELS: dict[str, type[nn.Module]] = {
    "logistic": Logistic,
    "mlp": MLP,
    "cnn": CNN,
    "lenet": LeNet,
    "convnet64": ConvNet64,
    "resnet18": ResNet18,
    "resnet50": ResNet50,
    "resnet20_4": ResNet20x4,
    "resnet20": ResNet20,
    "resnet56": ResNet56,
    "resnet110": ResNet110,
    "resnet4": ResNet4,
    "resnet6": ResNet6,
    "resnet8": ResNet8,
    "resnet7": ResNet7,
    "resnet19": ResNet19,
    "resnet49": ResNet49,
    "resnet55": ResNet55,
    "resnet109": ResNet109,
    "efficientnet_b0": EfficientNetB0,
    "mobilenet_v3_large": MobileNetV3Large,
    "vit_b_16": ViTB16,
}
