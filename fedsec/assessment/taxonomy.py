"""What attacks are called by OWASP, MITRE ATLAS and NIST, from `taxonomy.yaml`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

__all__ = ["TaxonomyReference", "attacks", "references"]


@dataclass(frozen=True)
class TaxonomyReference:
    """One attack of one framework.

    Args:
        framework: its full name.
        id: of the attack there.
        name: of the attack there.
        section: of the document, where it has any.
    """

    framework: str
    id: str
    name: str
    section: str = ""

    def __str__(self) -> str:
        where = f", section {self.section}" if self.section else ""
        return f"{self.id} {self.name} ({self.framework}{where})"

    def as_json(self) -> dict[str, str]:
        """Plain data."""
        content = {"framework": self.framework, "id": self.id, "name": self.name}
        return content | ({"section": self.section} if self.section else {})


@cache
def attacks() -> Mapping[str, tuple[TaxonomyReference, ...]]:
    """Attack -> what it is called elsewhere."""
    content: dict[str, Any] = yaml.safe_load((files("fedsec.assessment") / "taxonomy.yaml").read_text(encoding="utf-8"))
    frameworks = content["frameworks"]
    return {
        attack: tuple(
            TaxonomyReference(frameworks[row["framework"]], row["id"], row["name"], str(row.get("section", "")))
            for row in rows
        )
        for attack, rows in content["attacks"].items()
    }


def references(names: Sequence[str]) -> list[TaxonomyReference]:
    """What some attacks are called elsewhere, each once."""
    return list(dict.fromkeys(reference for name in names for reference in attacks()[name]))
