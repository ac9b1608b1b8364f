"""How safe is a federation as it is deployed? A battery of probes within a budget, findings with evidence, a report.

Importing this package is cheap: names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsec.assessment.auditor import audit
    from fedsec.assessment.finding import AuditFinding
    from fedsec.assessment.result import Audit

__all__ = ["Audit", "AuditFinding", "audit"]

_HOMES = {
    "Audit": "fedsec.assessment.result",
    "AuditFinding": "fedsec.assessment.finding",
    "audit": "fedsec.assessment.auditor",
}

if not TYPE_CHECKING:  # a type checker is to know the names, not to take any name for one

    def __getattr__(name: str) -> Any:
        """Load a name when it is first used."""
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
