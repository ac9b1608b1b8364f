"""Running scenarios: cells in parallel, files that survive a crash, reports."""

from fedsec.runs.executor import Executor, InProcess
from fedsec.runs.local_pool import LocalPool
from fedsec.runs.remote.ray_pool import RayPool
from fedsec.runs.result import RunResult
from fedsec.runs.runner import run

__all__ = ["Executor", "InProcess", "LocalPool", "RayPool", "RunResult", "run"]
