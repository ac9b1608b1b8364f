"""The attacker's own copy of a broadcast model: the same function, in a form that can be differentiated twice."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from fedsec.errors import InputError

__all__ = ["DROPOUT_REMARK", "WRAPPERS", "private_model", "unwrapped"]

DROPOUT_REMARK = "dropout was on in the model; its masks are not known, and the attacker computes without it"

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before the names of parameters."""

_LOW_PRECISION = (torch.float16, torch.bfloat16)


def private_model(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """A copy that computes what the broadcast model computes, and what a reader should know of it.

    Wrappers (torch.compile, DataParallel) are taken off, activations in place are not, parameters of low precision are
    float32, and only normalization layers keep their mode: all else is in eval mode, since the masks of a client's
    dropout are not known.

    Args:
        model: as broadcast; left as it is.
    """
    remarks = []
    bare = unwrapped(model)
    if any(_drops(module) for module in bare.modules()):
        remarks.append(DROPOUT_REMARK)
    if any(isinstance(module, torch.jit.ScriptModule) for module in bare.modules()):
        raise InputError(
            "Observation: a scripted or traced module cannot be attacked, since its layers cannot be looked into; "
            "expected the nn.Module that it was made from"
        )
    copied = deepcopy(bare).requires_grad_(False)
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if unwrapped(child) is not child:
                setattr(parent, name, unwrapped(child))
    for module in copied.modules():
        module._compiled_call_impl = None
        if getattr(module, "inplace", None) is True:
            module.__dict__["inplace"] = False
        if not isinstance(module, _NormBase):
            module.training = False
    tensors = [*copied.parameters(), *copied.buffers()]
    if any(tensor.dtype in _LOW_PRECISION for tensor in tensors):
        double = any(tensor.dtype == torch.float64 for tensor in tensors)
        copied.to(torch.float64 if double else torch.float32)
    return copied, remarks


def unwrapped(model: nn.Module) -> nn.Module:
    """Without what torch.compile and DataParallel put around a module."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(original := model.__dict__.get("_modules", {}).get("_orig_mod"), nn.Module):
            model = original
        else:
            return model


def _drops(module: nn.Module) -> bool:
    """Whether a module that PyTorch provides draws masks in its present mode."""
    if not module.training:
        return False
    share = module.p if isinstance(module, _DropoutNd) else getattr(module, "dropout", 0.0)
    return isinstance(share, float) and share > 0
