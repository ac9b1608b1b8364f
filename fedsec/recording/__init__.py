"""What a server received, kept in files, round by round: `fedsec.record` writes them, `open_recording` reads them.

Importing this package is cheap: PyTorch is loaded with the first name that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsec.recording.recorder import Recorder, record
    from fedsec.recording.recording import RecordedRound, Recording, open_recording

__all__ = ["RecordedRound", "Recorder", "Recording", "open_recording", "record"]

_HOMES = {
    "Recorder": "fedsec.recording.recorder",
    "record": "fedsec.recording.recorder",
    "RecordedRound": "fedsec.recording.recording",
    "Recording": "fedsec.recording.recording",
    "open_recording": "fedsec.recording.recording",
}

if not TYPE_CHECKING:  # a type checker is to know the names, not to take any name for one

    def __getattr__(name: str) -> Any:
        """Load a name when it is first used."""
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
