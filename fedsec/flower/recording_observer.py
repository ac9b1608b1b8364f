"""A recording of all that a Flower server receives, to be looked at afterwards by `fedsec replay`."""

from collections.abc import Mapping
from logging import WARNING
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flwr.supercore import log
from torch import Tensor

from fedsec.flower.received import Received
from fedsec.recording import record as recording
from fedsec.threat.state_entries import listed

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
            received={node: _like_sent(reply, received.sent, node) for node, reply in received.replies.items()},
            num_examples=examples if len(examples) == len(said) and any(examples.values()) else None,
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


def _like_sent(reply: Mapping[str, Tensor], sent: Mapping[str, Tensor], node: int) -> dict[str, Tensor]:
    """A reply in the form of what was sent: a rule takes what files of one form cannot, and no node may end a run."""
    like, changed = dict[str, Tensor](), list[str]()
    for name, tensor in sent.items():
        own = reply.get(name)
        if own is not None and own.shape == tensor.shape and own.is_floating_point() == tensor.is_floating_point():
            like[name] = own.to(tensor.dtype)
        else:  # counters and the like, of which no rule looks at a node's own
            like[name] = tensor
        if own is None or own.dtype != tensor.dtype or own.shape != tensor.shape:
            changed.append(name)
    if changed:
        log(WARNING, "recording: node %s sent %s of another kind; recorded like the model sent", node, listed(changed))
    return like


def record(folder: str | Path, **options: Any) -> RoundRecording:
    """An observer that writes each round to a recording, one file a round, clients by node id.

        with record("recording") as recorder:
            RobustStrategy(Median(), observers=[recorder]).start(...)

    Replies that cannot be used are not written: what is recorded is what the rule was asked about. What a node sends in
    another dtype, or leaves out of counters, is written like the model that was sent, and the log says so. Where an
    attack is simulated, it is in what was received.

    Args:
        folder: of the recording; it is made.
        options: of `fedsec.record`: `num_clients`, `local`, `about`, `go_on`, ...

    Raises:
        InputError: the folder holds something else, or a recording that does not go with this one.
    """
    return RoundRecording(folder, **options)
