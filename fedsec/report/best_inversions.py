"""Which of several attackers sees most: for each defense the one whose reconstructions come closest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedsec.report.missing_values import curious
from fedsec.report.summary import ATTACK, INVERSION, Group, Record, summarize


@dataclass(frozen=True)
class Strongest:
    """The winners, where several attackers looked at the same.

    Args:
        records: of the strongest attackers' cells, setting by setting in file order; none if there is nothing to tell.
        axes: of who reconstructs, and how; what is fixed in a comparison is none of them.
    """

    records: list[Record] = field(default_factory=list)
    axes: list[str] = field(default_factory=list)


def strongest(records: Sequence[Record]) -> Strongest:
    """Of cells that differ only in who reconstructs, those of the attacker with the highest mean PSNR over seeds.

    Attackers stand against each other if they look at the same client in the same rounds and know the same. Who was
    measured on fewer seeds than another, as where cells failed, is out.

    Args:
        records: the cells' records.

    Returns:
        The strongest; nobody where no attackers stand against each other, or all of them do in one setting.
    """
    rivals: dict[str, list[Group]] = {}
    for group in summarize(records, "psnr").groups:
        configured = [record for record in group.records if curious(record) is not None]
        if not configured:
            continue
        server, own = curious(configured[0]) or {}, _attackers(configured[0])
        setting = {axis: text for axis, text in group.axes.items() if axis not in own}
        alike = [setting, server.get("target"), server.get("knowledge")]
        rivals.setdefault(json.dumps(alike, sort_keys=True), []).append(group)
    measured = [[group for group in groups if group.n] for groups in rivals.values()]
    measured = [groups for groups in measured if groups]
    if len(measured) < 2 or all(len(groups) < 2 for groups in measured):
        return Strongest()
    best = [max(groups, key=lambda group: (group.n, group.mean or 0.0)) for groups in measured]
    axes = [
        axis for axis in best[0].axes if any(len({one.axes.get(axis) for one in groups}) > 1 for groups in measured)
    ]
    return Strongest([record for group in best for record in group.records], axes)


def trained_once(records: Sequence[Record]) -> list[Record]:
    """Cells as their training sees them: of those that differ only in who looks at the messages, the first.

    Args:
        records: the cells' records.

    Returns:
        Records whose cells have no axis of who reconstructs; all of them as they are where some cell has no curious
        server, no two cells differ in nothing else, or the model depends on who looks (a server that hijacks).
    """
    settings: dict[str, list[tuple[Group, list[str]]]] = {}
    for group in summarize(records).groups:
        configured = [record for record in group.records if curious(record) is not None]
        if not configured:
            return list(records)
        own = _attackers(configured[0])
        setting = {axis: text for axis, text in group.axes.items() if axis not in own}
        settings.setdefault(json.dumps(setting, sort_keys=True), []).append((group, own))
    if all(len(alike) < 2 for alike in settings.values()) or any(map(_apart, settings.values())):
        return list(records)
    return [
        {**record, "cell": {axis: value for axis, value in record["cell"].items() if axis not in own}}
        for (group, own), *_ in settings.values()
        for record in group.records
    ]


def _apart(alike: Sequence[tuple[Group, list[str]]]) -> bool:
    """Whether models of one seed differ, so that they were not trained alike."""
    first, *others = [group.by_seed for group, _ in alike]
    return any(first[seed] != other[seed] for other in others for seed in first.keys() & other.keys())


def _attackers(record: Record) -> list[str]:
    """The axes of who reconstructs; beside an inversion the attack is what Byzantine clients do."""
    root = INVERSION if (record.get("config") or {}).get(INVERSION) else ATTACK
    return [axis for axis in record["cell"] if axis.partition(".")[0] == root]
