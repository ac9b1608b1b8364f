"""A step of a search as one CUDA graph: small networks are bound by kernel launches otherwise."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["captured"]

Step = Callable[[], tuple[Tensor, ...]]

_WARM_UP = 3


def captured(step: Step, device: torch.device) -> Step:
    """The step as a CUDA graph on a CUDA device, where it can be captured; elsewhere the step itself.

    Args:
        step: computes tensors from tensors that stay where they are, without looking at their values.
        device: on which it computes.

    Returns:
        A function with the same results; on a GPU its tensors are overwritten by the next call.
    """
    if device.type != "cuda":
        return step
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            step()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            results = step()
    except RuntimeError:
        # Something in the model waits for the host, such as a copy to the device; launched one by one it works.
        torch.cuda.synchronize(device)
        return step

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        return results

    return replay
