"""A dataset looked at once, before anybody works with it: what is wrong with it, and a fingerprint of its content.

The result is kept in the user's cache as long as no file changes in name, size or time, so that large datasets are
read for it once, not for every run.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsec.data.cache import cache_folder
from fedsec.data.class_names import class_number
from fedsec.files import write_json

if TYPE_CHECKING:
    from fedsec.data.dataset import Dataset
    from fedsec.data.sources.source import Source

_REVISION = 2
"""To be raised with any change of what is read or how it is hashed."""


@dataclass(frozen=True)
class Survey:
    """What a dataset is, found out before it is used.

    Args:
        name: in the scenario.
        source: where it lies; None if it will be downloaded when it is first loaded, and nothing else is known then.
        fingerprint: `Dataset.fingerprint` of the whole dataset: it changes with any pixel, label or class name.
        num_train: training examples.
        num_test: test examples.
        input_shape: of one input.
        num_classes: number of classes, 0 where targets are numbers.
        notes: what was passed over or taken for something else, a sentence each.
        classes: their names, in the order of the labels.
    """

    name: str
    source: str | None = None
    fingerprint: str = ""
    num_train: int = 0
    num_test: int = 0
    input_shape: tuple[int, ...] = ()
    num_classes: int = 0
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: "Dataset") -> "Survey":
        """What a loaded dataset is."""
        return cls(
            dataset.name,
            dataset.source,
            dataset.fingerprint,
            len(dataset.train),
            len(dataset.test),
            dataset.input_shape,
            dataset.num_classes,
            dataset.notes,
            dataset.classes,
        )

    def class_number(self, name: int | str) -> int:
        """As `Dataset.class_number`."""
        return class_number(self.name, self.classes, name)


def survey(source: "Source", root: Path | None, *, download: bool, options: Mapping[str, Any] | None = None) -> Survey:
    """Look at a dataset; see `fedsec.data.check`."""
    location, _ = source.search(root)
    if location is None and download and source.downloadable:
        return Survey(source.name)
    files = [] if location is None else source.files(location)
    path = cache_folder() / "surveys" / f"{_key(source, root, options)}.json"
    stamp = _stamp(files)
    known = _load(path, stamp) if stamp else None
    if known is None:
        known = Survey.of(source.load(root, download=False, progress=None))
        if stamp:
            _save(path, stamp, known)
    return known


def _key(source: "Source", root: Path | None, options: Mapping[str, Any] | None) -> str:
    where = f"{source.name}\0{root}\0{os.environ.get('FEDSEC_DATA')}"
    if options:
        where += f"\0{json.dumps(dict(options), sort_keys=True)}"
    return hashlib.sha256(os.fsencode(where)).hexdigest()[:16]


def _stamp(files: Sequence[Path]) -> str:
    """Changes when one of the files does; nothing if there are none, or one that cannot be looked at."""
    if not files:
        return ""
    digest = hashlib.sha256(f"fedsec survey {_REVISION}".encode())
    for path in files:
        try:
            facts = path.stat()
        except OSError:
            return ""
        digest.update(os.fsencode(path) + f"\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ino}\n".encode())
    return digest.hexdigest()


def _load(path: Path, stamp: str) -> Survey | None:
    """What was kept under this stamp; a damaged file is none."""
    try:
        record = json.loads(path.read_bytes())
        if record["stamp"] != stamp:
            return None
        fields = record["survey"]
        if hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest() != record["digest"]:
            return None
        tuples = {key: tuple(fields[key]) for key in ("input_shape", "notes", "classes")}
        return Survey(**{**fields, **tuples})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(path: Path, stamp: str, known: Survey) -> None:
    """Keep a survey; a cache that cannot be written costs time, not correctness."""
    fields = asdict(known)
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    with suppress(OSError):
        write_json(path, {"stamp": stamp, "survey": fields, "digest": digest})
