"""Vertical federated learning: every party has other columns of the same examples, and one has the labels.

Hardy et al.: Private federated learning on vertically partitioned data. 2017, arXiv:1711.10677 (the setting).
Ceballos, Sharma, Mugica, Singh, Roman, Vepakomma, Raskar: SplitNN-driven vertical partitioning. 2020, arXiv:2008.04137
(networks: a bottom at each party, their outputs one behind the other, a top where the labels are).

The joint network is trained as if it lay in one place. The examples of all parties are taken to be aligned: finding out
which examples they share (private set intersection) is not modeled. The party with the labels is beside the others and
has no columns of its own; who wants it to have some counts one of the others for it, whose gradients then leak nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from fedsec.engine.local_training import LocalTraining, without_worker_momentum
from fedsec.errors import InputError
from fedsec.federation.algorithms.algorithm import Algorithm, Exchanged


@dataclass(frozen=True)
class Vertical(Algorithm):
    """Columns lie at different parties, labels at one: each sends what its bottom makes of a batch, and gets gradients.

    The parties are the scenario's clients: its model is the bottom of each, on its share of the columns (of images: of
    the width), and every party takes part in every step.

    Args:
        local: the steps of a round, in batches of all examples, and the optimizer of all parts.
        width: how many numbers a party sends of an example.
        top: widths of hidden layers of the network of whoever has the labels.

    Raises:
        InputError: numbers out of range.

    Reference: Ceballos et al. 2020, arXiv:2008.04137
    """

    local: LocalTraining = field(default_factory=lambda: LocalTraining(epochs=1, batch_size=32))
    width: int = 16
    top: Sequence[int] = ()

    exchanges: ClassVar[Exchanged] = "activations"
    labels: ClassVar[str] = "server"
    cuts_columns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        without_worker_momentum(self.local, "parties of a vertical federation send no updates")
        object.__setattr__(self, "top", tuple(self.top))
        if self.width < 1:
            raise InputError(f"width must be at least 1, got {self.width}")
        if min(self.top, default=1) < 1:
            raise InputError(f"top: layers must be at least 1 wide, got {list(self.top)}")
        if self.local.augmentation is not None:
            raise InputError("local: parties would have to change their columns alike; expected no augmentation")
        if self.local.clip_norm is not None:
            raise InputError(
                f"local: nobody has the whole gradient to clip; expected no clip_norm, got {self.local.clip_norm}"
            )
        if self.local.private is not None:
            raise InputError("local: no account of DP-SGD is known to hold for activations; expected none")
