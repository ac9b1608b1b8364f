"""Classes by name."""

import difflib
from collections.abc import Sequence

from fedsec.errors import DataError

_MOST_SHOWN = 20


def class_number(dataset: str, classes: Sequence[str], name: int | str) -> int:
    """The label of a class.

    Args:
        dataset: whose classes they are, for messages.
        classes: names of all of them, in the order of the labels.
        name: of the class, upper or lower case; or its number already.

    Raises:
        DataError: no such class, or several whose names differ in case only; the text lists the known ones.
    """
    if isinstance(name, int) and not isinstance(name, bool):
        if not 0 <= name < len(classes):
            raise DataError(f"{dataset}: classes are numbered 0..{len(classes) - 1}, got {name}")
        return name
    if name in classes:
        return classes.index(name)
    folded = [known.casefold() for known in classes]
    if isinstance(name, str) and folded.count(name.casefold()) == 1:
        return folded.index(name.casefold())
    close = difflib.get_close_matches(str(name), classes, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(classes[:_MOST_SHOWN]) + (", ..." if len(classes) > _MOST_SHOWN else "")
    raise DataError(f"{dataset}: unknown class {name!r}; known: {shown or 'none'}{hint}")
