"""What an audit says: findings, the evidence for each, and what would help."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fedsec.assessment.difference import Estimate
from fedsec.report.evidence.reconstructions import ObservedImage

__all__ = ["Countermeasure", "EvidenceTable", "AuditFinding"]


@dataclass(frozen=True)
class EvidenceTable:
    """Numbers behind a finding.

    Args:
        caption: what they are.
        columns: titles; those after the first hold numbers.
        rows: texts.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"caption": self.caption, "columns": list(self.columns), "rows": [list(row) for row in self.rows]}


@dataclass(frozen=True)
class Countermeasure:
    """A defense that was tried against a finding, and what it costs.

    Args:
        name: as tables call it.
        setting: of a scenario: what `defense` would be.
        effect: of the attack that is left with it, beyond its null.
        cost: change of accuracy without an attacker; None where it was not measured.
        epsilon: formal, at its delta, where the defense has one.
    """

    name: str
    setting: Any
    effect: Estimate
    cost: Estimate | None = None
    epsilon: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "defense": self.setting,
            "effect": self.effect.as_json(),
            "accuracy_change": None if self.cost is None else self.cost.as_json(),
            "epsilon": self.epsilon,
        }


@dataclass(frozen=True)
class AuditFinding:
    """One answer of the audit, be it that nothing was found.

    Args:
        id: names it, its scenario file and its section of the page; in small letters and hyphens.
        probe: that found it.
        title: in a few words.
        severity: by the rules of `severity.yaml`.
        statement: what was measured, in sentences, with number, interval and null.
        effect: beyond the null, by which it is judged.
        measure: of `severity.yaml`: what the effect is.
        null: what the effect is measured against, in words.
        position: where the attacker sits.
        granted: what the attacker was granted, a line each.
        taxonomy: attacks of `taxonomy.yaml`.
        why: how the severity came about.
        tables: numbers.
        images: originals beside what was recovered of them.
        countermeasures: defenses that were tried, the best first.
        notes: what a reader should know beside it.
        cells: sections of the cells that reproduce it.
        command: that reproduces it, where it is no scenario.
    """

    id: str
    probe: str
    title: str
    severity: str
    statement: str
    effect: Estimate
    measure: str
    null: str
    position: str
    granted: tuple[str, ...]
    taxonomy: tuple[str, ...]
    why: str
    tables: tuple[EvidenceTable, ...] = ()
    images: tuple[ObservedImage, ...] = field(default=(), repr=False)
    countermeasures: tuple[Countermeasure, ...] = ()
    notes: tuple[str, ...] = ()
    cells: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    command: str = ""

    @property
    def effect_text(self) -> str:
        """The effect as tables show it: points of a percentage with their interval, or an epsilon."""
        if self.unit == "none":
            return "not judged"
        if self.unit == "epsilon":
            return (
                f"epsilon {self.effect.low:+.2f}"
                if self.measure.endswith("excess")
                else f"epsilon >= {self.effect.low:.2f}"
            )
        return self.effect.points()

    @property
    def unit(self) -> str:
        """What the effect is counted in: `points` of a percentage, `epsilon`, or `none`."""
        from fedsec.assessment.severity import rules

        return str(rules().measures[self.measure].get("unit", "points"))

    def left_text(self, one: Countermeasure) -> str:
        """What a countermeasure leaves of the effect."""
        if self.unit == "epsilon":
            formal = "" if one.epsilon is None else f", formally at most {one.epsilon:.3g}"
            return f"epsilon >= {one.effect.low:.2f}{formal}"
        return f"{one.effect.points()} points"

    @property
    def scenario_file(self) -> str | None:
        """Of the audit's folder, the file that reproduces it; None where no scenario does."""
        return f"scenarios/{self.id}.yaml" if self.cells else None

    def as_json(self) -> dict[str, Any]:
        """Plain data, without pictures."""
        from fedsec.assessment.taxonomy import references

        return {
            "id": self.id,
            "probe": self.probe,
            "title": self.title,
            "severity": self.severity,
            "why": self.why,
            "statement": self.statement,
            "measure": self.measure,
            "effect": self.effect.as_json(),
            "null": self.null,
            "position": self.position,
            "granted": list(self.granted),
            "taxonomy": [reference.as_json() for reference in references(self.taxonomy)],
            "tables": [table.as_json() for table in self.tables],
            "countermeasures": [one.as_json() for one in self.countermeasures],
            "notes": list(self.notes),
            "scenario": self.scenario_file,
            "command": self.command,
        }
