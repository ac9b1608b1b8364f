"""How numbers are computed: in which precision, laid out how in memory, launched one by one or as CUDA graphs.

What is trained stays the same in float32; these settings trade digits for speed on GPUs that have tensor cores.
"""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.arithmetic import arithmetic
from fedsec.errors import InputError

Precision = Literal["fp32", "tf32", "bf16"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]


@dataclass(frozen=True)
class Compute:
    """What a scenario's `engine` section says about arithmetic.

    Args:
        precision: `fp32`, float32 with all its digits; `tf32`, matrix products and convolutions that round their inputs
            to 10 bits of mantissa (on GPUs that can; fp32 elsewhere); `bf16`, forward passes under autocast to bfloat16
            with parameters, gradients, optimizers, running statistics and losses in float32.
        memory_format: of images and convolution weights where models are not stacked: `contiguous` (channels, then
            pixels), `channels_last`, or `auto`: channels_last where tensor cores want it (CUDA, tf32 or bf16, a model
            with 2-d convolutions). On a CPU it gains nothing on small networks and 2 to 7% on ResNets at batch 4 to 10.
        cuda_graphs: whether the loop engine replays local steps as CUDA graphs on a CUDA GPU.

    Raises:
        InputError: an unknown precision or memory format.
    """

    precision: Precision = "fp32"
    memory_format: MemoryFormat = "auto"
    cuda_graphs: bool = True

    def __post_init__(self) -> None:
        for name, known in (("precision", Precision), ("memory_format", MemoryFormat)):
            if getattr(self, name) not in get_args(known):
                raise InputError(
                    f"engine: {name} must be one of {', '.join(get_args(known))}, got {getattr(self, name)!r}"
                )

    @property
    def channels_last(self) -> bool:
        """Whether images and convolution weights are laid out so; `auto` does not count before `resolved`."""
        return self.memory_format == "channels_last"

    def resolved(self, module: nn.Module, images: Float[Tensor, "batch channels height width"]) -> "Compute":
        """The same with `auto` decided for a model.

        Args:
            module: the model; not changed.
            images: a few inputs, to see whether the model can take them in that format (one that calls `view` on its
                images cannot); not looked at where the choice is contiguous.

        Raises:
            InputError: channels_last was asked for, and the model cannot take it.
        """
        if self.memory_format == "contiguous":
            return self
        convolutions = any(isinstance(layer, nn.Conv2d) for layer in module.modules())
        wanted = self.channels_last or (images.device.type == "cuda" and self.precision != "fp32" and convolutions)
        problem = _why_not_channels_last(module, images) if wanted else ""
        if problem and self.channels_last:
            raise InputError(f"engine: the model cannot take images in channels_last ({problem}); expected contiguous")
        return replace(self, memory_format="channels_last" if wanted and not problem else "contiguous")

    def arithmetic(self, device: torch.device) -> AbstractContextManager[None]:
        """Allow TF32 or forbid it while this lasts. The switches belong to the process and are put back afterwards."""
        return arithmetic(device, tf32=self.precision == "tf32")

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """For forward passes, on the thread that does them."""
        if self.precision != "bf16":
            return nullcontext()
        # Each weight is cast once a pass anyway, and cached casts would outlive a CUDA graph's capture.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)

    def inputs(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The images as models take them."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def note(self, device: torch.device) -> str:
        """What the device does not do as asked, in words; empty if nothing."""
        if self.precision == "tf32" and device.type != "cuda":
            return f"tf32 computes in fp32 on a {device.type.upper()}"
        return ""


@torch.no_grad()
def _why_not_channels_last(module: nn.Module, images: Tensor) -> str:
    """Empty if a model can take images in that format, else the reason it cannot."""
    module = copy.deepcopy(module).to(images.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        module.eval()(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
