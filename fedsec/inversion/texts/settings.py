"""What an inversion of texts was asked to do, by the command or from Python, checked before any work is done."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any

from torch import nn

from fedsec.data.dataset import Dataset
from fedsec.errors import InputError, printable
from fedsec.inversion.settings import DEFAULT_BATCH, DEFAULT_LR, resolved_defense
from fedsec.plugins import registry
from fedsec.threat.texts import TextInversion

__all__ = ["DEFAULT_DATASET", "DEFAULT_INVERSION", "DEFAULT_LENGTH", "DEFAULT_MODEL", "TextSettings"]

TASK = "next_token"
DEFAULT_DATASET = "shakespeare"
DEFAULT_MODEL = "char_transformer"
DEFAULT_INVERSION = "dager"
"""Whole texts, and of any model that reads them from left to right; `token_rows` tells less."""
DEFAULT_LENGTH = 20
"""Characters of a text: two of them stay below the width of the default model, beyond which nothing is exact."""
SHORT_NAMES = {"lstm": "char_lstm", "transformer": "char_transformer"}
"""What people call the two models."""
_WITHOUT_EFFECT = ("device", "threads", "out")
"""Settings that change no recovered character."""


@dataclass(frozen=True)
class TextSettings:
    """Everything an inversion of texts depends on.

    Args:
        dataset: whose test texts are attacked: a name, or a dataset.
        length: of a text, in tokens; by default 20, or what a dataset has that takes no length.
        batch_size: texts of one client.
        inversion: a name, or an object.
        inversion_options: the inversion's own.
        model: a name (`lstm` and `transformer` for short), or a module, of which a copy is attacked.
        model_options: the model's own.
        local_steps: SGD steps of the client on all of its texts; by default its update is a single gradient.
        local_lr: its learning rate.
        defense: of the client's update, applied in order: names, or mappings of a name and options.
        trials: disjoint batches, each attacked for itself.
        seed: of everything random.
        device: `auto`, `cpu` or `cuda`.
        threads: of the CPU to compute with.
        out: folder of the results; by default below `inversions/`.

    Raises:
        InputError: something unknown, out of range or contradictory.
    """

    dataset: str | Dataset = DEFAULT_DATASET
    length: int | None = None
    batch_size: int = DEFAULT_BATCH
    inversion: str | TextInversion = DEFAULT_INVERSION
    inversion_options: Mapping[str, Any] = field(default_factory=dict)
    model: str | nn.Module = DEFAULT_MODEL
    model_options: Mapping[str, Any] = field(default_factory=dict)
    local_steps: int | None = None
    local_lr: float | None = None
    defense: tuple[str | Mapping[str, Any], ...] = ()
    trials: int = 1
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    out: Path | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            object.__setattr__(self, "model", SHORT_NAMES.get(self.model, self.model))
        object.__setattr__(self, "defense", tuple(resolved_defense(defense) for defense in self.defense))
        self._check_numbers()
        self._check_dataset()
        self._check_inversion()
        self._check_model()
        for name, _ in self.defenses:
            if registry.entry("defense", name).traits.get("needs_client"):
                raise InputError(f"--defense {name}: works on a client's images, and these are texts")
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"--device must be one of auto, cpu, cuda, got {self.device!r}")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out {self.out}: is not a folder")

    @property
    def defenses(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """(name, all options) of each defense of the update, in order."""
        return tuple(
            (defense["name"], {key: value for key, value in defense.items() if key != "name"})
            for defense in self.defense
            if isinstance(defense, Mapping)
        )

    @property
    def dataset_options(self) -> dict[str, Any]:
        """The length, where the dataset takes one."""
        if not isinstance(self.dataset, str):
            return {}
        takes = any(parameter.name == "length" for parameter in registry.entry("dataset", self.dataset).parameters)
        length = self.length or (DEFAULT_LENGTH if takes else None)
        return {} if length is None else {"length": length}

    @property
    def dataset_name(self) -> str:
        """What the dataset is called."""
        return self.dataset if isinstance(self.dataset, str) else self.dataset.name

    @property
    def inversion_name(self) -> str:
        """What the inversion is called: its name, or the class of an object."""
        return self.inversion if isinstance(self.inversion, str) else type(self.inversion).__name__

    @property
    def model_name(self) -> str:
        """What the model is called: its name, or the class of a module."""
        return printable(self.model) if isinstance(self.model, str) else type(self.model).__name__

    @property
    def lr(self) -> float:
        """The client's learning rate."""
        return self.local_lr or DEFAULT_LR

    def as_json(self) -> dict[str, Any]:
        """Plain data, defaults filled in."""
        content = {part.name: getattr(self, part.name) for part in fields(self)}
        named = isinstance(self.inversion, str)
        options = registry.check("inversion", self.inversion_name, self.inversion_options) if named else {}
        return content | {
            "dataset": self.dataset_name,
            "length": self.dataset_options.get("length"),
            "inversion": self.inversion_name,
            "inversion_options": options,
            "model": self.model_name,
            "model_options": dict(self.model_options),
            "local_lr": None if self.local_steps is None else self.lr,
            "defense": [{"name": name, **options} for name, options in self.defenses],
            "out": None if self.out is None else printable(str(self.out)),
        }

    def fingerprint(self) -> str:
        """Eight characters that change with every setting that changes what is recovered."""
        content = {name: value for name, value in self.as_json().items() if name not in _WITHOUT_EFFECT}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]

    def _check_numbers(self) -> None:
        for name in ("batch_size", "local_steps", "trials", "threads", "length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{_option(name)} must be at least 1, got {value}")
        if self.seed < 0:
            raise InputError(f"--seed must not be negative, got {self.seed}")
        if self.local_lr is not None and not (isfinite(self.local_lr) and self.local_lr > 0):
            raise InputError(f"--local-lr must be positive, got {self.local_lr}")
        if self.local_steps is None and self.local_lr is not None:
            raise InputError("--local-lr describes local training; expected --local-steps too")

    def _check_dataset(self) -> None:
        if isinstance(self.dataset, Dataset):
            if self.length is not None:
                raise InputError("--length goes with a dataset's name; a dataset that is given has its own")
            task = self.dataset.task
        else:
            task = str(registry.entry("dataset", self.dataset).traits["task"])
        if task != TASK:
            raise InputError(f"--dataset {self.dataset_name}: is data for {task}; expected texts, such as shakespeare")
        if isinstance(self.dataset, str):
            registry.check("dataset", self.dataset, self.dataset_options, "--length")

    def _check_inversion(self) -> None:
        if not isinstance(self.inversion, str):
            if self.inversion_options:
                raise InputError("--inversion-option goes with an inversion's name; an object has its own options")
            return
        tasks = registry.entry("inversion", self.inversion).traits.get("tasks", ())
        if TASK not in tasks:
            known = registry.entries("inversion").items()
            able = [name for name, entry in known if TASK in entry.traits.get("tasks", ())]
            raise InputError(
                f"--inversion {self.inversion}: reads no texts, and {self.dataset_name} has nothing else; expected "
                f"{' or '.join(able)}"
            )
        registry.check("inversion", self.inversion, self.inversion_options, "--inversion-option")

    def _check_model(self) -> None:
        if not isinstance(self.model, str):
            if self.model_options:
                raise InputError("--model-option goes with a model's name; a module has been built already")
            return
        known = registry.entries("model")
        able = " or ".join(name for name, entry in known.items() if TASK in entry.traits.get("tasks", ()))
        if ":" in self.model:
            raise InputError(
                f"--model {printable(self.model)}: texts are read off {able} here; fedsec.invert_texts takes any module"
            )
        if TASK not in registry.entry("model", self.model).traits.get("tasks", ()):
            raise InputError(f"--model {self.model}: takes no texts; expected {able}")
        registry.check("model", self.model, self.model_options, "--model-option")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
