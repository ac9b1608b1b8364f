"""Kernels of this process: none while a package is built in the background, then the loaded one."""

import atexit
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

import fedsec
from fedsec.defense.kernels.package import RowFunction, build, load, packages_folder
from fedsec.defense.kernels.specification import MiddleMeanKernel

__all__ = ["CompiledKernel", "compiled_middle_mean", "prepare"]

_log = logging.getLogger(__name__)

MOST_CLIENTS = 64
"""More rows are not compiled: that takes minutes, and the loop no longer keeps its values in registers."""


def prepare(clients: int, trim: int, dtype: torch.dtype = torch.float32) -> None:
    """Build the kernel of `compiled_middle_mean` now, unless it is in the cache, instead of in the background.

    Args:
        clients: how many rows there are; of a median or trimmed mean behind a pre-aggregator, those that it sees.
        trim: how many values to drop at each end; of a median `(clients - 1) // 2`.
        dtype: of the rows.

    Raises:
        OSError: the cache cannot be written.
        Exception: whatever PyTorch raises where it cannot compile, such as without a C++ compiler.
    """
    build(MiddleMeanKernel(clients, trim, dtype), packages_folder())


def compiled_middle_mean(chunk: Tensor, trim: int) -> Tensor | None:
    """`middle_mean` by a compiled kernel, the same to the last bit; None while there is no kernel for these rows.

    The first call for a number of rows starts a process that builds the kernel, unless the user's cache holds it. That
    process ends with this one. Where it fails, the log says why, once, and there is no kernel.

    On a GPU the first call compiles, by `torch.compile`, and there always is one.

    Args:
        chunk: [clients, columns] finite values.
        trim: how many values to drop at each end, `0 <= 2 * trim < clients`.
    """
    clients, columns = chunk.shape
    kernel = MiddleMeanKernel(clients, trim, chunk.dtype)
    if chunk.device.type != "cpu":
        return fused(kernel)(chunk)
    if clients > MOST_CLIENTS or (columns > 1 and chunk.stride(1) != 1):
        return None
    return compiled_kernel(kernel, packages_folder())(chunk)


class CompiledKernel:
    """One kernel: its loaded package, or the process that builds it.

    Args:
        kernel: what to compute.
        folder: where packages lie.
    """

    def __init__(self, kernel: MiddleMeanKernel, folder: Path) -> None:
        self._kernel, self._folder = kernel, folder
        self._function: RowFunction | None = None
        self._builder: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._failed = False
        self._lock = threading.Lock()

    def __call__(self, chunk: Tensor) -> Tensor | None:
        """What the kernel makes of the rows of `chunk`; None while there is none."""
        function = self._function
        # One thread looks for it while the others go on without.
        if function is None and not self._failed and self._lock.acquire(blocking=False):
            try:
                function = self._function = self._look()
            finally:
                self._lock.release()
        return None if function is None else function(chunk.detach().unbind(0))

    def close(self) -> None:
        """End the process that builds, if there is one."""
        if self._builder is not None and self._builder.stdin is not None:
            self._builder.stdin.close()  # which it takes as its end, and its compiler's
            self._builder.wait()
        if self._errors is not None:
            self._errors.close()

    def _look(self) -> RowFunction | None:
        ended = None if self._builder is None else self._builder.poll()
        if self._builder is not None and ended is None:
            return None
        function = load(self._kernel, self._folder)
        if function is None and self._builder is None:
            self._start()
        elif function is None:
            self._failed = True
            _log.warning("no compiled kernel of %s: %s", self._kernel.name, self._last_words())
        return function

    def _start(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the kernel)
        paths = [str(Path(fedsec.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1"}
        numbers = str(self._kernel.clients), str(self._kernel.trim), self._kernel.dtype_name
        self._builder = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedsec.defense.kernels.builder", *numbers, str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,
        )
        atexit.register(self.close)

    def _last_words(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the process that builds it ended"


@lru_cache(maxsize=32)
def compiled_kernel(kernel: MiddleMeanKernel, folder: Path) -> CompiledKernel:
    """The one of this process."""
    return CompiledKernel(kernel, folder)


@lru_cache(maxsize=32)
def fused(kernel: MiddleMeanKernel) -> Callable[[Tensor], Tensor]:
    """The kernel by `torch.compile`, for other devices than the CPU."""

    module = kernel.module()

    class Fused(torch.nn.Module):
        def forward(self, chunk: Tensor) -> Tensor:
            return module.forward(*[chunk[client] for client in range(kernel.clients)])

    # Traced first, because Dynamo's cache and its limit on recompilations belong to a code object: a traced module has
    # its own, while all instances of `forward` would share one.
    compiled: Callable[[Tensor], Tensor] = torch.compile(torch.fx.symbolic_trace(Fused()), dynamic=True)
    return compiled
