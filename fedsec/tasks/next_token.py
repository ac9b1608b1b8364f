"""Next token: at every place of a sequence, which token comes next, learned with cross-entropy."""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fedsec.data.text.characters import PADDING
from fedsec.errors import InputError
from fedsec.tasks.task import Task

MEASURED_AT_ONCE = 200
"""Sequences whose logits are turned into losses at a time."""
_LARGEST_LOSS = 700.0
"""Whose exponential is still a number."""


@dataclass(frozen=True)
class NextToken(Task):
    """At every place of a sequence, which token comes next.

    Inputs are the numbers of tokens, [examples, length], stored in float32 as vectors are (exact up to 16,777,216) and
    normalized by nothing; targets are the tokens that follow, int64 of the same shape; outputs are logits [examples,
    tokens, length]. Token 0 is padding. An example's loss is the mean cross-entropy over its places that count, so that
    examples of unequal length weigh the same; measured are means over all places that count, wherever they stand.

    Args:
        num_classes: different tokens, padding included; None where the model's own number of logits counts.

    Raises:
        InputError: fewer than two tokens.
    """

    num_classes: int | None = None

    name: ClassVar[str] = "next_token"
    target_dtype: ClassVar[torch.dtype] = torch.int64
    output_noun: ClassVar[str] = "logits"
    output_axes: ClassVar[int] = 2
    takes_tokens: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "loss", "perplexity")

    def __post_init__(self) -> None:
        if self.num_classes is not None and self.num_classes < 2:
            raise InputError(f"next_token: at least two tokens are needed, got {self.num_classes}")

    @classmethod
    def of_data(cls, num_classes: int) -> Self:
        return cls(num_classes)

    @property
    def outputs(self) -> int | None:
        return self.num_classes

    def losses(
        self, outputs: Float[Tensor, "batch tokens length"], targets: Int64[Tensor, "batch length"]
    ) -> Float[Tensor, "batch"]:
        """Mean cross-entropy of each sequence, over its places that count."""
        counted = (targets != PADDING).to(outputs.dtype)
        return (_cross_entropies(outputs, targets) * counted).sum(-1) / counted.sum(-1).clamp(min=1)

    def measure(
        self, outputs: Float[Tensor, "examples tokens length"], targets: Int64[Tensor, "examples length"]
    ) -> dict[str, float]:
        """The share of places with the right token, the mean cross-entropy, and e to the power of it."""
        total, hits, places = 0.0, 0, 0
        for begin in range(0, len(targets), MEASURED_AT_ONCE):
            logits, wanted = (part[begin : begin + MEASURED_AT_ONCE] for part in (outputs, targets))
            counted: Bool[Tensor, "part length"] = wanted != PADDING
            total += _cross_entropies(logits, wanted)[counted].double().sum().item()
            hits += int((logits.argmax(1) == wanted)[counted].sum())
            places += int(counted.sum())
        loss = total / places if places else math.nan
        return {
            "accuracy": hits / places if places else math.nan,
            "loss": loss,
            "perplexity": math.inf if loss > _LARGEST_LOSS else math.exp(loss),
        }

    def constant_outputs(self, targets: Int64[Tensor, "examples length"]) -> Float[Tensor, "examples tokens length"]:
        """The tokens' shares in the test set itself, at every place: the best answer that looks at nothing."""
        counts = targets[targets != PADDING].bincount(minlength=self.num_classes or 0).double()
        return (counts / counts.sum()).log()[None, :, None].expand(len(targets), -1, targets.shape[1])

    def check_targets(self, targets: Int64[Tensor, "examples length"]) -> None:
        """Refuse what are no sequences of tokens.

        Raises:
            InputError: another dtype or shape, or a token that does not exist.
        """
        super().check_targets(targets)
        if targets.ndim != 2:
            raise InputError(f"next_token: expected targets of shape [examples, length], got {tuple(targets.shape)}")
        low, high = (int(targets.min()), int(targets.max())) if targets.numel() else (0, 0)
        if low < 0 or (self.num_classes is not None and high >= self.num_classes):
            expected = "expected 0 or more" if self.num_classes is None else f"expected 0..{self.num_classes - 1}"
            raise InputError(f"next_token: targets run from {low} to {high}; {expected}")


def _cross_entropies(outputs: Tensor, targets: Tensor) -> Float[Tensor, "batch length"]:
    """Of each place, whether it counts or not; runs under `vmap`."""
    return -F.log_softmax(outputs, -2).gather(-2, targets.unsqueeze(-2)).squeeze(-2)
