"""No federation: each client trains alone. What every personal algorithm should be better than."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fedsec.federation.algorithms.personal.layers import PersonalLayersAlgorithm


@dataclass(frozen=True)
class LocalOnly(PersonalLayersAlgorithm):
    """Each client goes on with a model of its own in the rounds that it is drawn for, and sends nothing.

    Attacks on updates change nothing here, and neither do rules; attacks on data harm the attackers alone.
    """

    local_statistics: ClassVar[bool] = True

    def kept(self, module: nn.Module) -> Iterable[str]:
        return [name for name, parameter in module.named_parameters() if parameter.requires_grad]
