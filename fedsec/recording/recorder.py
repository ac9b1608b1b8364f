"""`fedsec.record`: writes down what a server receives, from any loop."""

import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from fedsec import __version__
from fedsec.errors import BusyError, InputError
from fedsec.files import remove_unfinished
from fedsec.recording.arguments import (
    are_flat,
    check_kind,
    checked_id,
    client_name,
    in_order,
    is_one_state,
    measured,
    members,
    plain,
)
from fedsec.recording.manifest import MANIFEST, Holds, Manifest, read_manifest, write_manifest
from fedsec.recording.messages import ROW, Names, check_form, form_of, named_tensors
from fedsec.recording.round_file import ClientId, RoundContent, stacked, write_round
from fedsec.threat import StateLayout

__all__ = ["Recorder", "record"]


def record(
    folder: Path | str,
    *,
    reference: nn.Module | Mapping[str, Any] | Sequence[Any] | None = None,
    holds: Holds | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    buffers: Collection[str] | None = None,
    num_clients: int | None = None,
    local: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    go_on: bool = False,
) -> "Recorder":
    """Begin to write down what a server receives, one file a round; `Recorder.round` then takes each round.

        with fedsec.record("seen", reference=model, local={"lr": 0.1, "steps": 5}) as recording:
            for number in range(1, rounds + 1):
                sent = model.state_dict()
                states = {client: train(client, sent) for client in clients}
                recording.round(number, sent=sent, received=states, num_examples=sizes)
                ...

    What is written is what was received, to the bit: nothing is averaged, clipped or left out. A recording that is
    interrupted is whole up to its last finished round. A round takes clients x parameters x 4 bytes of disk in float32
    (and, while it is written, as much memory), and once more what was sent.

    Args:
        folder: of the recording; it is made.
        reference: a model, a state dict or a list of arrays like those that are exchanged: names, shapes, dtypes. By
            default the first round's.
        holds: what clients send: their `states` after training; their `updates`, how far these moved; or `gradients`,
            against which the server steps with the rate `local["lr"]`. By default states, but updates where clients
            send flat rows.
        shapes: the parameters of a flat row, by name and in order; without them it has no layers, and no model.
        buffers: entries that are no parameters, beside the running statistics of normalization and whole numbers. A
            reference that is a model knows its own, and what is frozen or tied.
        num_clients: of the federation, whoever takes part in a round.
        local: the clients' training as far as the server knows it: `lr`, `steps`, `batch_size`, ...
        about: anything else that JSON can hold. Replays look for `model` (`package.module:factory`, or a name of
            fedsec's), `model_options`, `input_shape`, `num_classes` and `normalization`.
        go_on: whether to append to a recording that is there, which then must be of the same kind; `about` is added to
            what was told before.

    Returns:
        The recorder, a context manager.

    Raises:
        InputError: the folder holds something else, or a recording that does not go with this one.
        BusyError: somebody else is writing to it.
    """
    return Recorder(
        Path(folder),
        reference=reference,
        holds=holds,
        shapes=shapes,
        buffers=buffers,
        num_clients=num_clients,
        local=local,
        about=about,
        go_on=go_on,
    )


