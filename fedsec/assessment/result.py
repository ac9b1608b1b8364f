"""What an audit gives back: findings, what was not tested, and where the report lies."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedsec.assessment.deployment import Deployment
from fedsec.assessment.effort import Effort
from fedsec.assessment.finding import AuditFinding
from fedsec.assessment.severity import NONE, at_least, rules
from fedsec.assessment.taxonomy import references

__all__ = ["PAGE", "SCHEMA_VERSION", "UNFINISHED", "Audit", "LeftOut"]

PAGE, NUMBERS = "audit.html", "audit.json"
UNFINISHED = "cells were not finished"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class LeftOut:
    """What was not tested.

    Args:
        probe: its name.
        title: what it tries.
        why: it was not tested.
        command: that tests it; nothing where none does.
    """

    probe: str
    title: str
    why: str
    command: str = ""

    def as_json(self) -> dict[str, str]:
        """Plain data."""
        return {"probe": self.probe, "title": self.title, "why": self.why, "command": self.command}


@dataclass(frozen=True)
class Audit:
    """What an audit came to.

    Args:
        root: its folder.
        deployed: the federation as audited; None where a recording was.
        findings: the most severe first.
        left_out: what was not tested, and why.
        effort: that was spent on each probe.
        budget: in seconds.
        seconds: that it took.
        interrupted: whether somebody stopped it.
        command: that does it again.
        accuracy: of the deployed federation without attackers; None where it was not measured.
        versions: of the software that made the numbers.
        recording: what is known of the recording that was looked back at; nothing otherwise.
    """

    root: Path
    deployed: Deployment | None = field(repr=False)
    findings: tuple[AuditFinding, ...] = field(repr=False)
    left_out: tuple[LeftOut, ...] = field(repr=False)
    effort: Effort
    budget: float
    seconds: float
    interrupted: bool = False
    command: str = "fedsec audit"
    accuracy: float | None = None
    versions: Mapping[str, Any] = field(default_factory=dict, repr=False)
    recording: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """Level -> number of findings, from the worst to `none`; levels without any are left out."""
        counted = Counter(finding.severity for finding in self.findings)
        return {level: counted[level] for level in rules().levels if counted[level]}

    @property
    def shortened(self) -> list[str]:
        """What was done less than in full, in words; nothing of a recording."""
        return [] if self.deployed is None else self.effort.shortened(self.deployed.rounds)

    def at_least(self, level: str) -> list[AuditFinding]:
        """Findings that are as severe as a level, `info` at least.

        Raises:
            InputError: it is no level.
        """
        return [finding for finding in self.findings if at_least(finding.severity, level) and finding.severity != NONE]

    def as_json(self) -> dict[str, Any]:
        """The audit as plain data, as `audit.json` holds it: no paths, no pictures."""
        from fedsec.assessment.described import described

        return {
            "schema_version": SCHEMA_VERSION,
            "severity_rules": rules().revision,
            "command": self.command,
            "counts": self.counts,
            "findings": [finding.as_json() for finding in self.findings],
            "left_out": [one.as_json() for one in self.left_out],
            "effort": {
                "seeds": self.effort.seeds,
                "thorough": self.effort.thorough,
                "iterations": self.effort.iterations,
                "shortened": self.shortened,
            },
            "budget_seconds": self.budget,
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "accuracy": self.accuracy,
            "deployed": None if self.deployed is None else described(self.deployed),
            "recording": dict(self.recording) or None,
            "versions": dict(self.versions),
        }

    def to_dataframe(self) -> Any:
        """A pandas data frame, one row a finding, the most severe first.

        Raises:
            InputError: pandas is not installed.
        """
        from fedsec.report.exports.frames import to_frame
        from fedsec.report.exports.tidy import TidyTable

        columns: dict[str, list[Any]] = {
            "severity": [finding.severity for finding in self.findings],
            "title": [finding.title for finding in self.findings],
            "measure": [finding.measure for finding in self.findings],
            "effect": [finding.effect.value for finding in self.findings],
            "low": [finding.effect.low for finding in self.findings],
            "high": [finding.effect.high for finding in self.findings],
            "position": [finding.position for finding in self.findings],
            "taxonomy": [", ".join(one.id for one in references(finding.taxonomy)) for finding in self.findings],
        }
        return to_frame(TidyTable({"id": [finding.id for finding in self.findings]}, columns))

    def __repr__(self) -> str:
        """The findings, a line each."""
        lines = [f"Audit({self.root}: {len(self.findings)} findings)"]
        lines += [f"  {finding.severity}: {finding.title}" for finding in self.findings]
        lines += [f"  not tested: {one.title}: {one.why}" for one in self.left_out]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The answer and the table of findings, for notebooks."""
        from fedsec.assessment.page.summary import summary_parts
        from fedsec.report.page.render import fragment

        return fragment(summary_parts(self))
