"""Running scenarios: cells in parallel, files that survive a crash, reports.

Importing this package is cheap: PyTorch is loaded with the first name that needs it, so that the command line lists and
clears folders without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsec.runs.executor import Executor, InProcess
    from fedsec.runs.local_pool import LocalPool
    from fedsec.runs.remote.ray_pool import RayPool
    from fedsec.runs.result import RunResult
    from fedsec.runs.runner import run

__all__ = ["Executor", "InProcess", "LocalPool", "RayPool", "RunResult", "run"]

_HOMES = {
    "Executor": "fedsec.runs.executor",
    "InProcess": "fedsec.runs.executor",
    "LocalPool": "fedsec.runs.local_pool",
    "RayPool": "fedsec.runs.remote.ray_pool",
    "RunResult": "fedsec.runs.result",
    "run": "fedsec.runs.runner",
}

if not TYPE_CHECKING:  # a type checker is to know the names, not to take any name for one

    def __getattr__(name: str) -> Any:
        """Load a name when it is first used."""
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
