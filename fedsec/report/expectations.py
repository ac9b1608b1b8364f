"""Whether a run's numbers are what the scenario's author expected."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedsec.report.missing_values import why
from fedsec.report.summary import Group, Record, describe, summarize, value_of

if TYPE_CHECKING:
    from fedsec.scenario import Expectation


def check(expectations: Sequence["Expectation"], records: Sequence[Record]) -> list[tuple[str, float | None, bool]]:
    """Compare the mean over seeds with every expectation.

    Cells that an expectation selects and that differ in more than the seed are judged one by one, so that a good cell
    cannot make up for a bad one. A cell that failed, or lacks the metric, meets nothing, and the text says why.

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


_NOT_RUN = {"failed": "the cell failed", "refused": "its rule cannot withstand so many Byzantine clients"}


def _lacking(group: Group) -> str:
    """Why there is no value, each reason once and with the number of cells where it is not that of all."""
    reasons = Counter(
        _NOT_RUN.get(record["status"]) or why(record, group.metric)
        for record in group.records
        if value_of(record, group.metric) is None
    )
    cells = len(group.records)
    reasons_with_counts = (
        reason if count == cells else f"{reason} ({count} of {cells} cells)" for reason, count in reasons.most_common()
    )
    return f"no value: {'; '.join(reasons_with_counts)}"
