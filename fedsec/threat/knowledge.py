"""The interface of attacks on knowledge transfer: what a Byzantine client of FedGKT sends instead of its knowledge.

FedGKT's clients send no update. For each of its examples a client sends the feature map of its extractor, its logits
and the label, and the server trains a large network on them.

Reference: He, Annavaram, Avestimehr, Group knowledge transfer: federated learning of large CNNs at the edge, NeurIPS
2020, arXiv:2007.14513.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.attack import ByzantineAttack
from fedsec.threat.sealed import isolated, unmodified

__all__ = ["Knowledge", "KnowledgePoisoning"]


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What one client of FedGKT sends: a row for each of its examples.

    Features and logits may hold anything, NaN included: a client sends what it likes.

    Attributes:
        features: the extractor's feature maps.
        logits: of the client's own classifier; as many columns as there are classes.
        labels: the examples' classes, below the number of columns.

    Raises:
        InputError: the parts do not go together, or there is no example.
    """

    features: Float[Tensor, "examples channels height width"]
    logits: Float[Tensor, "examples classes"]
    labels: Int64[Tensor, "examples"]

    def __post_init__(self) -> None:
        if self.features.ndim != 4 or 0 in self.features.shape or not self.features.is_floating_point():
            raise InputError(
                "Knowledge: features must be floating-point feature maps [examples, channels, height, width], not "
                f"{self.features.dtype} of shape {tuple(self.features.shape)}"
            )
        if self.logits.ndim != 2 or self.logits.shape[1] < 2 or not self.logits.is_floating_point():
            raise InputError(
                f"Knowledge: logits must be floating-point numbers [examples, classes] of at least two classes, not "
                f"{self.logits.dtype} of shape {tuple(self.logits.shape)}"
            )
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64:
            raise InputError(
                f"Knowledge: labels must be a vector of int64, not {self.labels.dtype} of shape "
                f"{tuple(self.labels.shape)}"
            )
        counts = len(self.features), len(self.logits), len(self.labels)
        if len(set(counts)) != 1:
            raise InputError(f"Knowledge: {counts[0]} features, {counts[1]} logits and {counts[2]} labels do not match")
        if not self.features.device == self.logits.device == self.labels.device:
            raise InputError(
                f"Knowledge: features on {self.features.device}, logits on {self.logits.device} and labels on "
                f"{self.labels.device} must lie on one device"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.num_classes:
            raise InputError(f"Knowledge: labels must lie in [0, {self.num_classes}), but reach from {low} to {high}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Columns of the logits."""
        return self.logits.shape[1]

    def take(self, rows: Tensor) -> "Knowledge":
        """The examples with these numbers, or where a mask is true."""
        return Knowledge(self.features[rows], self.logits[rows], self.labels[rows])


class KnowledgePoisoning(ByzantineAttack):
    """Replaces what a Byzantine client sends; a subclass fills in `corrupt`."""

    role: ClassVar[str] = "knowledge"
    """What its kind of attack acts on, where clients exchange knowledge."""

    @final
    def distort(self, knowledge: Knowledge, *, num_classes: int, generator: torch.Generator) -> Knowledge:
        """What the client sends instead of its knowledge.

        Args:
            knowledge: what it would have sent honestly; left unchanged.
            num_classes: how many classes there are.
            generator: the only source of randomness.

        Returns:
            As many examples, of the same shapes, dtypes and device, with labels in [0, num_classes). Features and
            logits may hold anything, NaN included.

        Raises:
            InputError: the arguments, or what the subclass made of them, break this contract.
        """
        name = type(self).__name__
        if knowledge.num_classes != num_classes:
            raise InputError(f"{name}: logits of {knowledge.num_classes} classes, but num_classes is {num_classes}")
        parts = {"features": knowledge.features, "logits": knowledge.logits, "labels": knowledge.labels}
        parts = {part: isolated(tensor) for part, tensor in parts.items()}
        own = Knowledge(**parts)
        with unmodified(f"{name}.corrupt", **parts):
            sent = self.corrupt(own, num_classes=num_classes, generator=generator)
        for part, original in parts.items():
            new: Tensor = getattr(sent, part)
            if (new.shape, new.dtype, new.device) != (original.shape, original.dtype, original.device):
                raise InputError(
                    f"{name}.corrupt: {part} must keep shape {tuple(original.shape)}, {original.dtype} and "
                    f"{original.device}, but are {tuple(new.shape)}, {new.dtype} and {new.device}"
                )
        return sent

    @abstractmethod
    def corrupt(self, knowledge: Knowledge, *, num_classes: int, generator: torch.Generator) -> Knowledge:
        """What to send; see `distort`, which checks both sides of the contract."""
