"""LOKI: kernels of its own for each client, so that images of a sum of clients are told apart, and their bins as well.

Zhao, Sharma, Elkordy, Ezzeldin, Avestimehr, Bagchi, LOKI: large-scale data reconstruction attack against federated
learning through model manipulation, IEEE S&P 2024, arXiv:2303.12233. Deviations: kernels are 1 x 1 in place of 3 x 3,
shut ones have a negative bias; a constant of its own for each client stands in place of the layer's bias, which the
paper's clients share; what the layer puts out is added to the image, as in `imprint`, so that any model may follow.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.attacks.imprint import Entrance, ImprintedModel, amplification, bin_edges, brightness, recovered
from fedsec.errors import InputError
from fedsec.matching.row_images import LayerRows
from fedsec.threat import MaliciousServer, Observation, PixelScale, Reconstruction, ServerView
from fedsec.threat.inversion import Watch

__all__ = ["Kernels", "Loki"]

_SHUT = -1.0
"""Bias of other clients' kernels: behind it ReLU passes nothing on, and no gradient back."""


class Kernels(Entrance):
    """A convolution with a set of kernels for each client of a sum, of which all but one client's are shut.

    Args:
        scale: of the model's input; an open kernel passes on pixel / std, which is never negative.
        shape: (channels, height, width).
        clients: of the sum.
        place: whose kernels are open.
        constant: that goes with each client's pixels.
    """

    def __init__(
        self, scale: PixelScale, shape: tuple[int, int, int], clients: int, place: int, constant: float
    ) -> None:
        super().__init__()
        channels, self.clients, self.place = shape[0], clients, place
        # Empty first: a layer's own initialization would draw from the process's generator.
        self.convolution = nn.Conv2d(channels, clients * channels, 1, device="meta").to_empty(device="cpu")
        self.constants = nn.Parameter(torch.full((clients,), _SHUT))
        mean, std = (part.expand(shape)[:, 0, 0] for part in scale.tensors(torch.zeros(shape)))
        own = slice(place * channels, (place + 1) * channels)
        with torch.no_grad():
            assert self.convolution.bias is not None
            self.convolution.weight.zero_()
            self.convolution.weight[own, :, 0, 0] = torch.eye(channels)
            self.convolution.bias.fill_(_SHUT)
            self.convolution.bias[own] = mean / std
            self.constants[place] = constant

    def amplify(self, factor: float) -> None:
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(factor)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch inputs"]:
        """All clients' pixels, then all clients' constants."""
        pixels = F.relu(self.convolution(images)).flatten(1)
        return torch.cat([pixels, F.relu(self.constants).expand(len(images), -1)], 1)


class Loki(MaliciousServer):
    """Sends each client of a sum kernels of its own, which keep its images apart in columns of an imprint layer.

    Secure aggregation's sum leaves the columns of different clients apart, and the server knows whose images they hold.

    With an imprint layer W whose columns belong to clients, x the images and z what the layer puts out,

        sum over clients c of g_W = [ sum_i dz_i x_i^T of client 1 | of client 2 | ... ]

    since for all columns but its own a client's input is zero. Each client then has all bins of the layer for its own
    batch, however many are summed: of k bins and B images of one client (1 - 1/k)^(B-1) are alone, where `imprint`
    needs as many times k bins as there are clients, and auxiliary images to place them. What several local steps add up
    to stays apart, too: shut kernels get no gradient.

    Bins, amplification and checks are those of the sparse `imprint`. Where the server sees a client's own update it is
    the same attack.

    Args:
        bins: rows of the layer, at least 2.
        gain: how strongly the layer acts on the image.
        amplification: of the kernels (the paper's convolutional scaling factor); null: as `imprint` chooses it.

    Raises:
        InputError: on use: the observed model was not crafted by it, its gradient was not sent, or only signs of it.

    Cost:
        A layer of bins x pixels x clients of a sum parameters for each client; closed forms for the server.

    Limits:
        Changes the architecture, which a client who looks sees at once; clients that compare what they received see
        different kernels. Images of equal brightness of one client come back as one mixture. Noise of all clients of a
        sum lies on each one's columns.

    Example:
        bins: 1024

    Reference: Zhao et al., IEEE S&P 2024, arXiv:2303.12233
    """

    changes_architecture: ClassVar[bool] = True
    separates_clients: ClassVar[bool] = True

    def __init__(self, bins: int = 512, gain: float = 0.01, amplification: float | None = None) -> None:
        if bins < 2:
            raise InputError(f"Loki: bins must be at least 2, got {bins}")
        for name, value in (("gain", gain), ("amplification", amplification)):
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"Loki: {name} must be positive and finite, got {value}")
        self.bins, self.gain, self.amplification = bins, gain, amplification

    def build(self, view: ServerView, *, generator: torch.Generator) -> nn.Module:
        edges = bin_edges(view.auxiliary, self.bins)
        direction, _ = brightness(view.scale, view.input_shape)  # of pixel / std: without an offset
        widths = edges.diff()[:, None]
        pixels = direction.expand(self.bins, -1).repeat(1, view.clients)
        weight = torch.cat([pixels, -edges[:-1, None].expand(-1, view.clients)], 1) / widths
        signs = torch.randint(0, 2, direction.shape, generator=generator).double() * 2 - 1
        like = next(view.model.parameters())
        constant = len(direction) ** 0.5 / 2
        entrance = Kernels(view.scale, view.input_shape, view.clients, view.place, constant)
        model = ImprintedModel(deepcopy(view.model), weight, signs, self.gain, sparse=True, entrance=entrance)
        model = model.to(like.device, like.dtype).train(view.model.training)
        model.amplify(self.amplification or amplification(model, view, generator))
        return model

    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> Sequence[Reconstruction]:
        return [_recover(observation, generator) for observation in observations]


def _recover(observation: Observation, generator: torch.Generator) -> Reconstruction:
    model = observation.model
    if not isinstance(model, ImprintedModel) or not isinstance(model.entrance, Kernels):
        raise InputError("loki reads an observation of the model that it crafted, which begins with kernels of its own")
    kernels, shape = model.entrance, observation.input_shape
    pixels = shape[0] * shape[1] * shape[2]
    rows = LayerRows.of_constant(
        observation,
        "bins.weight",
        model.constant,
        inputs=slice(kernels.place * pixels, (kernels.place + 1) * pixels),
        column=kernels.clients * pixels + kernels.place,
    )
    mean, std = observation.scale.tensors(torch.zeros(shape, dtype=torch.float64, device=rows.rows.device))
    rows = rows.shifted(-(mean / std).expand(shape).flatten())
    return recovered(observation, model, rows, generator, whole=kernels.clients == 1)
