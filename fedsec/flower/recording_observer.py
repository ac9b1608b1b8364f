"""A recording of all that a Flower server receives, to be looked at afterwards by `fedsec replay`."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedsec.flower.received import Received
from fedsec.recording import record as recording

__all__ = ["RoundRecording", "record"]


class RoundRecording:
    """Writes every round that it is shown; see `record`, which makes one.

    Attributes:
        recorder: of the recording.
    """

    def __init__(self, folder: str | Path, **options: Any) -> None:
        self.recorder = recording(folder, **options)

    def __call__(self, received: Received) -> None:
        """Write a round down; nothing of one in which nobody sent a model."""
        if not received.replies:
            return
        said = {node: received.num_examples.get(node) for node in received.replies}
        examples: dict[int | str, float] = {node: count for node, count in said.items() if count is not None}
        self.recorder.round(
            received.round,
            sent=received.sent,
            received=received.replies,
            num_examples=examples if len(examples) == len(said) else None,
        )

    def close(self) -> None:
        """Let go of the folder; every round is on the disk already."""
        self.recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def record(folder: str | Path, **options: Any) -> RoundRecording:
    """An observer that writes each round to a recording, one file a round, clients by node id.

        with record("recording") as recorder:
            RobustStrategy(Median(), observers=[recorder]).start(...)

    Replies that cannot be used are not written: what is recorded is what the rule was asked about. Where an attack is
    simulated, it is in what was received.

    Args:
        folder: of the recording; it is made.
        options: of `fedsec.record`: `num_clients`, `local`, `about`, `go_on`, ...

    Raises:
        InputError: the folder holds something else, or a recording that does not go with this one.
    """
    return RoundRecording(folder, **options)
