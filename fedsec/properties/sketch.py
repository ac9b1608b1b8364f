"""Short sketches of long updates that keep their inner products on average: a count sketch.

Entry j of an update is added, with a sign, to one of k places, both drawn once for all. Then E <S u, S v> = <u, v>, and
the variance is at most (||u||^2 ||v||^2 + <u, v>^2) / k.

Reference: Charikar, Chen, Farach-Colton, Finding frequent items in data streams, ICALP 2002; Weinberger, Dasgupta,
Langford, Smola, Attenberg, Feature hashing for large scale multitask learning, ICML 2009, arXiv:0902.2206 (lemma 2).
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["Sketch"]


class Sketch:
    """A fixed random map of updates to few numbers; updates that are short enough stay as they are.

    Args:
        length: of an update.
        size: of a sketch.
        generator: of places and signs.
    """

    def __init__(self, length: int, size: int, generator: torch.Generator) -> None:
        self.size = min(length, size)
        self._exact = length <= size
        if not self._exact:
            self._places = torch.randint(size, (length,), generator=generator)
            self._signs = torch.randint(2, (length,), generator=generator, dtype=torch.int8) * 2 - 1

    def __call__(self, rows: Float[Tensor, "rows entries"]) -> Float64[Tensor, "rows size"]:
        """Sketches of some updates, on the CPU.

        Args:
            rows: updates of the given length.
        """
        wide = rows.detach().cpu().double()
        if self._exact:
            return wide.clone()
        return wide.new_zeros(len(wide), self.size).index_add_(1, self._places, wide * self._signs)
