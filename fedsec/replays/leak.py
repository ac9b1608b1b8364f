"""What one client's recorded message gives away of its images: an inversion without the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float, Int64
from rich.console import Console
from torch import Tensor, nn

from fedsec.data.normalization import Normalization, normalization
from fedsec.errors import InputError
from fedsec.inversion.progress import InversionProgress
from fedsec.inversion.server_view import pixel_scale
from fedsec.metrics.images import Scores, score
from fedsec.plugins import registry
from fedsec.recording import RecordedRound, Recording, open_recording
from fedsec.recording.round_file import ClientId
from fedsec.replays.methods import named, summarized
from fedsec.replays.models import ModelSource, model_of, with_state
from fedsec.replays.recorded_training import check_recorded, unsent_of
from fedsec.report.console import default_console
from fedsec.seeds import Streams
from fedsec.threat import Inversion, LocalSteps, Observation, Reconstruction
from fedsec.threat.observed.client_loss import smoothed_cross_entropy

__all__ = ["Leak", "invert_recorded"]


@dataclass(frozen=True, eq=False)
class Leak:
    """What an inversion made of one client's message.

    Attributes:
        round: its number.
        client: its id.
        inversion: how tables call it.
        reconstruction: images in [0, 1] (None from inversions of labels), labels and notes.
        originals: what was to be recovered, in [0, 1], where it was given.
        scores: of the reconstruction beside them.
        remarks: what a reader should know, one line each.
    """

    round: int
    client: ClientId
    inversion: str
    reconstruction: Reconstruction
    originals: Float[Tensor, "batch channels height width"] | None
    scores: Scores | None
    remarks: tuple[str, ...]

    @property
    def images(self) -> Float[Tensor, "batch channels height width"] | None:
        """What was recovered."""
        return self.reconstruction.images

    @property
    def labels(self) -> Int64[Tensor, "batch"] | None:
        """The class of each recovered image."""
        return self.reconstruction.labels

    def _repr_html_(self) -> str:
        """What `fedsec replay` prints, and the picture, for notebooks."""
        from fedsec.replays.pictures import write_leak
        from fedsec.replays.tables import as_text
        from fedsec.report.notebook import text_html

        with TemporaryDirectory() as folder:
            written = write_leak(Path(folder), self)
            return text_html(as_text(self), [path for path in written if path.suffix == ".png"])

    def as_json(self) -> dict[str, Any]:
        """Plain data, without pixels."""
        losses = self.reconstruction.losses
        return {
            "round": self.round,
            "client": self.client,
            "inversion": self.inversion,
            "images": None if self.images is None else len(self.images),
            "labels": None if self.labels is None else self.labels.tolist(),
            "loss": float(losses[-1]) if len(losses) and bool(losses[-1].isfinite()) else None,
            "iterations": self.reconstruction.iterations,
            "psnr": None if self.scores is None else self.scores.metrics.get("psnr"),
            "remarks": list(self.remarks),
        }


def invert_recorded(
    recording: Recording | Path | str,
    *,
    client: ClientId,
    round: int | None = None,
    inversion: str | Mapping[str, Any] | Inversion = "inverting_gradients",
    model: ModelSource = None,
    model_options: Mapping[str, Any] | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    batch_size: int | None = None,
    local: LocalSteps | Mapping[str, Any] | None = None,
    pixels: str | Mapping[str, Any] | Normalization | None = None,
    originals: Any = None,
    seed: int | None = None,
    console: Console | None = None,
) -> Leak:
    """Recover a client's images and labels from what it sent in a recorded round.

        leak = fedsec.invert_recorded("seen", client=3, inversion="decoupled", model=net, input_shape=(1, 28, 28),
                                      num_classes=10, batch_size=4)
        leak.images, leak.labels, leak.remarks

    Nothing is known of the truth: what comes back has no score unless the originals are given.

    Args:
        recording: its folder, or opened already.
        client: whose message.
        round: its number; by default the first one that the client took part in.
        inversion: a name, a mapping of a name and options, or an inversion.
        model: whose parameters were recorded, see `replay`; by default what the recording says.
        model_options: of one of fedsec's models.
        input_shape: (channels, height, width) of one image; by default what the recording says, as all that follow.
        num_classes: number of logits.
        batch_size: images of the client; by default its recorded number of examples.
        local: the client's training: lr, steps (or epochs), batch_size, momentum, weight_decay. Where rate or steps are
            not known, the update is read as one step of unknown length.
        pixels: how pixels become the model's input: unit, half, or {"mean": [..], "std": [..]}.
        originals: [images, channels, height, width] in [0, 1] or uint8, to be measured against.
        seed: of everything random; by default the recorded run's own, or 0.
        console: where to show how far it is; by default in a notebook only.

    Raises:
        InputError: something is unknown or does not go together, or the message cannot be inverted.
    """
    recording = recording if isinstance(recording, Recording) else open_recording(recording)
    seen, client = _message(recording, client, round)
    about = recording.about
    check_recorded(about, seen.local)
    shape = _known("input_shape", input_shape, about)
    classes = _known("num_classes", num_classes, about)
    if len(shape) != 3:
        raise InputError(f"input_shape: inversions recover images; expected channels, height, width, got {list(shape)}")
    module = model_of(model, recording, options=model_options, input_shape=shape, num_classes=classes)
    if module is None:
        raise InputError("inversion: expected a model, whose parameters were recorded")
    label, method = _inversion(inversion)
    images = _batch_size(seen, client, batch_size)
    constants = normalization(about.get("normalization", "unit") if pixels is None else pixels)
    training, remarks = _local(seen, local, images)
    smoothing = {**seen.local, **(local if isinstance(local, Mapping) else {})}.get("label_smoothing")
    observation = _observed(
        seen,
        client,
        with_state(module, seen.sent).train(),
        training,
        input_shape=tuple(map(int, shape)),
        num_classes=int(classes),
        batch_size=images,
        scale=pixel_scale(constants),
        **({} if not smoothing else {"loss": smoothed_cross_entropy(smoothing)}),
        **unsent_of(about, training),
    )
    streams = Streams(about.get("seed", 0) if seed is None else seed)
    generator = streams.torch("attack", "round", seen.number)
    with InversionProgress(default_console(console), torch.empty(0), None) as watch:
        reconstruction = method.reconstruct(observation, generator=generator, watch=watch)
    truth = None if originals is None else _pixels(originals, tuple(shape), images)
    scores = None
    if truth is not None and reconstruction.images is not None:
        nobody = torch.zeros(len(truth), dtype=torch.int64)
        scores = score(reconstruction.images.cpu(), truth, labels=None, true_labels=nobody, mean_image=None)
    if seen.byzantine and client in seen.byzantine:
        remarks.append(f"client {client} is Byzantine: what it sent need not be what it trained")
    notes = (*remarks, *observation.remarks, *reconstruction.notes)
    return Leak(seen.number, client, label, reconstruction, truth, scores, notes)


def _message(recording: Recording, client: ClientId, number: int | None) -> tuple[RecordedRound, ClientId]:
    """The round, and the client as the recording names it."""
    numbers = recording.rounds if number is None else (number,)
    for one in numbers:
        seen = recording[one]
        for known in seen.clients:
            if known == client or str(known) == str(client):
                if not bool(seen.updates[seen.place(known)].isfinite().all()):
                    raise InputError(f"round {one}, client {client}: what it sent is not finite; nothing to invert")
                return seen, known
        if number is not None:
            seen.place(client)
    names = ", ".join(map(str, recording.clients()[:20]))
    raise InputError(f"client {client!r} is not in the recording; its clients are {names}")


def _known(name: str, given: Any, about: Mapping[str, Any]) -> Any:
    value = about.get(name) if given is None else given
    if value is None:
        raise InputError(f"inversion: expected {name}, which the recording does not say")
    return value


def _inversion(inversion: str | Mapping[str, Any] | Inversion) -> tuple[str, Inversion]:
    if isinstance(inversion, str | Mapping):
        name, options = named("inversion", inversion)
        checked = registry.check("inversion", name, options, f"inversion {name}")
        method = registry.load("inversion", name)(**checked)
    else:
        method = inversion
    label = summarized("inversion", inversion)
    if not isinstance(method, Inversion):
        raise InputError(f"inversion {label}: inverts what FedGKT exchanges, and recordings hold updates")
    return label, method


def _batch_size(seen: RecordedRound, client: ClientId, given: int | None) -> int:
    if given is not None:
        return given
    examples = seen.num_examples
    if examples is None:
        raise InputError("inversion: expected batch_size, the client's images; the recording does not say how many")
    return max(1, round(float(examples[seen.place(client)])))


def _local(
    seen: RecordedRound, given: LocalSteps | Mapping[str, Any] | None, images: int
) -> tuple[LocalSteps | None, list[str]]:
    """The client's training, where it is known well enough to be replayed; else why it is not."""
    if isinstance(given, LocalSteps) or seen.manifest.holds == "gradients":
        return given if isinstance(given, LocalSteps) else None, []
    known = {**seen.local, **{key: value for key, value in (given or {}).items() if value is not None}}
    if known.get("optimizer", "sgd") != "sgd":
        return None, [f"the client trains with {known['optimizer']}, which is not replayed"]
    batch = known.get("batch_size")
    if batch is None and known.get("batch_fraction") is not None:
        batch = max(1, int(known["batch_fraction"] * images + 1e-9))
    steps = known.get("steps")
    if steps is None and known.get("epochs") is not None:
        steps = known["epochs"] * ceil(images / min(batch or images, images))
    if known.get("lr") is None or steps is None:
        return None, []
    momentum, decay = known.get("momentum", 0.0), known.get("weight_decay", 0.0)
    size = None if batch is None else int(batch)
    return LocalSteps(float(known["lr"]), int(steps), size, momentum, decay, known.get("clip_norm")), []


