"""Whether a run's numbers are what the scenario's author expected."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedsec.runs.summary import Group, Record, describe, summarize

if TYPE_CHECKING:
    from fedsec.scenario import Expectation


def check(expectations: Sequence["Expectation"], records: Sequence[Record]) -> list[tuple[str, float | None, bool]]:
    """Compare the mean over seeds with every expectation.

    Cells that an expectation selects and that differ in more than the seed are judged one by one, so that a good cell
    cannot make up for a bad one. A cell that failed, or lacks the metric, meets nothing.

    Args:
        expectations: of the scenario; each knows the ids of its cells.
        records: the cells' records.

    Returns:
        One entry for each expectation and group of cells: what was expected, the mean over seeds (None where there is
        none), and whether it was met.
    """
    verdicts: list[tuple[str, float | None, bool]] = []
    for expectation in expectations:
        chosen = [record for record in records if record["id"] in expectation.cells]
        groups = summarize(chosen, expectation.metric).groups
        if not groups:
            verdicts.append((f"{expectation} (no such cell was run)", None, False))
        for group in groups:
            text = str(expectation)
            if len(groups) > 1:
                text = f"{describe(group.axes)}: {expectation.metric} {expectation.bound}"
            if group.mean is None or group.n < len(group.records):
                verdicts.append((f"{text} ({_lacking(group)})", group.mean, False))
            else:
                # Averaging must not push a mean past a bound by its last bit.
                verdicts.append((text, group.mean, expectation.met(round(group.mean, 9))))
    return verdicts


def _lacking(group: Group) -> str:
    why = "failed" if group.failed else "without a value"
    return f"{len(group.records) - group.n} of {len(group.records)} cells {why}"
