"""FedPer: all layers are trained together, and the last ones never leave a client.

Arivazhagan, Aggarwal, Singh, Choudhary: Federated Learning with Personalization Layers. arXiv:1912.00818, 2019,
Algorithms 1 and 2. Where the paper leaves a choice, or we deviate:

- Its clients draw their first personal layers each for itself; here they begin with the initial model's.
- It has all clients take part; here a client that is not drawn keeps its layers until it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fedsec.errors import InputError
from fedsec.federation.algorithms.personal.layers import PersonalLayersAlgorithm, last_layers


@dataclass(frozen=True)
class FedPer(PersonalLayersAlgorithm):
    """Federated averaging of the first layers; each client keeps the last ones.

    Args:
        personal_layers: how many layers with weights stay with clients, from the last one; with 0 this is federated
            averaging.

    Raises:
        InputError: a negative number, or, with the model, one that leaves nothing to share.

    Reference: Arivazhagan et al. 2019, arXiv:1912.00818
    """

    personal_layers: int = 1

    private_examples: ClassVar[bool] = True
    replayable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.personal_layers < 0:
            raise InputError(f"personal_layers must not be negative, got {self.personal_layers}")

    def kept(self, module: nn.Module) -> Iterable[str]:
        return last_layers(module, self.personal_layers)
