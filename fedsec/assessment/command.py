"""The command that does an audit again: as it can be typed, and shared."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["BUDGET", "FOLDER", "audit_command"]

BUDGET = "4m"
"""That an audit has where none is said."""
FOLDER = "audit"
"""Where its report goes where nothing is said."""


def audit_command(
    settings: Mapping[str, Any],
    overrides: Sequence[str] = (),
    probes: Sequence[str] = (),
    budget: str | float = BUDGET,
    out: Path = Path(FOLDER),
) -> str:
    """The command of an audit; of folders their last names.

    Args:
        settings: what describes the federation, by parameter of `fedsec.audit`; None and a seed of 0 say nothing.
        overrides: `key.path=value` settings.
        probes: that were chosen; none for all.
        budget: as it was said, or in seconds.
        out: the report's folder.
    """
    from fedsec.report.page.resolved import as_yaml

    words = ["fedsec", "audit"]
    for name, value in settings.items():
        if value is None or (name == "seed" and value == 0):
            continue
        if isinstance(value, Path) or (name == "data" and isinstance(value, str) and ("/" in value or "\\" in value)):
            value = Path(value).name
        words += [f"--{name.replace('_', '-')}", value if isinstance(value, str) else as_yaml(value, flow=True)]
    words += [word for text in overrides for word in ("--set", text)]
    words += [word for name in probes for word in ("--probe", name)]
    said = budget if isinstance(budget, str) else f"{budget:g}s"
    words += ["--budget", said] if said != BUDGET else []
    words += ["--out", out.name] if out != Path(FOLDER) else []
    return shlex.join(words)
