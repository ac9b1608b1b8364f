"""What options of the command line may be."""

from enum import StrEnum

__all__ = ["BnStatistics", "ClientMode", "Device", "Labels", "LpipsNetwork"]


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Labels(StrEnum):
    """Whether an inversion is told the labels."""

    known = "known"
    infer = "infer"


class BnStatistics(StrEnum):
    """What an inversion is told of batch normalization."""

    known = "known"
    unknown = "unknown"
    running = "running"


class ClientMode(StrEnum):
    """How a client's batch normalization works."""

    train = "train"
    eval = "eval"


class LpipsNetwork(StrEnum):
    """Backbones of the perceptual distance."""

    alex = "alex"
    vgg = "vgg"
    squeeze = "squeeze"
