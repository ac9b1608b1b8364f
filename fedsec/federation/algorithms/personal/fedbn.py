"""FedBN: normalization layers never leave a client, neither their scale and shift nor their running statistics.

Li, Jiang, Zhang, Kamp, Dou: FedBN: Federated Learning on Non-IID Features via Local Batch Normalization. ICLR 2021,
arXiv:2102.07623. Where we deviate:

- The paper has batch normalization; here scale and shift of group and layer normalization stay at home as well, which
  have no running statistics.
- It tests clients that it trained; a client that never took part has the initial model's normalization.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fedsec.errors import InputError
from fedsec.federation.algorithms.personal.layers import PersonalLayersAlgorithm

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
"""Layers that normalize."""


@dataclass(frozen=True)
class FedBN(PersonalLayersAlgorithm):
    """Federated averaging of all but the normalization layers. It goes with `bn: local`.

    Raises:
        InputError: with the model: it has no normalization with scale and shift, or nothing else.

    Reference: Li et al. 2021, arXiv:2102.07623
    """

    local_statistics: ClassVar[bool] = True
    replayable: ClassVar[bool] = True

    def kept(self, module: nn.Module) -> Iterable[str]:
        layers = [name for name, layer in module.named_modules() if isinstance(layer, NORMS)]
        names = {f"{layer}.{name}" if layer else name for layer in layers for name in ("weight", "bias")}
        trainable = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        normalizing = names & trainable
        if not normalizing or normalizing == trainable:
            what = (
                "no normalization layer with scale and shift" if not normalizing else "nothing but normalization layers"
            )
            raise InputError(f"FedBN keeps normalization at home, and the model has {what}; expected another model")
        return normalizing
