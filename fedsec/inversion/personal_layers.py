"""What a curious server holds of a client some layers of which never leave it.

The update has no part for these layers, and the model that the server holds is not the client's: the attacker needs
something in their place to compute what candidate images would have caused. Either what the federation began with,
which is all that a server has that follows the protocol (in a client's first round its layers still are these), or the
client's own as its round began, granted: an upper bound, by which one can tell the missing columns from the unknown
layers. Layers that are searched for together with the images are not tried.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.federation.updates import Federation

__all__ = ["OwnLayers", "SharedPart", "names_at_home"]

OwnLayers = Literal["initial", "known"]
"""What a server takes for a client's own layers: those that the federation began with, or the client's, granted."""


@dataclass(frozen=True, eq=False)
class SharedPart:
    """An update of the layers that are shared, and the model that it is taken to be of.

    Attributes:
        model: as the server takes the client to have begun with; to be left as it is.
        update: of the parameters that are sent, by name.
        unsent: names of those that the client trained along with them and kept.
    """

    model: nn.Module
    update: Mapping[str, Tensor]
    unsent: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, federation: Federation, row: Float[Tensor, "parameters"], client: int | None, own: OwnLayers
    ) -> "SharedPart":
        """Of what a server received.

        Args:
            federation: while its observers look.
            row: an update, or a sum of some.
            client: whose it is; None of a sum.
            own: what is taken for the client's own layers.
        """
        names, update = names_at_home(federation), federation.trainer.layout.views(row)
        if not names:
            return cls(federation.module, update)
        model = federation.module
        if own == "known" and client is not None:
            model = deepcopy(model)
            federation.trainer.layout.load(model, federation.starts([client])[0])
        shared = {name: values for name, values in update.items() if name not in names}
        together = not federation.algorithm.trains_in_turns
        return cls(model, shared, tuple(name for name in update if name in names) if together else ())


def names_at_home(federation: Federation) -> frozenset[str]:
    """The names of the parameters that never leave a client.

    Args:
        federation: of any algorithm.
    """
    home = federation.algorithm.at_home(federation.algorithm_state)
    if home is None:
        return frozenset()
    flags = torch.zeros_like(federation.parameters, dtype=torch.bool).index_fill(0, home, True)
    return frozenset(name for name, flag in federation.trainer.layout.views(flags).items() if bool(flag.any()))
