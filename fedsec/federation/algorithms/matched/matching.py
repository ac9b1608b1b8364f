"""Which neuron of one network is which of another: layer by layer, by an assignment of what comes into them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.federation.algorithms.matched.chain import Layer


def matched_places(
    reference: Float[Tensor, "parameters"], network: Float[Tensor, "parameters"], layers: Sequence[Layer]
) -> Int64[Tensor, "parameters"]:
    """The order in which a network's parameters are most like a reference's: `network[places]` computes the same.

    From the input on, the neurons of a layer are permuted so that the squared distances of what comes into them (biases
    included) are least in sum, given the order of the layer before. The last layer's outputs are classes, and stay.

    Args:
        reference: finite.
        network: likewise.
        layers: of both.
    """
    places, order = torch.arange(len(network)), torch.arange(layers[0].inputs)
    for number, layer in enumerate(layers):
        own = _permuted(layer, order, torch.arange(layer.outputs))
        if number == len(layers) - 1:
            order = torch.arange(layer.outputs)
        else:
            order = _assignment(reference[layer.places()], network[own])
        places[layer.places()] = own[order]
    return places


def _permuted(
    layer: Layer, inputs: Int64[Tensor, "inputs"], outputs: Int64[Tensor, "outputs"]
) -> Int64[Tensor, "outputs incoming"]:
    """Where what comes into each output lies, once inputs and outputs have changed places.

    Args:
        layer: of the network.
        inputs: which input comes first, second, ...
        outputs: likewise.
    """
    places = layer.places()
    weights = places[:, : layer.inputs * layer.area].view(layer.outputs, layer.inputs, layer.area)[:, inputs]
    biases = places[:, layer.inputs * layer.area :]
    return torch.cat((weights.flatten(1), biases), 1)[outputs]


def _assignment(
    wanted: Float[Tensor, "outputs incoming"], given: Float[Tensor, "outputs incoming"]
) -> Int64[Tensor, "outputs"]:
    """Which given row goes where, so that the squared distances sum to the least; all stay where that is as good.

    Lengths do not depend on the order, so that the sum of inner products decides.
    """
    from scipy.optimize import linear_sum_assignment  # which takes long to load, and other algorithms go without

    products = (wanted.double() @ given.double().T).cpu().numpy()
    _, order = linear_sum_assignment(products, maximize=True)
    stay = np.arange(len(products))
    if products[stay, stay].sum() >= products[stay, order].sum():
        order = stay
    return torch.from_numpy(order.astype(np.int64))


def nearest_to_most(networks: Float[Tensor, "clients parameters"], layers: Sequence[Layer]) -> int:
    """The place of the network from which, once they are matched, half of the others are least far away.

    As long as most of them are honest, one that is chosen is as near to some honest one as honest ones are to it.

    Args:
        networks: finite.
        layers: of all.
    """
    count = len(networks)
    distances = torch.zeros(count, count, dtype=torch.float64)
    for one in range(count):
        for other in range(one):
            matched = networks[other][matched_places(networks[one], networks[other], layers)]
            distances[one, other] = distances[other, one] = (matched - networks[one]).double().norm()
    return int(distances.sort(1).values[:, count // 2].argmin())
