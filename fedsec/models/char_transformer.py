"""A small decoder-only transformer: tokens in, the next token at each place out."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.models.text import causal_mask, length_of, token_numbers


class CharTransformer(nn.Module):
    """A small GPT: embedded tokens and positions, blocks of causal attention and a network at each place.

    Layers are normalized before attention and before the network at each place (GPT-2), activations are GELU, nothing
    is dropped, and the last layer shares nothing with the embedding.

    Args:
        input_shape: (length,) of a text; positions are learned, so that longer ones do not fit.
        num_classes: number of different tokens.
        width: of an embedded token and of all that passes between blocks.
        layers: number of blocks.
        heads: of the attention; they divide the width.

    Reference: Vaswani et al., "Attention is all you need", NeurIPS 2017, arXiv:1706.03762; Radford et al., "Language
        models are unsupervised multitask learners", 2019.
    """

    takes_vectors = True
    tasks: ClassVar[tuple[str, ...]] = ("next_token",)

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, width: int = 64, layers: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        length = length_of("char_transformer", input_shape)
        if min(width, layers, heads) < 1 or width % heads:
            raise InputError(
                f"char_transformer: width, layers and heads must be at least 1, and heads divide the width; got "
                f"{width}, {layers} and {heads}"
            )
        self.num_tokens = num_classes
        self.token = nn.Embedding(num_classes, width)
        self.position = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads, length) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
        for embedding in (self.token, self.position):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, inputs: Float[Tensor, "batch length"]) -> Float[Tensor, "batch tokens length"]:
        """Logits of the next token at each place."""
        states = self.embedded(token_numbers(inputs, self.num_tokens))
        for block in self.blocks:
            states = block(states)
        logits: Tensor = self.head(self.norm(states))
        return logits.transpose(-1, -2)

    def embedded(self, tokens: Tensor) -> Float[Tensor, "batch length width"]:
        """What the first block gets, of sequences no longer than the model's."""
        states: Tensor = self.token(tokens) + self.position.weight[: tokens.shape[-1]]
        return states


class Block(nn.Module):
    """Causal attention and a network at each place, each added to what it was given.

    Args:
        width: of what passes through.
        heads: of the attention.
        length: of the longest sequence.
    """

    mask: Tensor

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)  # queries, keys and values
        self.projection = nn.Linear(width, width)
        self.network_norm = nn.LayerNorm(width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.register_buffer("mask", causal_mask(length), persistent=False)

    def forward(self, states: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        """The states of the next block."""
        states = states + self.projection(self._attend(self.attention(self.attention_norm(states))))
        outputs: Tensor = states + self.network(self.network_norm(states))
        return outputs

    def _attend(self, projected: Float[Tensor, "batch length three_widths"]) -> Float[Tensor, "batch length width"]:
        length = projected.shape[-2]
        queries, keys, values = (
            part.reshape(*part.shape[:-1], self.heads, -1).transpose(-2, -3) for part in projected.chunk(3, -1)
        )
        scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5 + self.mask[:length, :length]
        mixed: Tensor = torch.softmax(scores, -1) @ values
        return mixed.transpose(-2, -3).flatten(-2)
