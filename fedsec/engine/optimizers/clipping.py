"""Clipping of each step's gradient by its length."""

import torch
from jaxtyping import Float
from torch import Tensor


def clip_rows(gradients: Float[Tensor, "*rows parameters"], bound: float) -> None:
    """Cut what is longer than a bound to that length, in place, without waiting for the device.

    As PyTorch's `clip_grad_norm_`: g min(1, bound / (||g|| + 1e-6)).

    Args:
        gradients: one, or one a row.
        bound: positive.

    Reference: Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063
    """
    lengths = torch.linalg.vector_norm(gradients, dim=-1, keepdim=True)
    gradients.mul_((bound / (lengths + 1e-6)).clamp(max=1))
