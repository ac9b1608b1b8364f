"""PyTorch's fused kernels that cannot be differentiated twice, switched off while a gradient is matched.

Scaled dot-product attention has a plain (math) form beside its fused ones, the transformer layers' fast path falls back
to it, and recurrent layers have forms of plain operations behind MKL-DNN's and cuDNN's.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["differentiable_twice"]


@contextmanager
def differentiable_twice(model: nn.Module) -> Iterator[None]:
    """Inside the block, layers of the model compute in a way that has second derivatives; afterwards as before.

    Args:
        model: under attack. Attention that it calls as a function is covered too.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            for backend in (torch.backends.mkldnn, torch.backends.cudnn):
                before, *_ = backend.set_flags(_enabled=False, _fp32_precision=None)
                stack.callback(backend.set_flags, _enabled=before, _fp32_precision=None)
        yield
