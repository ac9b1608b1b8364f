"""The row space of a large matrix of small rank, from random combinations of its rows."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["row_space"]


def row_space(matrix: Float[Tensor, "rows columns"], rank: int, *, passes: int = 2) -> Float[Tensor, "rank columns"]:
    """Orthonormal rows that span those of a matrix, the longest direction first; exact where its rank is no larger.

    Args:
        matrix: on any device, in double precision for small singular values.
        rank: how many rows to give.
        passes: of subspace iteration, which sharpens the directions where the matrix has more of them.

    Reference: Halko, Martinsson, Tropp, Finding structure with randomness, SIAM Review 53(2), 2011, arXiv:0909.4061
    """
    generator = torch.Generator().manual_seed(0)
    combinations = torch.randn(rank, len(matrix), generator=generator, dtype=torch.double).to(matrix)
    basis = torch.linalg.qr((combinations @ matrix).T).Q
    for _ in range(passes):
        basis = torch.linalg.qr(matrix.T @ torch.linalg.qr(matrix @ basis).Q).Q
    right = torch.linalg.svd(matrix @ basis, full_matrices=False).Vh
    rows: Tensor = right @ basis.T
    return rows