def _observed(
    seen: RecordedRound, client: ClientId, model: nn.Module, local: LocalSteps | None, **known: Any
) -> Observation:
    """What the server has of the client, whatever was recorded."""
    message, holds = seen.message(client), seen.manifest.holds
    home = seen.manifest.about.get("at_home", ())
    moved = {name: message[name] for name in seen.shapes if name not in home}
    if holds == "gradients":
        return Observation.of_gradient(model, moved, **known)
    buffers = {name: row for name, row in message.items() if name not in seen.shapes}
    if holds == "updates" and local is not None:
        statistics = {name: row for name, row in buffers.items() if row.is_floating_point()}
        before = {name: row for name, row in seen.sent.items() if name in statistics}
        return Observation.of_update(
            model,
            moved,
            local=local,
            buffers_before=before or None,
            buffers_after=statistics or None,
            **known,
        )
    after = message
    if holds == "updates":
        after = {name: seen.sent[name] + row for name, row in moved.items()} | buffers
    before = {name: seen.sent[name] for name in after}
    return Observation.of_state_dicts(before, after, model=model, local=local, **known)


def _pixels(originals: Any, shape: tuple[int, ...], count: int) -> Tensor:
    try:
        images = torch.as_tensor(originals).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"originals: expected images as an array or a tensor ({error})") from error
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if images.shape != (count, *shape) or not bool(((images >= 0) & (images <= 1)).all()):
        raise InputError(
            f"originals: expected {count} images of shape {shape} with pixels in [0, 1], or uint8, got shape "
            f"{tuple(images.shape)}"
        )
    return images
