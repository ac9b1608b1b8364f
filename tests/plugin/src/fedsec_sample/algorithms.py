"""An algorithm by inheritance."""

from dataclasses import dataclass

from fedsec.federation import FedProx


@dataclass(frozen=True)
class SlowProx(FedProx):
    """FedProx with an option that it does not need.

    Args:
        patience: how patient it is.
    """

    patience: float = 1.0
