"""The page that compares runs."""

from collections.abc import Iterator, Mapping, Sequence

from fedsec.errors import count_of
from fedsec.report.comparison.conditions import Condition
from fedsec.report.comparison.differences import MetricDifferences, SettingDifference
from fedsec.report.comparison.figures import MOST_DOTS, MOST_PANELS, difference_figures, paired_curves
from fedsec.report.comparison.pairing import without_partner
from fedsec.report.comparison.run_comparison import RunComparison
from fedsec.report.comparison.wording import legend, outcome, written_difference, written_p_value
from fedsec.report.page.parts import (
    DataTable,
    Drawing,
    Folded,
    Heading,
    PageSection,
    Paragraph,
    Part,
    TableCell,
    TableColumn,
)
from fedsec.report.page.render import Page
from fedsec.report.page.svg import inline_svg
from fedsec.report.summary import describe

__all__ = ["comparison_page"]

_TONES = {"better": "good", "worse": "bad"}


def comparison_page(comparisons: Sequence[RunComparison]) -> Page:
    """The page of runs, all against the first.

    Args:
        comparisons: one for each run but the first.
    """
    first = comparisons[0].first.name
    others = ", ".join(compared.other.name for compared in comparisons)
    sections = [_conditions(comparisons), _answer(comparisons), _differences(comparisons)]
    further = (_curves(comparisons), _further(comparisons), _unpaired(comparisons))
    sections += [section for section in further if section is not None]
    return Page(f"{others} against {first}", "Differences cell by cell, on equal seeds", sections)


def _conditions(comparisons: Sequence[RunComparison]) -> PageSection:
    parts: list[Part] = []
    for compared in comparisons:
        parts += _title(comparisons, compared)
        if not compared.conditions and not compared.versions:
            parts.append(
                Paragraph("Configuration, code, data and versions of the paired cells are the same.", tone="note")
            )
        for caption, conditions in (
            ("Settings of paired cells that differ", compared.conditions),
            ("Code, data, versions and machines that differ", compared.versions),
        ):
            if conditions:
                parts.append(_condition_table(caption, conditions, compared))
        parts += [Paragraph(f"{note}.", tone="note") for note in compared.pairing.notes]
    return PageSection("conditions", "What the runs were run with", parts)


def _condition_table(caption: str, conditions: Sequence[Condition], compared: RunComparison) -> DataTable:
    names = (compared.first.name, compared.other.name)
    columns = [TableColumn("what"), *map(TableColumn, names), TableColumn("pairs", numeric=True)]
    rows = [
        [
            TableCell(one.name),
            TableCell(one.first),
            TableCell(one.other),
            TableCell(f"{one.pairs} of {one.of}", order=one.pairs),
        ]
        for one in conditions
    ]
    return DataTable(columns, rows, caption)


def _answer(comparisons: Sequence[RunComparison]) -> PageSection:
    parts: list[Part] = []
    for compared in comparisons:
        parts += _title(comparisons, compared)
        paired = count_of(len(compared.pairing.pairs), "pair")
        alone = len(compared.pairing.only_first) + len(compared.pairing.only_other)
        rest = f"; {count_of(alone, 'cell')} without a partner" if alone else ""
        parts.append(Paragraph(f"{paired} of cells{rest}."))
        parts += [Paragraph(outcome(compared, of_metric, sign="±")) for of_metric in compared.headline]
    return PageSection("answer", "What changed", parts)


def _differences(comparisons: Sequence[RunComparison]) -> PageSection:
    parts: list[Part] = []
    metric = comparisons[0].main
    settings = max(len(compared.metrics[0].settings) for compared in comparisons)
    some = f"The {MOST_DOTS} settings that differ most. " if settings > MOST_DOTS else ""
    for number, figure in enumerate(difference_figures(comparisons, metric), start=1):
        description = f"Differences of {metric.name} to {comparisons[0].first.name}, a row for each setting"
        caption = f"{some}A filled dot is told apart from 0; lines are 95% intervals, of each setting by itself."
        parts.append(Drawing(inline_svg(figure, f"differences-{number}"), description, caption))
    for compared in comparisons:
        parts += _title(comparisons, compared)
        of_main = compared.headline[0]
        parts.append(Paragraph(f"How to read it: {legend(metric, of_main.settings, sign='±')}.", tone="note"))
        parts += [_table(compared, of_metric) for of_metric in compared.headline]
        parts += list(_missing(compared.headline[0]))
    return PageSection("differences", "Differences", parts)


