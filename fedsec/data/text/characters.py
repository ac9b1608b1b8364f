"""Characters as numbers: LEAF's alphabet behind a padding and an unknown character.

Reference: Caldas et al., "LEAF: a benchmark for federated settings", 2018, arXiv:1812.01097.
"""

from collections.abc import Iterable, Sequence
from string import ascii_lowercase, ascii_uppercase, digits

PADDING, UNKNOWN = 0, 1
"""The numbers of what fills a sequence up, and of a character that the alphabet lacks."""
ALPHABET = "\n !\"&'(),-." + digits + ":;>?" + ascii_uppercase + "[]" + ascii_lowercase + "}"
"""The 80 characters that LEAF tells apart, in the order of their codes."""
CLASSES = ("<pad>", "<unknown>", *ALPHABET)
"""What the numbers stand for; names of a text's classes."""

_NUMBERS = {character: number for number, character in enumerate(CLASSES)}
_SHOWN = {PADDING: "", UNKNOWN: "\N{REPLACEMENT CHARACTER}"}


def encode(text: str) -> list[int]:
    """The number of each character."""
    return [_NUMBERS.get(character, UNKNOWN) for character in text]


def decode(numbers: Iterable[int]) -> str:
    """The text that numbers stand for; padding is none."""
    return "".join(_SHOWN.get(int(number), CLASSES[int(number)]) for number in numbers)


def spelled(numbers: Iterable[int], classes: Sequence[str]) -> str:
    """The text that a dataset's numbers stand for; padding is none.

    Args:
        numbers: of tokens.
        classes: what each number stands for.
    """
    return "".join(classes[number] for number in numbers if number != PADDING)
