"""Which cells are looked at closely, where there are too many to show them all."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedsec.report.summary import DEFENSE, Group, Record, describe, summarize

__all__ = ["WorstAttack", "worst_attacks"]


@dataclass(frozen=True)
class WorstAttack:
    """The attack that leaves least of a defense, over all settings.

    Args:
        defense: as tables call it.
        group: the cells under that attack.
        baseline: those like them with nobody attacking; None if there are none.
        attacks: over how many settings with an attack it is the worst.
    """

    defense: str
    group: Group
    baseline: Group | None
    attacks: int

    @property
    def where(self) -> str:
        """Attack and setting, without the defense."""
        axes = {axis: text for axis, text in self.group.axes.items() if axis != DEFENSE}
        return describe(axes) if axes else "the only attack"

    @property
    def first(self) -> Record:
        """The cell of the first seed that is done."""
        return next(record for record in self.group.records if record["status"] == "done")


def worst_attacks(records: Sequence[Record]) -> list[WorstAttack]:
    """For each defense the attack under which the mean over seeds of the main metric is worst, in file order.

    Args:
        records: the cells' records; unfinished ones do not count.
    """
    summary = summarize([record for record in records if record["status"] == "done"])
    by_defense: dict[str, list[Group]] = {}
    for group in summary.groups:
        if group.attacked and group.mean is not None:
            by_defense.setdefault(group.axes.get(DEFENSE, ""), []).append(group)
    worst = []
    for defense, groups in by_defense.items():
        value = summary.row.worst([group.mean for group in groups if group.mean is not None])
        group = next(group for group in groups if group.mean == value)
        worst.append(WorstAttack(defense, group, summary.baseline(group), len(groups)))
    return worst
