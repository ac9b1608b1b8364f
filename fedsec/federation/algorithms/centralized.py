"""Centralized training under the federation's interface: the upper bound."""

from dataclasses import dataclass
from typing import ClassVar

from fedsec.federation.algorithms.local_steps import LocalStepsAlgorithm


@dataclass(frozen=True)
class Centralized(LocalStepsAlgorithm):
    """All examples pooled at one place and trained on directly: the upper bound for any federation.

    Unlike in FedAvg nothing is averaged; a round is one stretch of the same local training.

    Reference: none (the usual baseline)
    """

    pooled: ClassVar[bool] = True
    private_examples: ClassVar[bool] = True
    private_clients: ClassVar[bool] = True
