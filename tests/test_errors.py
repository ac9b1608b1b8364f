"""What is said to a user can be shown, whatever names are in it."""

import pytest

from fedsec.errors import DataError, count_of, printable, size_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ~ text", "plain ~ text"),
        ("\x1b[2J\x00\x7f\x9b", r"\x1b[2J\x00\x7f\x9b"),
        ("two\nlines\r", r"two\x0alines\x0d"),
        ("\udce9t\udce9", r"\xe9t\xe9"),
        ("\ud800", r"\ud800"),
        ("a\u202eb\u2028", r"a\u202eb\u2028"),
        ("\U000e0001", r"\U000e0001"),
        ("caf\u00e9 \u4e2d \U0001f469\u200d\U0001f52c", "caf\u00e9 \u4e2d \U0001f469\u200d\U0001f52c"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()


def test_errors_keep_their_lines_and_nothing_else() -> None:
    error = DataError("image \x1b]0;owned\x07.png:\n\tunreadable \udcff")
    assert str(error) == "image \\x1b]0;owned\\x07.png:\n\tunreadable \\xff"


def test_one_is_counted_in_the_singular() -> None:
    counts = [count_of(number, "more cell") for number in (0, 1, 2, 12345)]
    assert counts == ["0 more cells", "1 more cell", "2 more cells", "12,345 more cells"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (34_000, "33 KiB"),
        (1.5 * 2**20, "1.5 MiB"),
        (2**30, "1.0 GiB"),
        (1e13, "9,313 GiB"),
    ],
)
def test_sizes_are_said_as_people_do(number: float, text: str) -> None:
    assert size_of(number) == text
