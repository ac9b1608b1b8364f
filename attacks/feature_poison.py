"""Feature poisoning: feature maps that belong to no example, or to another one, or are far too large.

Reference: He, Annavaram, Avestimehr, Group knowledge transfer: federated learning of large CNNs at the edge, NeurIPS
2020, arXiv:2007.14513, names the risk ("a client can maliciously send incorrect hidden feature maps", Broader Impact)
and leaves it open. The three forms are this project's.
"""

from dataclasses import replace
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import Knowledge, KnowledgePoisoning


class FeaturePoison(KnowledgePoisoning):
    """Byzantine clients of FedGKT send wrong feature maps; logits and labels stay as they are.

    noise: normal noise with each channel's own mean and deviation over the client's examples.
    shuffle: each example gets the features of another one, so that they belong to neither label nor logits; a client
        with a single example has nothing to shuffle.
    scale: the features times a factor.

    Args:
        mode: what is sent.
        scale: the factor of mode `scale`, and only there; finite, 10 if not given.

    Raises:
        InputError: the mode is unknown, or the factor is not finite or does not go with it.

    Cost:
        What honest training costs.

    Limits:
        `knowledge_screening` leaves clients out whose feature maps do not explain their logits, or are far larger than
        others'; not a minority of wrong maps among right ones.

    Reference: He et al., NeurIPS 2020, arXiv:2007.14513
    """

    def __init__(self, mode: Literal["noise", "shuffle", "scale"] = "noise", scale: float | None = None) -> None:
        if mode not in ("noise", "shuffle", "scale"):
            raise InputError(f"FeaturePoison: mode must be noise, shuffle or scale, not {mode!r}")
        if scale is not None and mode != "scale":
            raise InputError(f"FeaturePoison: scale goes with mode scale, not with mode {mode}")
        if scale is not None and not isfinite(scale):
            raise InputError(f"FeaturePoison: scale must be finite, not {scale}")
        self.mode, self.scale = mode, 10.0 if scale is None else scale

    def corrupt(self, knowledge: Knowledge, *, num_classes: int, generator: torch.Generator) -> Knowledge:
        features = knowledge.features
        if self.mode == "scale":
            return replace(knowledge, features=features * self.scale)
        if self.mode == "shuffle":
            return replace(knowledge, features=features[_others(len(features), generator).to(features.device)])
        # Half precision would lose the moments of many pixels.
        wide = features if features.dtype == torch.float64 else features.float()
        deviation, mean = torch.std_mean(wide, (0, 2, 3), correction=0, keepdim=True)
        noise = torch.randn(features.shape, generator=generator, device=generator.device).to(wide)
        return replace(knowledge, features=(mean + deviation * noise).to(features.dtype))


def _others(count: int, generator: torch.Generator) -> Tensor:
    """A permutation that leaves nothing where it is: one cycle through all examples in random order."""
    order = torch.randperm(count, generator=generator, device=generator.device)
    others = torch.empty_like(order)
    others[order] = order.roll(1)
    return others
