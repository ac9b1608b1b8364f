"""Which of several attackers sees most: for each defense the one whose reconstructions come closest."""

import json
from collections.abc import Sequence

from fedsec.runs.missing import curious
from fedsec.runs.summary import ATTACK, Group, Record, summarize

INVERSION = "inversion"


def strongest(records: Sequence[Record]) -> list[Record]:
    """Of cells that differ only in who reconstructs, those of the attacker with the highest mean PSNR over seeds.

    Attackers stand against each other if they look at the same client in the same rounds and know the same.

    Args:
        records: the cells' records.

    Returns:
        The records of the strongest, in file order; none where no attackers stand against each other, or all of them
        do in one setting.
    """
    summary = summarize([record for record in records if record.get("status") == "done"], "psnr")
    rivals: dict[str, list[Group]] = {}
    for group in summary.groups:
        if (found := curious(group.records[0])) is not None:
            own = attackers(group.records[0])
            setting = {axis: text for axis, text in group.axes.items() if axis not in own}
            alike = [setting, found.get("target"), found.get("knowledge")]
            rivals.setdefault(json.dumps(alike, sort_keys=True), []).append(group)
    measured = [[group for group in groups if group.mean is not None] for groups in rivals.values()]
    if len(measured) < 2 or all(len(groups) < 2 for groups in measured):
        return []
    best = [max(groups, key=lambda group: group.mean or 0.0) for groups in measured if groups]
    kept = {id(record) for group in best for record in group.records}
    return [record for record in records if id(record) in kept]


def attackers(record: Record) -> list[str]:
    """The axes of who reconstructs, and how; beside an inversion the attack is what Byzantine clients do."""
    root = INVERSION if (record.get("config") or {}).get(INVERSION) else ATTACK
    return [axis for axis in record["cell"] if axis.partition(".")[0] == root]
