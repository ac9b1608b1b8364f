"""Folders of inversions and of recordings."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from fedsec.errors import InputError, count_of
from fedsec.files import read_json, remove_unfinished
from fedsec.inversion.written import RESULT, clear, listed
from fedsec.recording.manifest import MANIFEST, Manifest, read_manifest
from fedsec.runs.folders.folder import LeftFolder, Part, State

__all__ = ["InversionFolder", "RecordingFolder"]


class InversionFolder(LeftFolder):
    """What `fedsec invert` left: `result.json`, which lists the pictures and tensors beside it."""

    kind = "inversion"

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        """Whether its `result.json` is an inversion's."""
        return bool(listed(path))

    def state(self) -> State:
        """Whether it was stopped before its end."""
        return State("interrupted" if self._content().get("interrupted") else "done")

    def about(self) -> str:
        """What was inverted, and how well it went."""
        content = self._content()
        return f"{content.get('inversion')} on {content.get('model')}: {content.get('verdict')}"

    def owned(self, part: Part) -> list[Path]:
        """The files that `result.json` lists; it has no checkpoints and no models."""
        return [path for name in listed(self.path) if (path := self.path / name).is_file()] if part == "all" else []

    def _remove(self, part: Part) -> None:
        if part == "all":
            clear(self.path)

    def _content(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            return dict(read_json(self.path / RESULT))
        return {}


class RecordingFolder(LeftFolder):
    """What `fedsec.record` or `fedsec run --record` left: a manifest and a file for each round."""

    kind = "recording"

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        """Whether its manifest is a recording's."""
        try:
            read_manifest(path)
        except InputError:
            return False
        return True

    def state(self) -> State:
        """A recording is whole after each round; whether more were to come is not known."""
        rounds = len(self._manifest().rounds)
        return State("running" if self.is_busy() else "done", rounds, rounds)

    def about(self) -> str:
        """What it holds."""
        manifest = self._manifest()
        clients = "" if manifest.num_clients is None else f" of {count_of(manifest.num_clients, 'client')}"
        return f"{manifest.holds}{clients} in {count_of(len(manifest.rounds), 'round')}"

    def owned(self, part: Part) -> list[Path]:
        """The rounds that the manifest lists, and the manifest; it has no checkpoints and no models."""
        if part != "all":
            return []
        names = [*(entry.file for entry in self._manifest().rounds), MANIFEST]
        return [path for name in names if (path := self.path / name).is_file()]

    def _remove(self, part: Part) -> None:
        owned = self.owned(part)
        if owned:
            remove_unfinished(self.path, lambda name: name in [path.name for path in owned])
        for path in owned:
            path.unlink()

    def _manifest(self) -> Manifest:
        return read_manifest(self.path)
