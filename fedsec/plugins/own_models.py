"""Models of one's own, `package.module:factory`: code that whoever starts fedsec names, never a scenario file alone.

Worker processes inherit the permission through the environment.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from fedsec.errors import InputError

__all__ = ["VARIABLE", "allow", "allowed", "factory", "refusal"]

VARIABLE = "FEDSEC_OWN_MODELS"
"""Environment variable: references that may be imported, divided by blanks."""


def allowed() -> tuple[str, ...]:
    """The references that may be imported."""
    return tuple(os.environ.get(VARIABLE, "").split())


def allow(reference: str) -> None:
    """Let scenarios of this process, and of processes that it starts, name a model of one's own.

    Args:
        reference: `package.module:factory`.

    Raises:
        InputError: it is none.
    """
    module, colon, name = reference.partition(":")
    if not (module and colon and name) or any(letter.isspace() for letter in reference):
        raise InputError(f"model {reference!r}: expected package.module:factory")
    if reference not in allowed():
        os.environ[VARIABLE] = " ".join([*allowed(), reference])


def refusal(reference: str) -> str:
    """Why a scenario cannot name a model of one's own that nobody allowed."""
    return (
        f"model {reference!r} is code, which a scenario file alone does not choose; to run it, set the environment "
        f"variable {VARIABLE}={reference}"
    )


def factory(reference: str) -> Any:
    """What makes the model; this imports its module, from the current folder first.

    Raises:
        InputError: there is none.
    """
    module, _, name = reference.partition(":")
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except (Exception, SystemExit) as error:
        raise InputError(f"model {reference!r}: cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    return value
