"""All models side by side on one dataset's images, and what FedGKT spares its clients.

Reference: He, Annavaram, Avestimehr, "Group Knowledge Transfer", NeurIPS 2020, arXiv:2007.14513
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedsec.errors import InputError
from fedsec.models import MODELS
from fedsec.models.costs import Costs, costs
from fedsec.models.gkt import GKTServer, feature_map

CLIENT = "resnet8"
"""The network on FedGKT's clients, whose costs the paper compares."""

PAPER = {"resnet56": (9, 54), "resnet110": (17, 105)}
"""Section 4.3: how many times resnet8's FLOPs and parameters, at 3x32x32. The latter divide by a rounded 11K."""


@dataclass(frozen=True)
class Listed:
    """One model of the table.

    Args:
        name: a key of `MODELS`.
        input_shape: what it was given: an image, or a feature map of one of FedGKT's clients.
        on_features: whether it was a feature map.
        costs: of one example, or nothing if the model cannot take the shape.
        refused: why not.
    """

    name: str
    input_shape: tuple[int, int, int]
    on_features: bool
    costs: Costs | None
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        """The entry as plain data, for machines."""
        record = {"name": self.name, "input_shape": list(self.input_shape), "on_features": self.on_features}
        return {**record, **asdict(self.costs)} if self.costs else {**record, "refused": self.refused}


@dataclass(frozen=True)
class EdgeRatio:
    """How many times the costs of FedGKT's client a whole network has.

    Args:
        network: that clients would train without FedGKT.
        forward_flops: quotient of the forward passes.
        training_flops: quotient of forward and backward passes.
        parameters: quotient of the parameters.
        paper_flops: what the paper states, for images of 3x32x32.
        paper_parameters: the same of the parameters.
    """

    network: str
    forward_flops: float
    training_flops: float
    parameters: float
    paper_flops: int
    paper_parameters: int

    def as_json(self) -> dict[str, Any]:
        """The quotients as plain data, for machines."""
        return asdict(self)


def catalog(input_shape: tuple[int, int, int], num_classes: int) -> list[Listed]:
    """What every model costs on images of a shape; those without a stem on the feature maps that clients send.

    Args:
        input_shape: (channels, height, width) of an image.
        num_classes: number of logits.
    """
    listed = []
    for name, kind in MODELS.items():
        on_features = issubclass(kind, GKTServer)
        shape = feature_map(input_shape) if on_features else input_shape
        try:
            listed.append(Listed(name, shape, on_features, costs(name, shape, num_classes)))
        except InputError as error:
            listed.append(Listed(name, shape, on_features, None, str(error).removeprefix(f"{name}: ")))
    return listed


def edge_ratios(listed: Sequence[Listed]) -> list[EdgeRatio]:
    """The networks of FedGKT's paper over its client.

    Args:
        listed: what `catalog` gave.
    """
    known = {item.name: item.costs for item in listed}
    client, ratios = known[CLIENT], []
    for network, stated in PAPER.items():
        whole = known[network]
        if whole is not None and client is not None:
            forward = whole.forward_flops / client.forward_flops
            training = whole.training_flops / client.training_flops
            ratios.append(EdgeRatio(network, forward, training, whole.parameters / client.parameters, *stated))
    return ratios
