"""Who was trusted, who was Byzantine, and who was left out wrongly: client verdicts over the rounds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedsec.errors import count_of
from fedsec.metrics.metric import described
from fedsec.report.evidence.chosen import WorstAttack, worst_attacks
from fedsec.report.evidence.client_verdict_figure import verdict_figure
from fedsec.report.evidence.client_verdicts import UpdateVerdict, VerdictMatrix, verdict_matrix
from fedsec.report.evidence.excluded_clients import excluded_clients
from fedsec.report.evidence.round_lines import round_lines
from fedsec.report.missing_values import algorithm_of
from fedsec.report.page.parts import DataTable, Drawing, Folded, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.svg import inline_svg
from fedsec.report.summary import DEFENSE, Group, Record, describe, summarize
from fedsec.scenario.federation_config import traits_of

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["clients"]

_PANELS, _MOST_PANELS = 9, 36
_MOST_GROUPS = 500
_MOST_CLIENTS = 12
_MEASURES = ("detection_recall", "detection_precision", "honest_excluded", "byzantine_influence")

_Panel = tuple[WorstAttack, VerdictMatrix]


def clients(view: "RunView") -> PageSection | None:
    """Verdicts over the rounds, precision and recall; None where nobody attacks, or no rule judges clients."""
    shown: list[_Panel] = []
    judged = [record for record in view.trained if traits_of(algorithm_of(record)).get("exchanges") != "activations"]
    for worst in worst_attacks(judged):
        matrix = verdict_matrix(round_lines(view.root / worst.first["id"]))
        if matrix is not None:
            shown.append((worst, matrix))
    if not shown:
        return None
    shown.sort(key=lambda panel: not panel[1].suspects)  # rules that name whom they leave out have most to show
    chosen = [worst.group for worst, _ in shown]
    parts: list[Part] = [
        Paragraph(
            "Each row is a client, each column a round. Under the attack that hurts a defense most, this is whose "
            "updates its rule counted and whose it left out, in the cell of the first seed. Clients that attack are "
            "above the line. Strong colors are errors: an honest client that was left out, an attacker that counted."
        ),
        *_drawings(shown),
        _table(chosen, "Under the attack that hurts each defense most. " + _EXPLANATION),
    ]
    parts += _others(judged, chosen)
    parts += _wronged(view)
    return PageSection("clients", "Who was trusted", parts)


_EXPLANATION = (
    "Recall: share of Byzantine updates that were left out; precision: share of Byzantine ones among all that were "
    "left out; honest left out: share of honest updates that were; over all rounds, mean over seeds. n/a: the rule "
    "does not say whom it leaves out, or left out nobody."
)


def _drawings(shown: Sequence[_Panel]) -> list[Part]:
    drawings = [
        _drawing(shown[start : start + _PANELS], start // _PANELS + 1)
        for start in range(0, min(len(shown), _MOST_PANELS), _PANELS)
    ]
    parts: list[Part] = list(drawings[:1])
    if rest := drawings[1:]:
        further = min(len(shown), _MOST_PANELS) - _PANELS
        parts.append(Folded(f"Verdicts of {count_of(further, 'further defense')}", rest))
    if len(shown) > _MOST_PANELS:
        parts.append(Paragraph(f"{len(shown) - _MOST_PANELS} more defenses are in the table only.", "note"))
    return parts


def _drawing(shown: Sequence[_Panel], number: int) -> Drawing:
    figure = verdict_figure([(_title(worst), matrix) for worst, matrix in shown])
    descriptions = "; ".join(f"{worst.defense or 'the rule'}: {_in_words(matrix)}" for worst, matrix in shown)
    return Drawing(
        inline_svg(figure, f"clients-{number}"),
        f"Clients against rounds, a panel for each defense. {descriptions}",
        " ".join(["A cross marks whose update was left out; a blank, who took no part.", *_left_away(shown)]),
    )


def _title(worst: WorstAttack) -> str:
    return f"{worst.defense}: {worst.where}" if worst.defense else worst.where


def _in_words(matrix: VerdictMatrix) -> str:
    missed = matrix.count(UpdateVerdict.COUNTED, byzantine=True) + matrix.count(
        UpdateVerdict.COUNTED_LESS, byzantine=True
    )
    caught, wronged = (matrix.count(UpdateVerdict.LEFT_OUT, byzantine=byzantine) for byzantine in (True, False))
    return (
        f"{caught} of {caught + missed} Byzantine updates left out, and {wronged} honest ones"
        if matrix.suspects or caught or wronged
        else "the rule does not say whom it leaves out"
    )


def _left_away(shown: Sequence[_Panel]) -> list[str]:
    """What the picture does not show, in sentences."""
    sentences = []
    fewer = max((matrix for _, matrix in shown), key=lambda matrix: matrix.num_clients - len(matrix.clients))
    if fewer.num_clients > len(fewer.clients):
        sentences.append(
            f"Of {fewer.num_clients} clients {len(fewer.clients)} are shown: those that attack, up to 15 of them, and "
            "of the honest ones those that were left out most."
        )
    longer = max((matrix for _, matrix in shown), key=lambda matrix: matrix.num_rounds - len(matrix.rounds))
    if longer.num_rounds > len(longer.rounds):
        sentences.append(f"Of {longer.num_rounds} rounds {len(longer.rounds)} are shown, at equal distances.")
    return sentences


def _others(records: Sequence[Record], chosen: Sequence[Group]) -> list[Part]:
    """All other settings, folded."""
    places = [group.axes for group in chosen]
    done = [record for record in records if record["status"] == "done"]
    others = [group for group in summarize(done).groups if group.attacked and group.axes not in places]
    others = [group for group in others if _mean(group, _MEASURES[-1]) is not None]
    if not others:
        return []
    more = f"; the first {_MOST_GROUPS} of {len(others)}" if len(others) > _MOST_GROUPS else ""
    title = f"Under all other attacks: {count_of(len(others), 'setting')}{more}"
    return [Folded(title, [_table(others[:_MOST_GROUPS], "Under all other attacks. " + _EXPLANATION)])]


def _table(groups: Sequence[Group], caption: str) -> DataTable:
    """Without the measures that none of these settings has."""
    measures = [name for name in _MEASURES if any(_mean(group, name) is not None for group in groups)]
    rows = []
    for group in groups:
        axes = {axis: text for axis, text in group.axes.items() if axis != DEFENSE}
        texts = (group.axes.get(DEFENSE) or "(the only one)", describe(axes) if axes else "-")
        rows.append(
            [*map(TableCell, texts), *(_number(group, name) for name in measures), _number(group, group.metric)]
        )
    titles = {"byzantine_influence": "Byzantine influence (%)"}
    metrics = [described(name) for name in (*measures, groups[0].metric)]
    columns = [TableColumn(titles.get(metric.name, metric.header or metric.title), numeric=True) for metric in metrics]
    return DataTable([TableColumn("defense"), TableColumn("attack"), *columns], rows, caption)


def _number(group: Group, name: str) -> TableCell:
    value = _mean(group, name)
    return TableCell("n/a") if value is None else TableCell(described(name).write(value), value)


def _mean(group: Group, name: str) -> float | None:
    return Group(group.axes, group.records, name).mean


def _wronged(view: "RunView") -> list[Part]:
    """The honest clients that were left out most, and what data they have."""
    everybody = excluded_clients(view.root, [record for record in view.trained if record["status"] == "done"])
    worst = sorted((client for client in everybody if client.excluded), key=lambda client: -client.share)
    if not worst:
        return []
    columns = [
        TableColumn("cell"),
        TableColumn("client", numeric=True),
        TableColumn("left out (%)", numeric=True),
        TableColumn("examples", numeric=True),
        TableColumn("most of them"),
    ]
    rows = [
        [
            TableCell(describe(client.cell)),
            TableCell(str(client.client), float(client.client)),
            TableCell(f"{100 * client.share:.1f}", client.share),
            TableCell(f"{sum(client.counts):,}", float(sum(client.counts))),
            TableCell(client.mix),
        ]
        for client in worst[:_MOST_CLIENTS]
    ]
    caption = (
        f"The honest clients that were left out most: {len(rows)} of {len(worst)}. Share of the rounds in which the "
        "client was honest and its rule left it out; all of them are in excluded_clients.csv."
    )
    return [DataTable(columns, rows, caption, 2)]
