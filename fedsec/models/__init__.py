"""Models by name, built for a dataset's image shape and number of classes."""

from typing import Any

import torch
from torch import nn

from fedsec.errors import InputError
from fedsec.models.char_lstm import CharLSTM
from fedsec.models.char_transformer import CharTransformer
from fedsec.models.cnn import CNN
from fedsec.models.convnet64 import ConvNet64
from fedsec.models.darts_small import DartsSmall
from fedsec.models.gkt import ResNet4, ResNet6, ResNet7, ResNet8, ResNet19, ResNet49, ResNet55, ResNet109
from fedsec.models.lenet import LeNet
from fedsec.models.linear import Linear
from fedsec.models.logistic import Logistic
from fedsec.models.mlp import MLP
from fedsec.models.pooled_cnn import PooledCNN
from fedsec.models.resnet import ResNet18, ResNet20, ResNet20x4, ResNet50, ResNet56, ResNet110
from fedsec.models.torchvision_models import EfficientNetB0, MobileNetV3Large, ViTB16
from fedsec.models.user_models import load_model
from fedsec.plugins import own_models, registry

InputShape = tuple[int, ...]


def build(name: str, input_shape: InputShape, num_classes: int, **options: Any) -> nn.Module:
    """Build a freshly initialized model.

    The initial weights come from torch's global random state; seed that, or use
    `torch.random.fork_rng`, to choose them.

    Args:
        name: a key of `MODELS`, or a plugin's.
        input_shape: (channels, height, width) of one image, or (features,) of one vector.
        num_classes: number of outputs, as many as there are classes.
        options: the model's own options, see its constructor.

    Raises:
        InputError: unknown name, an option the model does not have, a shape it cannot take, or a plugin that makes no
            model.
    """
    if name in own_models.allowed():
        if options:
            raise InputError(f"model {name!r}: a factory of one's own has no options, got {', '.join(options)}")
        with torch.device("cpu"):  # it is tried at once, which takes memory for its weights
            return load_model(name, input_shape, num_classes)
    kind = MODELS[name] if name in MODELS else registry.load("model", name)
    if len(input_shape) not in (1, 3) or min(input_shape) < 1:
        raise InputError(
            f"input_shape must be (channels, height, width) or (features,), each at least 1, got {tuple(input_shape)}"
        )
    if num_classes == 0:
        raise InputError(
            "there are no classes to tell apart: the dataset's targets are numbers; num_classes is 0, expected as many "
            "outputs as the task needs (1 in a regression)"
        )
    if num_classes < 1:
        raise InputError(f"num_classes must be at least 1, got {num_classes}")
    if len(input_shape) == 1 and not getattr(kind, "takes_vectors", False):
        able = [
            other
            for other, known in MODELS.items()
            if getattr(known, "takes_vectors", False) and "next_token" not in getattr(known, "tasks", ())
        ]
        raise InputError(
            f"model {name!r} takes images, but the inputs are vectors of {input_shape[0]} numbers; take "
            f"{' or '.join(able)}"
        )
    try:
        model = kind(input_shape, num_classes, **options)
    except TypeError as error:
        raise InputError(f"model {name!r}: {error}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name!r}: expected a torch.nn.Module, got an object of type {type(model).__name__}")
    return model


MODELS: dict[str, type[nn.Module]] = {
    "logistic": Logistic,
    "linear": Linear,
    "mlp": MLP,
    "cnn": CNN,
    "pooled_cnn": PooledCNN,
    "lenet": LeNet,
    "darts_small": DartsSmall,
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
    "char_lstm": CharLSTM,
    "char_transformer": CharTransformer,
}
