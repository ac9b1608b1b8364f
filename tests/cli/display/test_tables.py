"""Tables of the command line: names and words whole in every width."""

import io

import pytest
from rich.console import Console

from fedsec.cli.display.tables import Column, print_table

COLUMNS = (
    Column("name"),
    Column("what", comfort=30),
    Column("paper", comfort=12, optional=True),
    Column("empty", optional=True),
)
ROWS = [
    ("coordinate_wise_median", "the middle of the values in each of the coordinates", "Somebody, 2018", ""),
    ("x", "a_word_that_is_rather_long and others", "", ""),
]


def printed(width: int, *, terminal: bool = True, columns: tuple[Column, ...] = COLUMNS) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, color_system=None, width=width)
    print_table(console, "names", columns, ROWS)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", range(30, 100, 7))
def test_no_word_is_broken_and_nothing_overflows(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert {word for row in ROWS for cell in row[:2] for word in cell.split()} <= set(words)


def test_a_narrow_terminal_does_without_what_is_optional_and_then_stacks() -> None:
    assert "Somebody, 2018" in " ".join(printed(90))
    assert "Somebody" not in " ".join(printed(60))
    assert printed(40)[:3] == [
        "names",
        f"{'coordinate_wise_median':40}",
        f"{'  the middle of the values in each of':40}",
    ]


def test_a_column_without_content_is_left_out() -> None:
    assert "empty" not in " ".join(printed(200))


def test_numbers_end_below_each_other_and_are_told_apart_when_stacked() -> None:
    columns = (Column("name"), Column("what"), Column("number", right=True), Column("empty"))
    assert printed(200, columns=columns)[3].endswith("  Somebody, 2018")
    assert any("number Somebody, 2018" in line for line in printed(30, columns=columns))


def test_without_a_terminal_each_row_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert printed(30, terminal=False) == [
        "names",
        f"{'name':22}  {'what':51}  paper",
        f"{ROWS[0][0]}  {ROWS[0][1]}  {ROWS[0][2]}",
        f"{'x':22}  {ROWS[1][1]}",
        "",
    ]


def test_whoever_says_how_many_columns_there_are_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, printed(40, terminal=False))) <= 40
