"""The exceptions fedsec raises on purpose. Anything else that escapes is a defect."""

import unicodedata

_JOINERS = "\u200c\u200d"  # parts of words and of emoji


def printable(text: str, keep: str = "") -> str:
    """Text that a terminal shows as it is and every encoding takes: what steers or hides it is escaped.

    Names of files may hold anything, escape sequences and bytes that are not UTF-8 included.

    Args:
        text: as it came.
        keep: characters to leave alone, for instance line breaks.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in keep or not _steers(character) else _escaped(character) for character in text
    )


def count_of(number: int, noun: str) -> str:
    """A number and what it counts, in the singular where it is 1: `1 cell`, `12 cells`.

    Args:
        number: how many.
        noun: whose plural ends in an s.
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def with_article(noun: str) -> str:
    """A noun after `a` or `an`.

    Args:
        noun: whose first letter tells.
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def size_of(number: float) -> str:
    """A number of bytes as people say it: `512 B`, `34 KiB`, `1.2 GiB`, `9,766 GiB`.

    Args:
        number: of bytes.
    """
    for unit in ("B", "KiB", "MiB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if number >= 9.95 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB" if number < 99.95 else f"{number:,.0f} GiB"


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class FedsecError(Exception):
    """Base of every deliberate error; its text is meant for the user and needs no traceback."""

    def __str__(self) -> str:
        """The text, fit to be printed whatever names are in it."""
        return printable(super().__str__(), keep="\n\t")


class InputError(FedsecError, ValueError):
    """The user asked for something impossible or malformed (command line: exit code 2)."""


class ScenarioError(InputError):
    """A scenario file is malformed or contradicts itself; the text names file, key and expectation."""


class DataError(InputError):
    """A dataset is missing, corrupt or unusable; the text says what was looked for, and where."""


class PartitionError(InputError):
    """A partition cannot be made as asked (too few examples, impossible minimum, ...)."""


class BusyError(InputError):
    """Another process is using the same run folder."""


class AggregationError(FedsecError, RuntimeError):
    """A round cannot be aggregated, for instance because too few finite updates are left."""


class DivergenceError(AggregationError):
    """What a server trains is no longer finite."""
