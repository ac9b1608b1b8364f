"""What was asked of a run, and how it ended: what `run.json` in its folder holds."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fedsec.files import read_json

__all__ = ["DESCRIPTION", "ExpectationVerdict", "RunSummary"]

DESCRIPTION = "run.json"


@dataclass(frozen=True)
class ExpectationVerdict:
    """Whether what a scenario expects came true.

    Args:
        text: what was expected.
        value: the mean over seeds; None where there is none.
        met: whether it was.
    """

    text: str
    value: float | None
    met: bool


@dataclass(frozen=True)
class RunSummary:
    """What was asked of a run, and how it ended.

    Args:
        name: of the scenario.
        question: what it is for, in its author's words.
        given: what was run: the name of a scenario that comes with fedsec, or of a file.
        scenario: the file as it was written.
        overrides: settings from outside, as in `federation.rounds=2`.
        expectations: of the scenario, judged; none of an interrupted run.
        set_aside: expectations that are about no cell any more, since settings from outside changed the matrix.
        interrupted: whether it was stopped before its end.
        finished: when it ended, in UTC, as in `2026-11-26T23:59:00Z`.
    """

    name: str
    question: str = ""
    given: str = ""
    scenario: str = ""
    overrides: Sequence[str] = ()
    expectations: Sequence[ExpectationVerdict] = ()
    set_aside: Sequence[str] = ()
    interrupted: bool = False
    finished: str = ""

    @property
    def command(self) -> str:
        """The command that asks the same again."""
        settings = [part for override in self.overrides for part in ("--set", override)]
        return shlex.join(["fedsec", "run", self.given or f"{self.name}.yaml", *settings])

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def read(cls, folder: Path) -> "RunSummary":
        """Of a run's folder; little of one that an earlier version of fedsec left."""
        try:
            content = read_json(folder / DESCRIPTION)
            content["expectations"] = [ExpectationVerdict(**verdict) for verdict in content["expectations"]]
            known = {field.name: content[field.name] for field in fields(cls) if field.name in content}
            if not all(_is_like(value, getattr(_EXAMPLE, name)) for name, value in known.items()):
                raise TypeError(f"{DESCRIPTION} holds something else")
            return cls(**known)
        except (OSError, ValueError, TypeError, KeyError):
            return cls(folder.resolve().name)


_EXAMPLE = RunSummary("")


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value is of the kind that a field has by default: a text, a truth value, a list."""
    if isinstance(default, tuple):
        return isinstance(value, list) and all(isinstance(item, str | ExpectationVerdict) for item in value)
    return isinstance(value, type(default))
