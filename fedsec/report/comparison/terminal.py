"""A comparison in short, for the terminal; the page has all of it."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from fedsec.errors import count_of
from fedsec.report.comparison.run_comparison import RunComparison
from fedsec.report.comparison.wording import conditions_in_short, legend, outcome, written_difference, written_p_value
from fedsec.report.table_layout import Layout, Reading, headers

__all__ = ["lines_of", "table_of"]

_MOST_ROWS = 20
_STYLES = {"better": "bold green", "worse": "red"}


def lines_of(compared: RunComparison) -> Iterator[str]:
    """What differs, what has no partner, and what changed, a line each."""
    yield f"{compared.other.name} against {compared.first.name}"
    yield from conditions_in_short(compared)
    yield from compared.pairing.notes
    for run, records in (
        (compared.first, compared.pairing.only_first),
        (compared.other, compared.pairing.only_other),
    ):
        if records:
            has = "has" if len(records) == 1 else "have"
            yield f"{count_of(len(records), 'cell')} of {run.name} {has} no partner"
    for of_metric in compared.headline:
        yield outcome(compared, of_metric)


def table_of(compared: RunComparison, width: int) -> Table:
    """The settings that differ most, in their order.

    Args:
        compared: a run against the first.
        width: of the terminal.
    """
    of_metric = compared.headline[0]
    metric = of_metric.metric
    largest = sorted(of_metric.settings, key=lambda one: -abs(one.mean))[:_MOST_ROWS]
    settings = [one for one in of_metric.settings if any(one is shown for shown in largest)]
    axes = list(dict.fromkeys(axis for one in settings for axis in one.setting))
    varied = [axis for axis in axes if len({one.setting.get(axis) for one in of_metric.settings}) > 1] or axes[:1]
    keys = [[one.setting.get(axis, "") for one in settings] for axis in varied] or [["the only one"] * len(settings)]
    columns = (
        [Reading(metric.write(one.first)) for one in settings],
        [Reading(metric.write(one.other)) for one in settings],
        [Reading(written_difference(one, metric), style=_STYLES.get(one.verdict, "")) for one in settings],
        [Reading(written_p_value(one)) for one in settings],
        [Reading(one.verdict, style=_STYLES.get(one.verdict, "")) for one in settings],
    )
    names = ("first", "other", "difference", "p", "verdict")
    layout = Layout((*(headers(varied) or ["setting"]), *names), (*keys, *columns), len(keys))
    if layout.narrowest > width:
        layout = layout.stacked()
    rest = len(of_metric.settings) - len(settings)
    more = f"; {rest} more {'is' if rest == 1 else 'are'} on the page" if rest else ""
    caption = Text(f"{legend(metric, of_metric.settings)}{more}", style="dim")
    return layout.draw(f"{metric.title}: {compared.other.name} against {compared.first.name}", caption, width)
