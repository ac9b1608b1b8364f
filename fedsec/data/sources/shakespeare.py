"""Plays by William Shakespeare, which come with fedsec: nothing to download."""

import gzip
import hashlib
import zlib
from importlib.resources import files
from pathlib import Path
from typing import Literal

from fedsec.data.sources.leaf import leaf_files, read_leaf
from fedsec.data.sources.source import Contents, Location, Place, Source
from fedsec.data.text.characters import CLASSES, PADDING, encode
from fedsec.data.text.plays import roles
from fedsec.data.text.windows import Windows, last_targets
from fedsec.errors import DataError

_FILE = "shakespeare.txt.gz"
_SHA256 = "18c2f0cda7f2a37f7f81cb5068e07c633ea8bed09c30481dd0676424c0a9638d"


class Shakespeare(Source):
    """Five plays, 145 roles, windows of 80 characters and the next character at each place, shipped with fedsec.

    Othello, Macbeth, Twelfth Night, Julius Caesar and As You Like It in the public-domain text of the Globe edition
    (1866); a role is a client of the partition `by_group`. A role's text is cut into windows that touch each other, the
    first four fifths for training, the rest for the test. Characters are LEAF's 80, with a padding and an unknown one.

    A folder with LEAF's own files in train/ and test/ (`dataset.root`; all 37 plays, 80 characters and the next one) is
    read in place of these; its windows overlap by all but one character, and their targets are the input's next
    characters.

    Args:
        length: characters of a window, at least 2; LEAF's files have 80.
        targets: `every`, the next character at each place of a window; `last`, LEAF's own task, in which a window
            tells the one character that follows it: all other places have padding as their target, which counts
            nowhere. A window that ends before its length is left out then.

    Reference: Caldas et al., "LEAF: a benchmark for federated settings", 2018, arXiv:1812.01097; McMahan et al.,
        "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017, arXiv:1602.05629.
    """

    name = "shakespeare"
    layout = "LEAF's train/*.json and test/*.json"
    input_shape = (80,)
    num_classes = 82
    task = "next_token"
    has_groups = True
    embedded_in = "fedsec"
    how_to_get = "it comes with fedsec; LEAF's files may lie in the folder that a scenario names (dataset.root)"

    def __init__(self, length: int = 80, targets: Literal["every", "last"] = "every") -> None:
        if length < 2:
            raise DataError(f"shakespeare: length must be at least 2 characters, got {length}")
        if targets not in ("every", "last"):
            raise DataError(f"shakespeare: targets must be every or last, got {targets!r}")
        self.length, self.targets = length, targets
        self.input_shape = (length,)

    def locate(self, place: Place) -> Location | None:
        """See `Source.locate`."""
        return None if place.why == "embedded" else leaf_files(place.folder)

    def read(self, folder: Path) -> Contents:
        """See `Source.read`."""
        if leaf_files(folder) is not None:
            return read_leaf(folder, CLASSES, inputs=self._window, target=self._next)
        train, test, names = Windows(self.length).splits(roles(shipped_text()))
        if self.targets == "last":
            train, test = last_targets(train), last_targets(test)
        return Contents(train, test, CLASSES, groups=names)

    def _window(self, text: object) -> list[int]:
        if not isinstance(text, str) or len(text) != self.length:
            raise DataError(f"shakespeare: expected windows of {self.length} characters, got {str(text)[:100]!r}")
        return encode(text)

    def _next(self, window: list[int], character: object) -> list[int]:
        before = window[1:] if self.targets == "every" else [PADDING] * (len(window) - 1)
        return [*before, *encode(str(character)[:1])]


def shipped_text() -> str:
    """The plays as they are shipped.

    Raises:
        DataError: the file is not the one that was shipped.
    """
    try:
        content = gzip.decompress((files("fedsec.data.text") / _FILE).read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"shakespeare: {_FILE} of fedsec is unreadable ({error}); install fedsec again") from error
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise DataError(f"shakespeare: {_FILE} of fedsec is not the file that was shipped; install fedsec again")
    return content.decode("ascii")
