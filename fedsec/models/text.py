"""What networks for texts share: how numbers of tokens reach a layer, and what such a network may be built for."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.errors import InputError


def token_numbers(inputs: Float[Tensor, "batch length"], num_tokens: int) -> Int64[Tensor, "batch length"]:
    """Inputs, which are stored in float32 as vectors are, as numbers of tokens.

    Datasets check their tokens. What lies beyond them comes from trials with batches that are no texts, and is taken
    for the nearest token.
    """
    return inputs.long().clamp(0, num_tokens - 1)


def length_of(name: str, input_shape: tuple[int, ...]) -> int:
    """The length of a sequence.

    Raises:
        InputError: inputs are no sequences.
    """
    if len(input_shape) != 1:
        raise InputError(f"{name} takes texts, (length,) tokens each, got inputs of shape {tuple(input_shape)}")
    return input_shape[0]


def causal_mask(length: int) -> Tensor:
    """Minus infinity where a place would look at a later one, [length, length]."""
    return torch.full((length, length), -torch.inf).triu(1)
