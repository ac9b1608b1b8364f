"""The interface of attacks that read texts off an update."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Int64
from torch import Tensor

from fedsec.arithmetic import arithmetic
from fedsec.errors import InputError
from fedsec.threat.sealed import Sealed, unmodified
from fedsec.threat.texts.text_observation import TextObservation


@dataclass(frozen=True, eq=False)
class TextReconstruction:
    """What was read off one observation.

    Attributes:
        token_set: every token that the batch has, ascending.
        tokens: the texts, in an order of the attack's own; None if it tells which tokens there are and no order.
        notes: what a reader should know, one line each.
    """

    token_set: tuple[int, ...]
    tokens: Int64[Tensor, "batch length"] | None = None
    notes: tuple[str, ...] = ()


class TextInversion(Sealed, ABC):
    """Reads texts off what a server sees; a subclass fills in `recover`."""

    role: ClassVar[str] = "updates"
    """What its kind of inversion looks at, where clients exchange updates."""
    tasks: ClassVar[tuple[str, ...]] = ("next_token",)
    """The tasks whose examples it reconstructs."""

    @final
    def reconstruct(
        self, observation: TextObservation, *, generator: torch.Generator | None = None
    ) -> TextReconstruction:
        """What can be read off one observation.

        Args:
            observation: all that the attacker knows; left unchanged.
            generator: the only source of randomness, on the CPU; one seeded with 0 by default.

        Raises:
            InputError: the attack cannot be used on this observation, or broke this contract.
        """
        name = type(self).__name__
        generator = generator or torch.Generator().manual_seed(0)
        if generator.device.type != "cpu":
            raise InputError(f"{name}: generator must be on the CPU, not on {generator.device}")
        watched = {f"update[{key!r}]": row for key, row in observation.update.items()}
        exact = arithmetic(next(iter(observation.update.values())).device)
        with exact, unmodified(f"{name}.recover", **watched):
            result = self.recover(observation, generator=generator)
        tokens, expected = result.tokens, (observation.batch_size, observation.length)
        if tokens is not None and (tuple(tokens.shape) != expected or tokens.dtype != torch.int64):
            raise InputError(f"{name}.recover: tokens must be int64 of shape {expected}, got {tuple(tokens.shape)}")
        if any(not 0 <= token < observation.num_tokens for token in (*result.token_set, *_bounds(tokens))):
            raise InputError(f"{name}.recover: tokens must lie in [0, {observation.num_tokens})")
        return result

    @abstractmethod
    def recover(self, observation: TextObservation, *, generator: torch.Generator) -> TextReconstruction:
        """What was read; see `reconstruct`, which checks both sides of the contract."""


def _bounds(tokens: Tensor | None) -> tuple[int, ...]:
    return () if tokens is None else (int(tokens.min()), int(tokens.max()))