def _table(compared: RunComparison, of_metric: MetricDifferences) -> DataTable:
    metric = of_metric.metric
    axes = list(dict.fromkeys(axis for one in of_metric.settings for axis in one.setting))
    columns = [
        *map(TableColumn, axes or ["setting"]),
        *(TableColumn(name, numeric=True) for name in (compared.first.name, compared.other.name, "difference", "p")),
        TableColumn("verdict"),
    ]
    rows = [
        [
            *(TableCell(one.setting.get(axis, "")) for axis in axes),
            *([] if axes else [TableCell("the only one")]),
            TableCell(metric.write(one.first), order=one.first),
            TableCell(metric.write(one.other), order=one.other),
            TableCell(written_difference(one, metric, sign="±"), order=one.mean, remark=_seeds(one)),
            TableCell(written_p_value(one), order=2.0 if one.p_value is None else one.p_value),
            TableCell(one.verdict, tone=_TONES.get(one.verdict, "plain")),
        ]
        for one in of_metric.settings
    ]
    return DataTable(columns, rows, metric.title, row_headers=max(1, len(axes)))


def _seeds(one: SettingDifference) -> str:
    return "" if one.seeds == one.all_seeds else f"on {one.seeds} of {count_of(one.all_seeds, 'seed')}"


def _missing(of_metric: MetricDifferences) -> Iterator[Part]:
    if of_metric.missing:
        places: list[Mapping[str, str]] = list(of_metric.missing)
        text = "; ".join(map(describe, places))
        yield Paragraph(f"Without a {of_metric.metric.name} in both runs: {text}.", tone="note")


def _curves(comparisons: Sequence[RunComparison]) -> PageSection | None:
    parts: list[Part] = []
    for number, compared in enumerate(comparisons, start=1):
        figure = paired_curves(compared)
        if figure is None:
            continue
        some = (
            f"The {MOST_PANELS} settings that differ most. " if len(compared.metrics[0].settings) > MOST_PANELS else ""
        )
        description = f"{compared.main.title} of {compared.first.name} and {compared.other.name} by round"
        caption = f"{some}Means over seeds; bands are what the seeds span."
        parts.append(Drawing(inline_svg(figure, f"paired-curves-{number}"), description, caption))
    return PageSection("curves", f"{comparisons[0].main.title} by round", parts) if parts else None


def _further(comparisons: Sequence[RunComparison]) -> PageSection | None:
    parts: list[Part] = []
    for compared in comparisons:
        title = list(_title(comparisons, compared))
        further = [one for one in compared.metrics if one not in compared.headline]
        differing = [one for one in further if one.count("equal") < len(one.settings)]
        alike = [one.metric.name for one in further if one not in differing]
        tables: list[Part] = [Folded(outcome(compared, one, sign="±"), [_table(compared, one)]) for one in differing]
        if alike:
            tables.append(Paragraph(f"The same in all settings: {', '.join(alike)}.", tone="note"))
        parts += [*title, *tables] if tables else []
    return PageSection("metrics", "Further metrics", parts) if parts else None


def _unpaired(comparisons: Sequence[RunComparison]) -> PageSection | None:
    parts: list[Part] = []
    for compared in comparisons:
        for run, records in (
            (compared.first, compared.pairing.only_first),
            (compared.other, compared.pairing.only_other),
        ):
            if records:
                number = f"{count_of(len(records), 'cell')} of {run.name} {'has' if len(records) == 1 else 'have'}"
                places: list[Part] = [Paragraph(place) for place in without_partner(records)]
                parts.append(Folded(f"{number} no partner in the other run", places))
    return PageSection("unpaired", "Cells without a partner", parts) if parts else None


def _title(comparisons: Sequence[RunComparison], compared: RunComparison) -> list[Part]:
    """Which run is spoken of, where there are several."""
    return [Heading(compared.other.name)] if len(comparisons) > 1 else []
