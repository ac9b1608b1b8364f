"""Who was hurt: single classes, and the clients whose data are unlike the others'."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedsec.errors import count_of
from fedsec.metrics.metric import described
from fedsec.report.evidence.class_damage import ClassDamage, LabelFlipEffect, class_damages, class_names, label_flips
from fedsec.report.evidence.class_damage_figure import class_damage_figure
from fedsec.report.page.parts import DataTable, Drawing, Folded, PageSection, Paragraph, Part, TableCell, TableColumn
from fedsec.report.page.svg import inline_svg
from fedsec.report.summary import DEFENSE, Group

if TYPE_CHECKING:
    from fedsec.report.page.run_page import RunView

__all__ = ["damage"]

_MOST_CLASSES, _ROWS, _MOST_ROWS = 16, 16, 64
_WORST_OFF = ("accuracy_worst_class_mix", "accuracy_worst_client")


def damage(view: "RunView") -> PageSection | None:
    """Recall of each class, with the attack and without; None where nobody attacks, or there are no classes."""
    damages = class_damages(view.trained)
    if not damages:
        return None
    number = max(len(row.recalls) for row in damages)
    damages = [row for row in damages if len(row.recalls) == number]
    called = {tuple(class_names(view.root, row.group.records[0])) for row in damages}
    names = list(called.pop()) if len(called) == 1 else []  # several datasets have names of their own
    names = names if len(names) == number else [str(place) for place in range(number)]
    lost = sorted(range(number), key=lambda place: -max(row.loss(place) for row in damages))
    places = sorted(lost[:_MOST_CLASSES])
    parts: list[Part] = [
        Paragraph(
            "An average hides who is hurt. Under the attack that costs a defense most, this is the recall of each "
            "class (the share of its test examples that are recognized), and below it the change against no attack, "
            "in points."
        ),
        *_drawings(damages, places, names),
        _table(damages, names),
    ]
    if effects := label_flips(view.root, view.trained):
        parts.append(_flips(effects))
    return PageSection("damage", "Who was hurt", parts)


def _drawings(damages: Sequence[ClassDamage], places: Sequence[int], names: Sequence[str]) -> list[Part]:
    shown = [names[place] for place in places]
    fewer = "" if len(places) == len(names) else f"The {len(places)} of {len(names)} classes that lost most."
    drawings = []
    for start in range(0, min(len(damages), _MOST_ROWS), _ROWS):
        page = damages[start : start + _ROWS]
        described_rows = "; ".join(
            f"{row.defense or 'the model'} under {row.where}: {names[row.worst]} lost most" for row in page
        )
        svg = inline_svg(class_damage_figure(page, places, shown), f"damage-{start // _ROWS + 1}")
        drawings.append(Drawing(svg, f"Heatmap of recall, a row for each defense. {described_rows}", fewer))
    rest: list[Part] = [*drawings[1:]]
    further = min(len(damages), _MOST_ROWS) - _ROWS
    return [*drawings[:1], *([Folded(f"Classes of {count_of(further, 'further defense')}", rest)] if rest else [])]


def _table(damages: Sequence[ClassDamage], names: Sequence[str]) -> DataTable:
    known = [name for name in _WORST_OFF if any(_mean(row.group, name) is not None for row in damages)]
    main = damages[0].group.metric
    columns = [TableColumn("defense"), TableColumn("attack")]
    columns += [TableColumn(described(name).header or described(name).title, numeric=True) for name in (main, *known)]
    columns += [TableColumn("class that lost most"), TableColumn("its recall (%)", numeric=True)]
    rows = []
    for row in damages:
        recall = row.recalls[row.worst]
        before = None if row.clean is None else row.clean[row.worst]
        rows.append(
            [
                TableCell(row.defense or "(the only one)"),
                TableCell(row.where),
                *(_number(_mean(row.group, name), _mean(row.baseline, name), name) for name in (main, *known)),
                TableCell(names[row.worst]),
                _number(recall, before, main),
            ]
        )
    explained = [f"{described(name).header or name}: {described(name).about}" for name in known]
    caption = "; ".join(["Under the worst attack, below it without one; means over seeds", *explained])
    return DataTable(columns, rows, f"{caption}.")


def _flips(effects: Sequence[LabelFlipEffect]) -> DataTable:
    columns = [TableColumn("attack"), TableColumn("defense"), TableColumn("wanted"), TableColumn("recall (%)", True)]
    rows = [
        [
            TableCell(effect.where),
            TableCell(effect.group.axes.get(DEFENSE) or "(the only one)"),
            TableCell(f"{effect.source} taken for {effect.target}"),
            _number(effect.recall, effect.clean, "accuracy"),
        ]
        for effect in effects
    ]
    caption = (
        "Attacks on one class: the recall of the class that is to be taken for another, below it without the attack."
    )
    return DataTable(columns, rows, caption, 2)


def _mean(group: Group | None, name: str) -> float | None:
    return None if group is None else Group(group.axes, group.records, name).mean


def _number(value: float | None, before: float | None, name: str) -> TableCell:
    if value is None:
        return TableCell("n/a")
    write = described(name).write
    return TableCell(write(value), value, remark="" if before is None else f"without: {write(before)}")
