"""Packages of compiled kernels on disk: whole and unchanged, or not used.

A package's name ends in the digest of its content. Building goes on under a lock, so that of several processes that
want the same kernel one builds it; the file appears in one step.
"""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fedsec.defense.kernels.specification import MiddleMeanKernel

__all__ = ["RowFunction", "build", "load", "packages_folder"]

RowFunction = Callable[[Sequence[Tensor]], Tensor]
"""What a kernel makes of rows, each contiguous and all of one length."""

_log = logging.getLogger(__name__)

_RUNNERS = 4
"""So many threads may run a kernel at once."""


def packages_folder() -> Path:
    """The folder for kernels in the user's cache; it need not exist."""
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("fedsec", appauthor=False)) / "kernels"


def load(kernel: MiddleMeanKernel, folder: Path) -> RowFunction | None:
    """The kernel from its package; None where there is none. A damaged one is removed."""
    for path in sorted(folder.glob(f"{kernel.name}-*.pt2")):
        try:
            if _content_digest(path) != path.stem.rpartition("-")[2]:
                raise RuntimeError("its content is not what was written")
            return _loaded(path)
        except FileNotFoundError:  # another process has found it damaged
            continue
        except (OSError, RuntimeError) as error:
            _log.warning("compiled kernel %s is damaged and will be built anew: %s", path, error)
            path.unlink(missing_ok=True)
    return None


def build(kernel: MiddleMeanKernel, folder: Path) -> None:
    """Compile a kernel into a package in `folder`, unless it is there; takes some twenty seconds and a C++ compiler.

    Raises:
        OSError: the folder cannot be written.
        Exception: whatever PyTorch raises where it cannot compile.
    """
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{kernel.name}.lock"):
        if load(kernel, folder) is not None:
            return
        columns = torch.export.Dim("columns", min=2)
        rows = tuple(torch.zeros(kernel.clients, 4096, dtype=kernel.dtype).unbind(0))
        program = torch.export.export(kernel.module(), rows, dynamic_shapes={"rows": tuple({0: columns} for _ in rows)})
        # Under the lock nobody else builds it: what lies here was left by a process that was killed.
        for leftover in folder.glob(f".{kernel.name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{kernel.name}-") as partial:
            path = Path(partial) / "kernel.pt2"
            # Chunks of columns go to threads of our own.
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs={"cpp.threads": 1}
            )
            path.replace(folder / f"{kernel.name}-{_content_digest(path)}.pt2")


def _content_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _loaded(path: Path) -> RowFunction:
    try:
        # Without PyTorch's compiler, whose import takes seconds.
        loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, _RUNNERS, -1)
        boxed_run = loader.boxed_run
    except (AttributeError, TypeError):  # another version of PyTorch
        model = torch._inductor.aoti_load_package(str(path))
        return lambda rows: model(*rows)
    return lambda rows: boxed_run(list(rows))[0]
