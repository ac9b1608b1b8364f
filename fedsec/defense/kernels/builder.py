"""The process that builds a kernel beside one that needs it, and ends with it: `CLIENTS TRIM DTYPE FOLDER`.

Its standard input is a pipe that nobody writes to. Once the other end is closed, by whatever death of its owner, this
process ends, and the compiler that it has started.
"""

import os
import signal
import sys
import threading
from pathlib import Path

import torch

from fedsec.defense.kernels.package import build
from fedsec.defense.kernels.specification import MiddleMeanKernel


def end_with_owner() -> None:
    """Wait for the end of standard input; then end this process's group, which is its own."""
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    os.nice(10)  # the rounds go first
    threading.Thread(target=end_with_owner, daemon=True).start()
    clients, trim, dtype, folder = sys.argv[1:]
    build(MiddleMeanKernel(int(clients), int(trim), getattr(torch, dtype)), Path(folder))
