"""Curves say in words where they end, and partitions who holds how much."""

from fedsec.report.page.parts import Drawing
from fedsec.report.page.sections.curves import curves
from fedsec.report.page.sections.partitions import partitions
from tests.report.page.sections.conftest import AddCell, Look


def test_a_picture_of_curves_says_where_they_end(cell: AddCell, view: Look) -> None:
    for seed, end in enumerate((0.8, 0.9)):
        rounds = [{"round": number, "accuracy": value} for number, value in ((1, 0.5), (2, end))]
        cell("none", "mean", seed, rounds=rounds, accuracy=end)
        cell("flip", "mean", seed, rounds=rounds[:1], accuracy=0.5)
    section = curves(view())
    assert section is not None
    (drawing,) = section.parts
    assert isinstance(drawing, Drawing)
    assert drawing.description == "accuracy (%) by round, up to round 2. In the end: no attack: 85.0; flip: 50.0."
    assert drawing.caption.endswith("the mean over seeds; the band is the smallest and the largest of them.")
    assert section.title == "Accuracy (%) by round"


def test_a_picture_of_a_partition_says_who_holds_what(cell: AddCell, view: Look) -> None:
    cell("none", "mean")
    section = partitions(view())
    assert section is not None
    (drawing,) = section.parts
    assert isinstance(drawing, Drawing)
    assert drawing.description == (
        "26 examples of 2 classes over 4 clients: 2 to 10 each, half of them at least 7. Of a client's examples 70% "
        "are of its most frequent class on average."
    )
    assert "&lt;b&gt;dog" in drawing.svg


def test_nothing_finished_draws_nothing(cell: AddCell, view: Look) -> None:
    cell("none", "mean", record={"status": "failed", "error": "it broke"})
    assert curves(view()) is None
    assert partitions(view()) is None
