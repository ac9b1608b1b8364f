"""What a server received, kept in files, round by round: `fedsec.record` writes them, `open_recording` reads them."""

from fedsec.recording.recorder import Recorder, record
from fedsec.recording.recording import RecordedRound, Recording, open_recording

__all__ = ["RecordedRound", "Recorder", "Recording", "open_recording", "record"]
