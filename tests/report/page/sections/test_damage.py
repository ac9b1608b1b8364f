"""The section on who was hurt: recalls and clients are those of the records."""

from collections.abc import Callable
from typing import Any

import pytest

from fedsec.report.page import DataTable, Drawing, RunView
from fedsec.report.page.sections.damage import damage

FLIP = {"mode": "pair", "source": 0, "target": "<b>dog"}


def test_classes_under_the_worst_attack_of_each_defense(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    for seed, shift in enumerate((0.0, 0.1)):
        cell("none", "mean", seed, accuracy=0.9, per_class_accuracy=[0.9 - shift, 0.8], accuracy_worst_class_mix=0.85)
        cell("ipm", "mean", seed, accuracy=0.8, per_class_accuracy=[0.8, 0.8], accuracy_worst_class_mix=0.8)
        cell(
            *("label_flip", "mean", seed),
            options=FLIP,
            accuracy=0.4,
            per_class_accuracy=[0.2 - shift, 0.7],
            accuracy_worst_class_mix=0.25,
        )
    probed = {"accuracy": 0.7, "per_class_accuracy": [0.7, 0.7], "attack_success_rate": 0.1}
    cell("edge_case", "mean", options={"source": 0, "target": 1}, **probed)
    section = damage(view())
    assert section is not None
    (drawing,) = (part for part in section.parts if isinstance(part, Drawing))
    assert drawing.description.endswith("mean under label_flip: cat lost most")
    assert all(f">{text}<" in drawing.svg for text in ("15", "-70", "70", "-10"))
    hurt, flips = (part for part in section.parts if isinstance(part, DataTable))
    (row,) = hurt.rows
    assert [(shown.text, shown.remark) for shown in row] == [
        ("mean", ""),
        ("label_flip", ""),
        ("40.0", "without: 90.0"),
        ("25.0", "without: 85.0"),
        ("cat", ""),
        ("15.0", "without: 85.0"),
    ]
    (flip,) = flips.rows
    assert [shown.text for shown in flip] == ["label_flip", "mean", "cat taken for <b>dog", "15.0"]
    assert flip[3].remark == "without: 85.0"
    assert flip[3].order == pytest.approx(0.15)


def test_classes_without_examples_and_without_a_baseline(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    cell("ipm", "mean", accuracy=0.5, per_class_accuracy=[None, 0.5])
    section = damage(view())
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, DataTable))
    assert [shown.text for shown in table.rows[0]] == ["mean", "ipm", "50.0", "<b>dog", "50.0"]


def test_what_rounds_to_nothing_has_no_sign(cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]) -> None:
    cell("none", "mean", accuracy=0.9, per_class_accuracy=[0.9, 0.903])
    cell("ipm", "mean", accuracy=0.5, per_class_accuracy=[0.4, 0.9])
    section = damage(view())
    assert section is not None
    (drawing,) = (part for part in section.parts if isinstance(part, Drawing))
    assert "-0<" not in drawing.svg
    assert ">-50<" in drawing.svg
    assert ">0<" in drawing.svg


def test_there_is_none_without_classes_or_attacks(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    cell("none", "mean", accuracy=0.9, per_class_accuracy=[0.9, 0.9])
    cell("ipm", "mean", accuracy=0.5)
    assert damage(view()) is None


def test_classes_of_several_datasets_are_numbers(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView]
) -> None:
    first = cell("ipm", "mean", accuracy=0.5, per_class_accuracy=[0.2, 0.8])
    cell("ipm", "median", accuracy=0.5, per_class_accuracy=[0.8, 0.2])
    path = view().root / first["id"] / "partition.json"
    path.write_text(path.read_text().replace("cat", "shoe"))
    section = damage(view())
    assert section is not None
    (table,) = (part for part in section.parts if isinstance(part, DataTable))
    assert [row[3].text for row in table.rows] == ["0", "1"]
