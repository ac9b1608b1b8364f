"""Numbers for each layer of a model whose parameters are one vector, or of many in the rows of a matrix."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class LayerSpans:
    """Where layers lie in a vector of parameters; each parameter of a network is a layer of its own.

    Args:
        sizes: how many parameters each has, in their order.
        device: of the vectors.
    """

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self.sizes, self.total = list(sizes), sum(sizes)
        self._counts = torch.tensor(self.sizes, device=device)

    def norms(self, vectors: Float[Tensor, "*rows parameters"]) -> Float[Tensor, "*rows layers"]:
        """The length of each layer's part."""
        parts = torch.split(vectors, self.sizes, dim=-1)
        return torch.stack([torch.linalg.vector_norm(part, dim=-1) for part in parts], dim=-1)

    def spread(self, values: Float[Tensor, "*rows layers"]) -> Float[Tensor, "*rows parameters"]:
        """Each layer's value for every parameter of it."""
        return values.repeat_interleave(self._counts, dim=-1, output_size=self.total)
