"""Plays in plain text: who says what.

The layout is that of the shipped file: a speech starts with the speaker's name in capitals and a period on a line of
its own and ends with an empty line; directions stand in square brackets; a play starts with its title and the line
`by William Shakespeare`, and nobody speaks before its first act.
"""

import re
from collections.abc import Iterator

_AUTHOR = "by William Shakespeare"
_SPEAKER = re.compile(r"[A-Z][A-Z ]+\.")
_HEADING = re.compile(r"(ACT|SCENE) [IVX]+\.")
_DIRECTION = re.compile(r"\[[^\]]*\]")


def roles(text: str) -> dict[str, str]:
    """All that each role of each play says, in order, its speeches joined by a line break.

    Args:
        text: one play or several.

    Returns:
        `PLAY: SPEAKER` -> text, in the order in which they first speak.
    """
    lines: dict[str, list[str]] = {}
    for play, speaker, speech in _speeches(text):
        lines.setdefault(f"{play}: {speaker}", []).append(speech)
    return {role: "\n".join(speeches) for role, speeches in lines.items()}


def _speeches(text: str) -> Iterator[tuple[str, str, str]]:
    """(play, speaker, what is said), one after another."""
    play = title = ""
    begun = False
    for block in re.split(r"\n\s*\n", _DIRECTION.sub("", text.replace("\r\n", "\n"))):
        first, _, rest = block.strip().partition("\n")
        if first.strip() == _AUTHOR:
            play, begun = title, False
        elif first.startswith("ACT I"):
            begun = True
        elif begun and _SPEAKER.fullmatch(first.strip()) and not _HEADING.fullmatch(first.strip()):
            speech = "\n".join(line.strip() for line in rest.splitlines() if line.strip())
            if speech:
                yield play, first.strip().removesuffix("."), speech
        elif not rest:
            title = first.strip()
