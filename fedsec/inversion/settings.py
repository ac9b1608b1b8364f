"""What an inversion was asked to do, by the command or from Python, checked before any work is done."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import ceil, isfinite
from pathlib import Path
from typing import Any, Literal, get_args

from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from fedsec.data.dataset import Dataset
from fedsec.data.normalization import Normalization
from fedsec.errors import InputError, printable
from fedsec.inversion.server_view import BatchStatistics, ClientMode, ServerKnowledge
from fedsec.metrics.lpips import Network
from fedsec.plugins import registry
from fedsec.threat import Inversion, LocalSteps

__all__ = [
    "DEFAULT_BATCH",
    "DEFAULT_DATASET",
    "DEFAULT_LR",
    "DEFAULT_MODEL",
    "Classes",
    "InversionSettings",
    "resolved_defense",
]

DEFAULT_BATCH = 2
DEFAULT_DATASET = "photos"
DEFAULT_MODEL = "lenet"
DEFAULT_SIZE = 32
DEFAULT_LR = 0.01

Classes = Literal["any", "distinct", "same"]

_WITHOUT_EFFECT = ("device", "threads", "lpips", "out", "gif")
"""Settings that change no recovered pixel."""


@dataclass(frozen=True)
class InversionSettings:
    """Everything an inversion depends on.

    Args:
        inversion: a name, or an object; by default the best that applies.
        model: a name, or `package.module:factory` for the user's own, or a module (of which a copy is attacked).
        dataset: whose test images are attacked: a name, or a dataset.
        images: files and folders to take in place of a dataset.
        pixels: images to take in place of files, in 0..255, and the class of each.
        image_size: to which those are resized, in pixels.
        num_classes: of the model that is attacked with them; by default 10, or as many as there are class folders.
        batch_size: images of one client; by default 2, or 1 if there is only one image.
        classes: how those of a batch mix; by default distinct for the embedded photographs, any otherwise.
        labels: whether the attacker knows them, or has to infer them.
        local_steps: SGD steps of the client; with one of the local options, its update is a parameter difference.
        local_lr: its learning rate.
        local_batch_size: its images a step; all by default.
        client_mode: of the client's batch normalization.
        bn_statistics: what the attacker has of it: none, running, sent or batch; see `BatchStatistics`. By default
            `none` if the client is in train mode and `running` if it is in eval mode.
        train_epochs: of the model before it is attacked.
        trials: disjoint batches, attacked together.
        seed: of everything random.
        iterations: in place of the inversion's own option of this name.
        restarts: likewise.
        inversion_options: the inversion's own.
        model_options: the model's own.
        normalization: how pixels become the model's input.
        defense: of the client's update, applied in order: names, or mappings of a name and options.
        defense_known: whether the attacker knows the defense and its settings.
        auxiliary: images of the dataset that the server has, where it makes the model that it sends.
        device: `auto`, `cpu` or `cuda`.
        threads: of the CPU to compute with; by default one, or all that PyTorch has where these are faster.
        lpips: backbone of the perceptual distance; downloaded if need be. By default alex, if it is there.
        out: folder of the results; by default below `inversions/`.
        gif: whether to animate the recovery.

    Raises:
        InputError: something unknown, out of range or contradictory.
    """

    inversion: str | Inversion | None = None
    model: str | nn.Module = DEFAULT_MODEL
    dataset: str | Dataset = DEFAULT_DATASET
    images: tuple[Path, ...] = ()
    pixels: tuple[UInt8[Tensor, "images channels height width"], Int64[Tensor, "images"]] | None = None
    image_size: int | None = None
    num_classes: int | None = None
    batch_size: int | None = None
    classes: Classes | None = None
    labels: bool = False
    local_steps: int | None = None
    local_lr: float | None = None
    local_batch_size: int | None = None
    client_mode: ClientMode = "train"
    bn_statistics: BatchStatistics | None = None
    train_epochs: int = 0
    trials: int = 1
    seed: int = 0
    iterations: int | None = None
    restarts: int | None = None
    inversion_options: Mapping[str, Any] = field(default_factory=dict)
    model_options: Mapping[str, Any] = field(default_factory=dict)
    normalization: Normalization = field(default_factory=Normalization)
    defense: tuple[str | Mapping[str, Any], ...] = ()
    defense_known: bool = True
    auxiliary: int = 0
    device: str = "auto"
    threads: int | None = None
    lpips: Network | None = None
    out: Path | None = None
    gif: bool = False

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_choices()
        object.__setattr__(self, "defense", tuple(resolved_defense(defense) for defense in self.defense))
        if not self.defense_known and not self.defense:
            raise InputError(
                "--defense-unknown is an attacker who does not know the client's defense; expected --defense too"
            )
        if isinstance(self.inversion, str):
            self.resolved_options(self.inversion)
        elif self.inversion is not None and not isinstance(self.inversion, Inversion):
            raise InputError(
                f"inversion: {type(self.inversion).__name__} inverts no updates of images; expected a name or an "
                "Inversion (texts are read by fedsec.invert_texts)"
            )
        elif self.inversion_options:
            raise InputError("--inversion-option needs --inversion and a name: the options are that inversion's own")
        elif self.inversion is not None and not (self.iterations is self.restarts is None):
            raise InputError("iterations and restarts go with an inversion's name; an object has its own")
        if isinstance(self.model, str) and not self.own_model:
            registry.check("model", self.model, self.model_options, "--model-option")
        if not self.own_images and isinstance(self.dataset, str):
            registry.entry("dataset", self.dataset)
        if self.client_mode == "eval" and self.bn_statistics == "sent":
            raise InputError(
                "--bn-statistics sent: a client in eval mode sends the running statistics that it received; expected "
                "--client-mode train, or none, running or batch"
            )
        if self.own_images and self.train_epochs:
            raise InputError("--train-epochs needs a dataset to train on; --images are what is attacked")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out {self.out}: is not a folder")

    @property
    def own_model(self) -> bool:
        """Whether the model is the user's own: a module, or named by import path."""
        return not isinstance(self.model, str) or ":" in self.model

    @property
    def own_images(self) -> bool:
        """Whether the images are the user's own, and no dataset's."""
        return bool(self.images) or self.pixels is not None

    @property
    def model_name(self) -> str:
        """What the model is called: its name, its import path, or the class of a module."""
        return printable(self.model) if isinstance(self.model, str) else type(self.model).__name__

    @property
    def knowledge(self) -> ServerKnowledge:
        """What the attacker knows, defaults resolved, in the words of scenarios."""
        return ServerKnowledge(self.labels, self.statistics, self.defense_known, self.auxiliary)

    @property
    def side(self) -> int:
        """Height and width to which the user's images are resized, in pixels."""
        return self.image_size or DEFAULT_SIZE

    @property
    def local(self) -> LocalSteps | None:
        """The client's local training, or None for a single gradient."""
        if self.local_steps is None:
            return None
        return LocalSteps(lr=self.local_lr or DEFAULT_LR, steps=self.local_steps, batch_size=self.local_batch_size)

    @property
    def defenses(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """(name, all options) of each defense of the update, in order."""
        return tuple(
            (defense["name"], {key: value for key, value in defense.items() if key != "name"})
            for defense in self.defense
            if isinstance(defense, Mapping)
        )

    @property
    def statistics(self) -> BatchStatistics:
        """What the attacker knows of batch normalization, defaults resolved."""
        return self.bn_statistics or ("none" if self.client_mode == "train" else "running")

    def check_batch(self, num_images: int) -> None:
        """Refuse local training that does not go with the client's images.

        Args:
            num_images: of the client.

        Raises:
            InputError: a step takes more images than there are, or some images would never enter the update.
        """
        step, steps = self.local_batch_size, self.local_steps
        if step is None or steps is None:
            return
        if step > num_images:
            count = "1 image" if num_images == 1 else f"{num_images} images"
            raise InputError(f"--local-batch-size {step}: the client has only {count} (--batch-size)")
        if (used := step * steps) < num_images:
            raise InputError(
                f"--local-steps {steps}: with --local-batch-size {step} only {used} of the {num_images} images enter "
                f"the update; expected at least {ceil(num_images / step)} steps, or a smaller --batch-size"
            )

    def resolved_options(self, inversion: str) -> dict[str, Any]:
        """All options of an inversion, with `iterations` and `restarts` among them, checked, defaults filled in.

        Raises:
            InputError: no such inversion, or an option that it does not have or take.
        """
        known = registry.entry("inversion", inversion)
        if known.interface == "TextInversion":
            raise InputError(
                f"--inversion {inversion}: reads texts, and these are images; expected --dataset shakespeare, or "
                "another one of texts, too"
            )
        if known.role != "updates":
            ours = [name for name, entry in registry.entries("inversion").items() if _inverts_images(entry)]
            raise InputError(
                f"--inversion {inversion}: looks at no update ({known.summary.rstrip('.')}); expected one of "
                f"{', '.join(ours)}"
            )
        names = [parameter.name for parameter in known.parameters]
        options = dict(self.inversion_options)
        for name, value in (("iterations", self.iterations), ("restarts", self.restarts)):
            if value is None:
                continue
            if name not in names:
                raise InputError(
                    f"--{name}: inversion {inversion!r} has no such option; it has: {', '.join(names) or 'none'}"
                )
            if name in options:
                raise InputError(f"--{name}: is given twice, also as --inversion-option {name}")
            options[name] = value
        return registry.check("inversion", inversion, options, "--inversion-option")

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        content = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "pixels"}
        content["images"] = [printable(str(path)) for path in self.images]
        content["dataset"] = None if self.own_images else getattr(self.dataset, "name", self.dataset)
        content["model"] = self.model_name
        if isinstance(self.inversion, Inversion):
            content["inversion"] = type(self.inversion).__name__
        for name in ("labels", "bn_statistics", "defense_known", "auxiliary"):
            del content[name]
        content["knowledge"] = asdict(self.knowledge)
        if not self.auxiliary:
            del content["knowledge"]["auxiliary"]  # folders' names are older than that key
        content["local_lr"] = self.local.lr if self.local else None
        constants = self.normalization
        content["normalization"] = {"mean": list(constants.mean), "std": list(constants.std)}
        content["out"] = None if self.out is None else printable(str(self.out))
        for name in ("inversion_options", "model_options"):
            content[name] = dict(content[name])
        content["defense"] = [{"name": name, **options} for name, options in self.defenses]
        return content

    def fingerprint(self) -> str:
        """Eight characters that change with every setting that changes what is recovered."""
        content = {name: value for name, value in self.as_json().items() if name not in _WITHOUT_EFFECT}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]

    def _check_numbers(self) -> None:
        for name in ("batch_size", "local_steps", "local_batch_size", "trials", "iterations", "restarts", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{_option(name)} must be at least 1, got {value}")
        for name in ("train_epochs", "seed", "auxiliary"):
            if getattr(self, name) < 0:
                raise InputError(f"{_option(name)} must not be negative, got {getattr(self, name)}")
        if self.image_size is not None and self.pixels is not None:
            raise InputError("image_size is for files; arrays are taken as they are")
        for name, least in (("image_size", 8), ("num_classes", 2)):
            value = getattr(self, name)
            if value is not None and not self.own_images:
                raise InputError(f"{_option(name)} goes with --images; a dataset has its own")
            if value is not None and value < least:
                raise InputError(f"{_option(name)} must be at least {least}, got {value}")
        if self.local_lr is not None and not (isfinite(self.local_lr) and self.local_lr > 0):
            raise InputError(f"--local-lr must be positive, got {self.local_lr}")
        if self.local_steps is None and (self.local_lr is not None or self.local_batch_size is not None):
            raise InputError("--local-lr and --local-batch-size describe local training; expected --local-steps too")
        if self.batch_size is not None or not self.own_images:
            self.check_batch(self.batch_size or DEFAULT_BATCH)

    def _check_choices(self) -> None:
        choices: dict[str, tuple[Any, ...]] = {
            "classes": (None, *get_args(Classes)),
            "labels": (True, False),
            "defense_known": (True, False),
            "client_mode": get_args(ClientMode),
            "bn_statistics": (None, *get_args(BatchStatistics)),
            "device": ("auto", "cpu", "cuda"),
            "lpips": (None, *get_args(Network)),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                words = ", ".join(str(word) for word in known if word is not None)
                raise InputError(f"{_option(name)} must be one of {words}, got {getattr(self, name)!r}")


def _inverts_images(entry: registry.Entry) -> bool:
    return entry.role == "updates" and entry.interface != "TextInversion"


def resolved_defense(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """A defense of single updates with all of its options, checked, defaults filled in.

    Raises:
        InputError: no such defense, one that the server applies, or options that it does not have or take.
    """
    if isinstance(given, str):
        given = {"name": given}
    name = given.get("name") if isinstance(given, Mapping) else None
    if not isinstance(name, str):
        raise InputError(f"--defense {given!r}: expected a name, or a mapping such as {{name: prune, ratio: 0.9}}")
    ours = [known for known, entry in registry.entries("defense").items() if entry.role == "update"]
    if name not in registry.entries("defense"):
        raise InputError(f"--defense: {registry.unknown('defense', name, ours)}")
    entry = registry.entry("defense", name)
    if entry.role == "local":
        raise InputError(
            f"--defense {name}: is part of the client's training, of many small steps ({entry.summary.rstrip('.')}), "
            "and what one update shows here is one gradient or a few plain steps; a scenario attacks such clients (an "
            f"inversion beside defense: {name}), and clip and gaussian_noise do to one update here what it does to a "
            "step"
        )
    if entry.role == "inspection":
        raise InputError(
            f"--defense {name}: looks at the model before training, and changes no update; expected what a client does "
            f"to its own update: {', '.join(ours)}; a scenario asks {name} about every model that a client receives"
        )
    if name not in ours:
        summary = entry.summary.rstrip(".")
        raise InputError(
            f"--defense {name}: is the server's, for updates of many clients ({summary}); expected what a client does "
            f"to its own: {', '.join(ours)}"
        )
    options = {str(key): value for key, value in given.items() if key != "name"}
    resolved = registry.check("defense", name, options, f"--defense {name}")
    try:
        registry.load("defense", name)(**resolved)
    except InputError as error:
        raise InputError(f"--defense {name}: {error}") from error
    return {"name": name, **resolved}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
