"""Whether a network is one that the algorithm can federate: what it says when it begins, before the run."""

from typing import TYPE_CHECKING

from fedsec.errors import InputError
from fedsec.plugins.wording import Problem

if TYPE_CHECKING:
    from torch import nn

    from fedsec.federation.algorithms.algorithm import Algorithm

_MOST_WEIGHTS = 10**8


def misfits(module: "nn.Module", algorithm: "Algorithm") -> list[Problem]:
    """What an algorithm says against a network.

    Args:
        module: the network, which may be without memory for its weights; the call gives it some.
        algorithm: what shall train it.

    Returns:
        (key path, message) of the first complaint. Networks of more than a hundred million weights are left to the run.
    """
    import torch

    from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
    from fedsec.federation.split.conditions import check_cuttable

    if algorithm.exchanges == "activations":
        try:
            check_cuttable(module, algorithm)
        except InputError as error:
            return [(("cut",), str(error))]
    if not isinstance(algorithm, UpdateAlgorithm) or type(algorithm).begin is UpdateAlgorithm.begin:
        return []  # it does not look at the network
    size = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    if size > _MOST_WEIGHTS:
        return []
    try:
        algorithm.begin(module.to_empty(device="cpu"), torch.zeros(size), 1)
    except InputError as error:
        option, colon, rest = str(error).partition(": ")
        return [((option,), rest) if colon and hasattr(algorithm, option) else (("algorithm",), str(error))]
    return []
