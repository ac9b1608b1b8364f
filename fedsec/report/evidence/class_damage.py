"""What attacks did to single classes: the recall of each, with the attack and without."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from fedsec.metrics.durability import SUCCESS
from fedsec.report.evidence.chosen import worst_attacks
from fedsec.report.summary import ATTACK, DEFENSE, Group, Record, describe, summarize

__all__ = ["ClassDamage", "LabelFlipEffect", "class_damages", "class_names", "label_flips"]

_RECALL = "per_class_accuracy"

Recalls = Sequence[float | None]
"""Of each class; None for those that the test set has no examples of."""


@dataclass(frozen=True)
class ClassDamage:
    """Recall of each class of one defense, under the attack that hurts it most.

    Args:
        defense: as tables call it.
        where: attack and setting.
        group: the cells under the attack.
        baseline: the cells without an attack; None if there are none.
        recalls: under the attack, means over seeds.
        clean: without one, likewise; None if there are no such cells.
    """

    defense: str
    where: str
    group: Group
    baseline: Group | None
    recalls: Recalls
    clean: Recalls | None

    def loss(self, place: int) -> float:
        """What a class lost, or lacks of full recall where nobody knows what it was without the attack."""
        recall, before = self.recalls[place], 1.0 if self.clean is None else self.clean[place]
        return 0.0 if recall is None or before is None else before - recall

    @property
    def worst(self) -> int:
        """The place of the class that lost most."""
        return max(range(len(self.recalls)), key=self.loss)


@dataclass(frozen=True)
class LabelFlipEffect:
    """What an attack on one class did to it.

    Args:
        group: its cells.
        source: the class that is to be taken for another.
        target: the class that it is to be taken for.
        recall: of the source, the mean over seeds.
        clean: its recall without the attack; None where that is not known.
    """

    group: Group
    source: str
    target: str
    recall: float
    clean: float | None

    @property
    def where(self) -> str:
        """Attack and setting, without the defense."""
        return describe({axis: text for axis, text in self.group.axes.items() if axis != DEFENSE})


def class_damages(records: Sequence[Record]) -> list[ClassDamage]:
    """For each defense the classes under its worst attack; none where models have no classes.

    Args:
        records: the cells' records.
    """
    damages = []
    for worst in worst_attacks(records):
        recalls = _recalls(worst.group)
        if recalls is not None:
            clean = None if worst.baseline is None else _recalls(worst.baseline)
            clean = clean if clean is not None and len(clean) == len(recalls) else None
            damages.append(ClassDamage(worst.defense, worst.where, worst.group, worst.baseline, recalls, clean))
    return damages


def label_flips(root: Path, records: Sequence[Record]) -> list[LabelFlipEffect]:
    """What attacks that name a source and a target, and bring no test of their own, did to the source.

    Args:
        root: the run's folder.
        records: the cells' records.
    """
    summary = summarize([record for record in records if record["status"] == "done"])
    effects = []
    for group in summary.groups:
        options = ((group.records[0].get("config") or {}).get(ATTACK) or {}).get("options") or {}
        names, recalls = class_names(root, group.records[0]), _recalls(group)
        source, target = (_place(options.get(key), names) for key in ("source", "target"))
        if not group.attacked or recalls is None or source is None or target is None or len(recalls) != len(names):
            continue
        if Group(group.axes, group.records, SUCCESS).n:
            continue  # its own test says more than the whole class
        baseline = summary.baseline(group)
        clean, recall = None if baseline is None else _recalls(baseline), recalls[source]
        if recall is not None:
            before = clean[source] if clean is not None and len(clean) == len(names) else None
            effects.append(LabelFlipEffect(group, names[source], names[target], recall, before))
    return effects


def class_names(root: Path, record: Record) -> list[str]:
    """What a cell's classes are called; nothing where its `partition.json` does not say."""
    try:
        return list(map(str, json.loads((root / record["id"] / "partition.json").read_text())["classes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _place(label: Any, names: Sequence[str]) -> int | None:
    """The place of a class that is given by number or by name."""
    if isinstance(label, int) and 0 <= label < len(names):
        return label
    return names.index(label) if isinstance(label, str) and label in names else None


def _recalls(group: Group) -> Recalls | None:
    rows = [row for record in group.records if isinstance(row := (record.get("metrics") or {}).get(_RECALL), list)]
    if not rows or len({len(row) for row in rows}) > 1:
        return None
    columns = zip(*rows, strict=True)
    return [None if None in column else fmean(column) for column in columns]
