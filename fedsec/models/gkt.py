"""The networks of FedGKT: small ones for clients, large ones that a server trains on the clients' feature maps.

A client sends what its stem makes of each image, 16 x height x width. A server's network has no stem: its input_shape
is that of a feature map, and it goes on where the client's stem ends.
"""

from fedsec.models.residual import Architecture
from fedsec.models.resnet import CIFAR, IMAGENET, ResNet

CLIENT = (16,)
"""Widths of a client's stages: one, as wide as its stem."""


def feature_map(input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of what one of this module's clients sends of one image: the input_shape of a server's network."""
    return (CLIENT[0], *input_shape[1:])


class GKTServer(ResNet):
    """A residual network without a stem, on feature maps.

    Args:
        input_shape: (channels, height, width) of a client's feature map.
    """


class ResNet4(ResNet):
    """FedGKT's smallest client: a stem and one basic block of 16 channels (5,306 parameters at 3x32x32).

    Reference: He, Annavaram, Avestimehr, "Group Knowledge Transfer", NeurIPS 2020, arXiv:2007.14513
    """

    name = "resnet4"
    architecture = Architecture((1,), CLIENT)


class ResNet6(ResNet):
    """FedGKT's small client: a stem and two basic blocks of 16 channels (9,978 parameters at 3x32x32).

    Reference: He, Annavaram, Avestimehr, "Group Knowledge Transfer", NeurIPS 2020, arXiv:2007.14513
    """

    name = "resnet6"
    architecture = Architecture((2,), CLIENT)


class ResNet8(ResNet):
    """FedGKT's client: a stem and two bottlenecks of width 16, 64 channels (10,586 parameters at 3x32x32).

    Reference: He, Annavaram, Avestimehr, "Group Knowledge Transfer", NeurIPS 2020, arXiv:2007.14513
    """

    name = "resnet8"
    architecture = Architecture((2,), CLIENT, bottleneck=True)


class ResNet7(GKTServer):
    """A server's network for quick trials: ResNet-8 without its stem (10,122 parameters at 16x32x32)."""

    name = "resnet7"
    architecture = Architecture((2,), CLIENT, bottleneck=True, stem=False)


class ResNet19(GKTServer):
    """A server's network for small machines: ResNet-20 without its stem (272,010 parameters at 16x32x32)."""

    name = "resnet19"
    architecture = Architecture((3, 3, 3), CIFAR, stem=False)


class ResNet49(GKTServer):
    """A server's network: ResNet-50 without its stem, 3, 4, 6, 3 bottlenecks (23,503,626 parameters at 16x32x32)."""

    name = "resnet49"
    architecture = Architecture((3, 4, 6, 3), IMAGENET, bottleneck=True, stem=False)


class ResNet55(GKTServer):
    """FedGKT's server: 6, 6, 6 bottlenecks of width 16, 32, 64 (590,858 parameters at 16x32x32).

    Reference: He, Annavaram, Avestimehr, "Group Knowledge Transfer", NeurIPS 2020, arXiv:2007.14513
    """

    name = "resnet55"
    architecture = Architecture((6, 6, 6), CIFAR, bottleneck=True, stem=False)


class ResNet109(GKTServer):
    """FedGKT's larger server: 12, 12, 12 bottlenecks of width 16, 32, 64 (1,147,274 parameters at 16x32x32).

    Reference: He, Annavaram, Avestimehr, "Group Knowledge Transfer", NeurIPS 2020, arXiv:2007.14513
    """

    name = "resnet109"
    architecture = Architecture((12, 12, 12), CIFAR, bottleneck=True, stem=False)
