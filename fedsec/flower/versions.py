"""Which Flower this is written for.

Flower changes its interfaces between minor releases: strategies, mods and what a message is have each moved within a
year. What was not tested is refused, instead of going wrong in the middle of a run.
"""

import os
import warnings
from importlib.metadata import PackageNotFoundError, version

__all__ = ["OVERRIDE", "TESTED", "check_flower"]

TESTED = ("1.42",)
"""Minor releases of Flower that the tests ran on; any patch of them is taken."""

OVERRIDE = "FEDSEC_ALLOW_UNTESTED_FLOWER"
"""Set to 1, this environment variable turns the refusal of another version into a warning."""

_INSTALL = 'pip install "fedsec[flower]"'


def check_flower() -> None:
    """Refuse a Flower that this was not tested with.

    Raises:
        ImportError: Flower is missing, or another version; says which one is needed and how to get it.
    """
    try:
        installed = version("flwr")
    except PackageNotFoundError:
        raise ImportError(f"fedsec.flower needs Flower, which is not installed: {_INSTALL}") from None
    if ".".join(installed.split(".")[:2]) in TESTED:
        return
    problem = f"fedsec.flower was tested with Flower {', '.join(TESTED)}, and {installed} is installed"
    if os.environ.get(OVERRIDE) != "1":
        raise ImportError(f"{problem}: {_INSTALL}, or set {OVERRIDE}=1 to try it all the same")
    warnings.warn(problem, stacklevel=2)
