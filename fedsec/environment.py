"""What a number needs beside its configuration to be traced: versions, device, threads."""

import platform
from importlib.metadata import version
from typing import Any

import torch

from fedsec import __version__


def environment(device: str, threads: int) -> dict[str, Any]:
    """Versions and hardware of a computation, as plain data.

    Args:
        device: `cpu` or `cuda`.
        threads: CPU threads inside it.
    """
    cuda = device.startswith("cuda")
    return {
        "fedsec": __version__,
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "device": torch.cuda.get_device_name() if cuda else f"cpu ({platform.machine()})",
        "threads": threads,
    }
