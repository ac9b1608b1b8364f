"""Errors of Python functions in the words of the command that called them: `--cpus-per-cell` for `cpus_per_cell`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from fedsec.errors import DataError, InputError, PartitionError, ScenarioError

__all__ = ["in_option_words", "option_words"]

_ABOUT_THE_FILE = (ScenarioError, DataError, PartitionError)
"""Errors that speak of keys of a file, which are no options."""
_ALSO_OF_METHODS = ("num_byzantine", "batch_size", "num_classes")
"""Parameters that methods have as well; only a message about the command's own means the option."""


@contextmanager
def in_option_words(names: Sequence[str], renamed: Mapping[str, str] | None = None) -> Iterator[None]:
    """Let what goes wrong meanwhile be said with options in place of a function's parameters.

    Args:
        names: of the function's parameters that are options under the same name.
        renamed: parameter -> option, where that is another one.
    """
    try:
        yield
    except _ABOUT_THE_FILE:
        raise
    except InputError as error:
        options = {name: f"--{name.replace('_', '-')}" for name in names} | dict(renamed or {})
        said, text = error.args[0] if error.args else "", ""
        if isinstance(said, str):
            text = option_words(said, options)
        if text and text != said:
            raise type(error)(text) from error
        raise


def option_words(text: str, options: Mapping[str, str]) -> str:
    """A message with options in place of parameters.

    A parameter is meant where a message begins with it (`rounds '3-': expected ...`, `device must be ...`), where it is
    given a value (`ray=auto`), and where a word with an underscore is its name.

    Args:
        text: the message.
        options: parameter -> option.
    """
    either = "|".join(map(re.escape, sorted(options, key=len, reverse=True)))
    begun = re.sub(rf"^({either})(?=: | must | '| \[|, )", lambda match: options[match[1]], text)
    words = [name for name in options if "_" in name and (begun != text or name not in _ALSO_OF_METHODS)]
    switched = re.sub(rf"(?<![\w-])({either})=True\b", lambda match: options[match[1]], begun)
    given = re.sub(rf"(?<![\w-])({either})=(?=\S)", lambda match: f"{options[match[1]]} ", switched)
    if not words:
        return given
    inside = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return re.sub(rf"(?<![\w.-])({inside})\b", lambda match: options[match[1]], given)
