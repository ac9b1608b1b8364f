"""What `fedsec invert` was asked to do, checked before any work is done."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import ceil, isfinite
from pathlib import Path
from typing import Any, Literal, get_args

from fedsec.data.normalization import Normalization
from fedsec.errors import InputError
from fedsec.inversion.client import BatchStatistics, ClientMode
from fedsec.metrics.lpips import Network
from fedsec.plugins import registry
from fedsec.threat import LocalSteps

__all__ = ["DEFAULT_BATCH", "DEFAULT_DATASET", "DEFAULT_MODEL", "Classes", "Labels", "Settings"]

DEFAULT_BATCH = 2
DEFAULT_DATASET = "photos"
DEFAULT_MODEL = "lenet"
DEFAULT_SIZE = 32
DEFAULT_LR = 0.01

Classes = Literal["any", "distinct", "same"]
Labels = Literal["known", "infer"]

_WITHOUT_EFFECT = ("device", "lpips", "out", "gif")
"""Settings that change no recovered pixel."""


@dataclass(frozen=True)
class Settings:
    """Everything an inversion depends on.

    Args:
        attack: its name; by default the best that applies.
        model: a name, or `package.module:factory` for the user's own.
        dataset: whose test images are attacked.
        images: files and folders to take in place of a dataset.
        image_size: to which those are resized, in pixels.
        num_classes: of the model that is attacked with them; by default 10, or as many as there are class folders.
        batch_size: images of one client; by default 2, or 1 if there is only one image.
        classes: how those of a batch mix; by default distinct for the embedded photographs, any otherwise.
        labels: whether the attacker is granted them, or has to infer them.
        local_steps: SGD steps of the client; with one of the local options, its update is a parameter difference.
        local_lr: its learning rate.
        local_batch_size: its images a step; all by default.
        client_mode: of the client's batch normalization.
        bn_statistics: what the attacker knows of it; see `fedsec.inversion.client.Grants`. By default `unknown` if the
            client is in train mode and `running` if it is in eval mode.
        train_epochs: of the model before it is attacked.
        trials: disjoint batches, attacked together.
        seed: of everything random.
        iterations: in place of the attack's own option of this name.
        restarts: likewise.
        attack_options: the attack's own.
        model_options: the model's own.
        normalization: how pixels become the model's input.
        defense: of the client's update, applied in order: names, or mappings of a name and options.
        adaptive: whether the attacker knows the defense and its settings.
        device: `auto`, `cpu` or `cuda`.
        lpips: backbone of the perceptual distance; downloaded if need be. By default alex, if it is there.
        out: folder of the results; by default below `inversions/`.
        gif: whether to animate the recovery.

    Raises:
        InputError: something unknown, out of range or contradictory.
    """

    attack: str | None = None
    model: str = DEFAULT_MODEL
    dataset: str = DEFAULT_DATASET
    images: tuple[Path, ...] = ()
    image_size: int | None = None
    num_classes: int | None = None
    batch_size: int | None = None
    classes: Classes | None = None
    labels: Labels = "infer"
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
    attack_options: Mapping[str, Any] = field(default_factory=dict)
    model_options: Mapping[str, Any] = field(default_factory=dict)
    normalization: Normalization = field(default_factory=Normalization)
    defense: tuple[str | Mapping[str, Any], ...] = ()
    adaptive: bool = True
    device: str = "auto"
    lpips: Network | None = None
    out: Path | None = None
    gif: bool = False

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_choices()
        object.__setattr__(self, "defense", tuple(_resolved_defense(each) for each in self.defense))
        if not self.adaptive and not self.defense:
            raise InputError("--naive is an attacker who does not know the client's defense; expected --defense too")
        if self.attack is not None:
            self.resolved_attack_options(self.attack)
        elif self.attack_options:
            raise InputError("--attack-option needs --attack: the options are that attack's own")
        if not self.own_model:
            registry.check("model", self.model, self.model_options, "--model-option")
        if not self.images:
            registry.entry("dataset", self.dataset)
        if self.images and self.train_epochs:
            raise InputError("--train-epochs needs a dataset to train on; --images are what is attacked")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out {self.out}: is not a folder")

    @property
    def own_model(self) -> bool:
        """Whether the model is the user's own, named by import path."""
        return ":" in self.model

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
            (each["name"], {key: value for key, value in each.items() if key != "name"})
            for each in self.defense
            if isinstance(each, Mapping)
        )

    @property
    def statistics(self) -> BatchStatistics:
        """What the attacker knows of batch normalization, defaults resolved."""
        return self.bn_statistics or ("unknown" if self.client_mode == "train" else "running")

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

    def resolved_attack_options(self, attack: str) -> dict[str, Any]:
        """All options of an attack, with `iterations` and `restarts` among them, checked, defaults filled in.

        Raises:
            InputError: no such inversion, or an option that it does not have or take.
        """
        known = registry.entry("inversion", attack)
        if known.role != "updates":
            raise InputError(
                f"--attack {attack}: looks at no update ({known.summary.rstrip('.')}); expected one of "
                f"{', '.join(name for name, entry in registry.entries('inversion').items() if entry.role == 'updates')}"
            )
        names = [parameter.name for parameter in known.parameters]
        options = dict(self.attack_options)
        for name, value in (("iterations", self.iterations), ("restarts", self.restarts)):
            if value is None:
                continue
            if name not in names:
                raise InputError(
                    f"--{name}: inversion {attack!r} has no such option; it has: {', '.join(names) or 'none'}"
                )
            if name in options:
                raise InputError(f"--{name}: is given twice, also as --attack-option {name}")
            options[name] = value
        return registry.check("inversion", attack, options, "--attack-option")

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        content["images"] = [str(path) for path in self.images]
        content["dataset"] = None if self.images else self.dataset
        content["bn_statistics"] = self.statistics
        content["local_lr"] = self.local.lr if self.local else None
        constants = self.normalization
        content["normalization"] = {"mean": list(constants.mean), "std": list(constants.std)}
        content["out"] = None if self.out is None else str(self.out)
        for name in ("attack_options", "model_options"):
            content[name] = dict(content[name])
        content["defense"] = [{"name": name, **options} for name, options in self.defenses]
        content["adaptive"] = self.adaptive if self.defense else None
        return content

    def fingerprint(self) -> str:
        """Eight characters that change with every setting that changes what is recovered."""
        content = {name: value for name, value in self.as_json().items() if name not in _WITHOUT_EFFECT}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]

    def _check_numbers(self) -> None:
        for name in ("batch_size", "local_steps", "local_batch_size", "trials", "iterations", "restarts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{_option(name)} must be at least 1, got {value}")
        for name in ("train_epochs", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{_option(name)} must not be negative, got {getattr(self, name)}")
        for name, least in (("image_size", 8), ("num_classes", 2)):
            value = getattr(self, name)
            if value is not None and not self.images:
                raise InputError(f"{_option(name)} goes with --images; a dataset has its own")
            if value is not None and value < least:
                raise InputError(f"{_option(name)} must be at least {least}, got {value}")
        if self.local_lr is not None and not (isfinite(self.local_lr) and self.local_lr > 0):
            raise InputError(f"--local-lr must be positive, got {self.local_lr}")
        if self.local_steps is None and (self.local_lr is not None or self.local_batch_size is not None):
            raise InputError("--local-lr and --local-batch-size describe local training; expected --local-steps too")
        if self.batch_size is not None or not self.images:
            self.check_batch(self.batch_size or DEFAULT_BATCH)

    def _check_choices(self) -> None:
        choices: dict[str, tuple[Any, ...]] = {
            "classes": (None, *get_args(Classes)),
            "labels": get_args(Labels),
            "client_mode": get_args(ClientMode),
            "bn_statistics": (None, *get_args(BatchStatistics)),
            "device": ("auto", "cpu", "cuda"),
            "lpips": (None, *get_args(Network)),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                words = ", ".join(word for word in known if word)
                raise InputError(f"{_option(name)} must be one of {words}, got {getattr(self, name)!r}")


def _resolved_defense(given: str | Mapping[str, Any]) -> dict[str, Any]:
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
    if name not in ours:
        summary = registry.entry("defense", name).summary.rstrip(".")
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
