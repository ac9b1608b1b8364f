"""The recurrent network of LEAF's Shakespeare: characters in, the next character at each place out."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.models.text import length_of, token_numbers


class CharLSTM(nn.Module):
    """Layers of LSTM cells on embedded characters, a linear layer at each place.

    LEAF's network is `{embedding: 8, hidden: 256}`, which the papers that federate Shakespeare share (two layers). It
    reads 80 characters and tells the one that follows; here every place tells the next one, as Reddi et al. train it.
    The cells are written in plain operations: PyTorch's fused LSTM runs no clients side by side (`vmap`).

    Args:
        input_shape: (length,) of a text.
        num_classes: number of different tokens.
        embedding: width of an embedded token.
        hidden: width of a layer's state.
        layers: of cells.

    Reference: McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS
        2017, arXiv:1602.05629; Caldas et al., "LEAF", 2018, arXiv:1812.01097.
    """

    takes_vectors = True
    tasks: ClassVar[tuple[str, ...]] = ("next_token",)

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        embedding: int = 8,
        hidden: int = 256,
        layers: int = 2,
    ) -> None:
        super().__init__()
        length_of("char_lstm", input_shape)
        if min(embedding, hidden, layers) < 1:
            raise InputError(
                f"char_lstm: embedding, hidden and layers must be at least 1, got {embedding}, {hidden} and {layers}"
            )
        self.num_tokens = num_classes
        self.embedding = nn.Embedding(num_classes, embedding)
        widths = [embedding, *[hidden] * (layers - 1)]
        self.cells = nn.ModuleList(LSTMLayer(width, hidden) for width in widths)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, inputs: Float[Tensor, "batch length"]) -> Float[Tensor, "batch tokens length"]:
        """Logits of the next token at each place."""
        states = self.embedding(token_numbers(inputs, self.num_tokens))
        for layer in self.cells:
            states = layer(states)
        logits: Tensor = self.head(states)
        return logits.transpose(-1, -2)


class LSTMLayer(nn.Module):
    """One layer of LSTM cells over a sequence: PyTorch's formulas, gates and initial weights, in plain operations.

    Args:
        inputs: width of what it reads.
        hidden: width of its state.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = nn.Linear(inputs, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden)
        bound = hidden**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, sequence: Float[Tensor, "batch length inputs"]) -> Float[Tensor, "batch length hidden"]:
        """The state after each place, from zero."""
        given = self.input(sequence)  # of all places at once
        state = cell = given.new_zeros(*given.shape[:-2], self.hidden)
        states = []
        for place in range(given.shape[-2]):
            gates = given[..., place, :] + self.recurrent(state)
            entry, forget, candidate, out = gates.chunk(4, -1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(candidate)
            state = torch.sigmoid(out) * torch.tanh(cell)
            states.append(state)
        return torch.stack(states, -2)
