"""Which logs a run is to have: from what a user writes to logs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedsec.errors import InputError
from fedsec.plugins.registry import keys_hint
from fedsec.runs.logs.run_log import RunLog

__all__ = ["logs_of"]


def logs_of(asked: "str | RunLog | Sequence[str | RunLog] | None", folder: Path) -> dict[str, RunLog]:
    """Name -> log.

    Args:
        asked: `tensorboard` or `tensorboard:DIR`, `mlflow` or `mlflow:URI`, an object of one's own, or several.
        folder: of the run.

    Raises:
        InputError: there is no such log, or what it needs is not installed.
    """
    several = [asked] if isinstance(asked, str) or not isinstance(asked, Sequence) else list(asked)
    logs: dict[str, RunLog] = {}
    for one in several:
        if one is None:
            continue
        if isinstance(one, str):
            kind, _, where = one.partition(":")
            if kind not in _KINDS:
                raise InputError(f"unknown log {kind!r}{keys_hint(kind, _KINDS)}")
            if one in logs:
                raise InputError(f"log {one}: is named twice")
            logs[one] = _KINDS[kind](where, folder)
        else:
            logs[f"{type(one).__name__} {len(logs) + 1}"] = one
    return logs


def _tensorboard(where: str, folder: Path) -> RunLog:
    from fedsec.runs.logs.tensorboard_log import TensorBoardLog

    return TensorBoardLog(Path(where) / folder.name if where else folder / "tensorboard")


def _mlflow(where: str, folder: Path) -> RunLog:
    from fedsec.runs.logs.mlflow_log import MlflowLog

    return MlflowLog(where or None)


_KINDS: Mapping[str, Callable[[str, Path], RunLog]] = {"tensorboard": _tensorboard, "mlflow": _mlflow}