class Recorder:
    """Writes rounds to a recording; see `record`, which makes one.

    Attributes:
        folder: of the recording.
    """

    def __init__(
        self,
        folder: Path,
        *,
        reference: nn.Module | Mapping[str, Any] | Sequence[Any] | None = None,
        holds: Holds | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        buffers: Collection[str] | None = None,
        num_clients: int | None = None,
        local: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
        go_on: bool = False,
    ) -> None:
        if holds is not None and holds not in get_args(Holds):
            raise InputError(f"record: holds must be {', '.join(get_args(Holds))}, got {holds!r}")
        if num_clients is not None and num_clients < 1:
            raise InputError(f"record: num_clients must be at least 1, got {num_clients}")
        self.folder = folder
        self._holds, self._num_clients = holds, num_clients
        self._local, self._about = plain("local", local), plain("about", about)
        keys: tuple[str, ...] = ()
        self._reference: dict[str, Tensor] | None = None
        if reference is not None:
            self._reference = named_tensors("record: reference", reference, Names())
            keys = tuple(self._reference)
        self._names = Names(keys, None if shapes is None else {name: tuple(shape) for name, shape in shapes.items()})
        self._buffers = buffers
        self._model = reference if isinstance(reference, nn.Module) else None
        self._lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
        self._manifest: Manifest | None = None
        self._take_folder(go_on)

    @property
    def rounds(self) -> tuple[int, ...]:
        """Numbers of the rounds that are on the disk."""
        return () if self._manifest is None else tuple(listed.round for listed in self._manifest.rounds)

    def round(
        self,
        number: int | None = None,
        *,
        received: Mapping[ClientId, Any] | Any,
        sent: Any = None,
        clients: Sequence[ClientId] | None = None,
        num_examples: Mapping[ClientId, float] | Sequence[float] | None = None,
        weights: Mapping[ClientId, float] | Sequence[float] | None = None,
        after: Any = None,
        byzantine: Collection[ClientId] | None = None,
        metrics: Mapping[str, float] | None = None,
        local: Mapping[str, Any] | None = None,
    ) -> int:
        """Write down one round; when this returns, it is on the disk.

        Args:
            number: of the round, above the last one's; the next one by default. Rounds may be left out.
            received: what each client sent, by its id (a whole number or text); or a list or a matrix with one message
                a row, and `clients`. A message is a state dict, a list of arrays, or a flat row.
            sent: what the server had sent them, a message of the same kind. Needed to tell updates from states, and for
                models; rows of updates do without it.
            clients: ids of the rows, where `received` does not name them; 0, 1, ... by default.
            num_examples: that each client says it has: weights of the mean.
            weights: by which the loop's mean counts the clients, where these are not their numbers of examples.
            after: the global model that the server made of the round. The next round's `sent` tells it, too, so that it
                is worth most in the last round.
            byzantine: which of the clients are known to be Byzantine, in a simulation.
            metrics: of the model after this round, such as {"accuracy": 0.81}.
            local: the clients' training in this round, where it differs from the recording's.

        Returns:
            The round's number.

        Raises:
            InputError: something is missing, misshapen or contradicts the rounds before; names the client and the
                entry. The recording is as it was.
        """
        number = self._checked_number(number)
        where = f"round {number}"
        messages = self._messages(where, received, clients)
        ids = tuple(messages)
        given = None if sent is None else named_tensors(f"{where}, sent", sent, self._names)
        manifest = self._manifest or self._begun(where, given, messages, are_flat(received))
        if sent is None and manifest.sent:
            raise InputError(f"{where}: expected what the server sent, as in the rounds before")
        if manifest.holds == "gradients" and not (local or {}).get("lr", manifest.local.get("lr")):
            raise InputError(f"{where}: gradients move a model by the server's rate; expected local to have lr")
        checked = [
            check_form(client_name(where, client), message, manifest.received) for client, message in messages.items()
        ]
        start = {} if given is None else check_form(f"{where}, sent", given, manifest.sent)
        if self._manifest is None:
            check_kind(where, manifest, start, checked)
        end = {}
        if after is not None:
            end = check_form(f"{where}, after", named_tensors(f"{where}, after", after, self._names), manifest.sent)
        content = RoundContent(
            number,
            ids,
            {name: stacked([message[name] for message in checked]) for name in manifest.received},
            {name: row.cpu().clone().contiguous() for name, row in start.items()},
            {name: row.cpu().clone().contiguous() for name, row in end.items()},
            in_order(f"{where}: num_examples", num_examples, ids),
            in_order(f"{where}: weights", weights, ids),
            members(where, byzantine, ids),
            measured(where, metrics),
            plain(f"{where}: local", local),
        )
        self._manifest = manifest.and_round(write_round(self.folder, content))
        write_manifest(self.folder, self._manifest)
        return number

    def forget_after(self, number: int) -> None:
        """Take back the rounds after one, for a loop that begins again from an earlier checkpoint.

        Args:
            number: of the last round to keep; 0 for none.
        """
        if self._manifest is None:
            return
        lost = [listed for listed in self._manifest.rounds if listed.round > number]
        self._manifest = self._manifest.until(number)
        write_manifest(self.folder, self._manifest)
        for listed in lost:
            (self.folder / listed.file).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the folder; every round is on the disk already."""
        self._lock.release()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the folder."""
        self.close()

    def _take_folder(self, go_on: bool) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            message = f"{self.folder}: another recorder is writing here; close it, or take another folder"
            raise BusyError(message) from None
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be used as a folder ({error.strerror or error})") from error
        try:
            self._manifest = self._existing(go_on)
        except BaseException:
            self._lock.release()
            raise

    def _existing(self, go_on: bool) -> Manifest | None:
        """The recording that is there, if it is to be continued."""
        if not (self.folder / MANIFEST).exists():
            return None
        manifest = read_manifest(self.folder)
        if not go_on:
            numbers = [listed.round for listed in manifest.rounds]
            held = f"rounds {numbers[0]} to {numbers[-1]}" if numbers else "no rounds"
            raise InputError(
                f"{self.folder}: holds a recording with {held}; expected go_on=True to append to it, or another folder"
            )
        remove_unfinished(self.folder, lambda name: name == MANIFEST or name.startswith("round-"))
        if self._holds not in (None, manifest.holds):
            raise InputError(f"{self.folder}: holds {manifest.holds}; expected holds={manifest.holds!r} to go on")
        if self._reference is not None and manifest.sent:
            check_form(f"{self.folder}: reference", self._reference, manifest.sent)
        if self._names.shapes is not None and self._names.shapes != manifest.shapes():
            raise InputError(f"{self.folder}: holds rows of {manifest.shapes()}; expected these shapes to go on")
        description = replace(
            manifest,
            num_clients=manifest.num_clients or self._num_clients,
            local=manifest.local or self._local,
            about={**manifest.about, **self._about},
        )
        if self._num_clients not in (None, description.num_clients):
            raise InputError(
                f"{self.folder}: is of {description.num_clients} clients; expected the same num_clients to go on"
            )
        if self._local not in ({}, description.local):
            raise InputError(
                f"{self.folder}: its clients train by {description.local}; expected the same local to go on, or "
                "another one of single rounds"
            )
        if self._names.shapes is None and not self._names.keys and manifest.parameters != (ROW,):
            self._names = Names(tuple(manifest.sent), manifest.shapes())
        return description

    def _checked_number(self, number: int | None) -> int:
        last = self.rounds[-1] if self.rounds else 0
        if number is None:
            return last + 1
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"record: rounds are counted from 1, got {number!r}")
        if number <= last:
            raise InputError(
                f"record: round {number} comes after round {last}, which is recorded; rounds are only appended "
                "(forget_after takes some back)"
            )
        return number

    def _messages(
        self, where: str, received: Any, clients: Sequence[ClientId] | None
    ) -> dict[ClientId, dict[str, Tensor]]:
        if isinstance(received, Mapping):
            if clients is not None:
                raise InputError(f"{where}: received names its clients already; expected no `clients` beside it")
            by_client = dict(received)
            if by_client and all(isinstance(key, str) for key in by_client) and is_one_state(by_client):
                raise InputError(
                    f"{where}: received is one state dict; expected one for each client: {{client: state_dict, ...}}"
                )
        else:
            rows = list(received)
            ids = list(range(len(rows))) if clients is None else list(clients)
            if len(ids) != len(rows) or len(set(ids)) != len(ids):
                raise InputError(f"{where}: expected {len(rows)} different client ids, one a message, got {ids}")
            by_client = dict(zip(ids, rows, strict=True))
        if not by_client:
            raise InputError(f"{where}: nobody sent anything; leave such rounds out")
        by_client = {checked_id(where, client): message for client, message in by_client.items()}
        return {
            client: named_tensors(client_name(where, client), message, self._names)
            for client, message in by_client.items()
        }

    def _begun(
        self, where: str, sent: dict[str, Tensor] | None, messages: Mapping[ClientId, dict[str, Tensor]], flat: bool
    ) -> Manifest:
        """The manifest of a recording that begins with these messages."""
        client, message = next(iter(messages.items()))
        holds: Holds = self._holds or ("updates" if flat else "states")
        if holds == "states" and sent is None:
            raise InputError(f"{where}: clients send states; expected what the server sent them, too, to tell updates")
        if self._reference is not None and sent is not None:
            check_form(f"{where}, sent", sent, form_of(self._reference))
        exchanged = message if sent is None else {name: message[name] for name in sent if name in message}
        for name in message:
            if name not in exchanged:
                raise InputError(f"{where}: clients send {name!r}, which the server does not send")
        whole = self._reference or sent or message
        for name, entry in exchanged.items():
            if name in whole and entry.shape != whole[name].shape:
                got, expected = tuple(entry.shape), tuple(whole[name].shape)
                raise InputError(f"{client_name(where, client)}: {name!r} has shape {got}; expected {expected}")
        layout = StateLayout.of(whole, buffers=self._buffers, model=self._model)
        parameters = tuple(name for name in layout.shapes if name in exchanged)
        if not parameters:
            raise InputError(f"{where}: there is no parameter in what clients send, only {', '.join(exchanged)}")
        return Manifest(
            holds,
            {} if sent is None else form_of(sent),
            form_of(exchanged),
            parameters,
            {name: first for name, first in layout.ties.items() if name in exchanged},
            self._num_clients,
            self._local,
            self._about,
            {
                "fedsec": __version__,
                "torch": torch.__version__,
                "safetensors": version("safetensors"),
                "python": platform.python_version(),
            },
        )
