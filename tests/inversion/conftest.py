"""What the tests of inversions share: quick attacks, which do only what can be predicted."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from fedsec.plugins import registry

ATTACKS = '''
import time
from typing import Literal

import torch

from fedsec.errors import InputError
from fedsec.threat import Inversion, Reconstruction, Snapshot


class Quotient(Inversion):
    """Divides the weight's gradient by the bias's: exact for one image and a logistic model.

    Args:
        iterations: to pretend.
        restarts: to pretend.
        stop: caught: interrupted half way. deaf: the same, but the attack does not catch it.

    Reference: none
    """

    def __init__(
        self, iterations: int = 3, restarts: int = 1, stop: Literal["never", "caught", "deaf"] = "never"
    ) -> None:
        self.iterations, self.stop = iterations, stop

    def recover(self, observations, *, generator, watch):
        model = observations[0].model
        if [name for name, _ in model.named_parameters()] != ["linear.weight", "linear.bias"]:
            raise InputError("Quotient: needs a logistic model")
        found = []
        for observation in observations:
            rows = observation.gradient["linear.weight"] / observation.gradient["linear.bias"][:, None]
            strongest = observation.gradient["linear.bias"].argsort()[: observation.batch_size]
            shape = observation.batch_size, *observation.input_shape
            images = observation.scale.undo(rows[strongest].view(shape)).clamp(0, 1)
            noise = torch.rand(shape, generator=generator)
            found.append((images, noise, strongest))
        interrupted = False
        try:
            for iteration in range(self.iterations):
                share = (iteration + 1) / self.iterations
                mixed = torch.stack([share * images + (1 - share) * noise for images, noise, _ in found])
                labels = torch.stack([labels for _, _, labels in found])
                losses = torch.full((len(found),), 1 - share + 1e-3)
                watch(Snapshot("dividing", iteration, self.iterations, losses, mixed, labels))
                if self.stop != "never" and iteration == self.iterations // 2:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            if self.stop == "deaf":
                raise
            interrupted = True
        history = torch.linspace(1, 1e-3, max(self.iterations, 2))
        return [
            Reconstruction(
                mixed[i],
                found[i][2],
                losses=history,
                iterations=self.iterations,
                interrupted=interrupted,
                notes=("divided",),
            )
            for i in range(len(found))
        ]


class Guess(Inversion):
    """Says the labels that were granted, or zeros; no images.

    Reference: none
    """

    def recover(self, observations, *, generator, watch):
        zeros = torch.zeros(observations[0].batch_size, dtype=torch.int64)
        return [Reconstruction(None, zeros if each.labels is None else each.labels) for each in observations]


class Static(Inversion):
    """Noise in place of images, and features that are the true ones of no image.

    Reference: none
    """

    def recover(self, observations, *, generator, watch):
        made = []
        for each in observations:
            images = torch.rand((each.batch_size, *each.input_shape), generator=generator)
            width = dict(each.model.named_modules())["classifier"].in_features
            features = torch.rand((each.batch_size, width), generator=generator)
            made.append(Reconstruction(images, None, features=features))
        return made


class Patchy(Inversion):
    """Features in the first trial only, and notes that do not concern all trials; it notes how many trials it saw.

    Reference: none
    """

    def recover(self, observations, *, generator, watch):
        made = []
        for trial, each in enumerate(observations):
            shape = (each.batch_size, *each.input_shape)
            images = torch.rand(shape, generator=generator)
            labels = torch.zeros(each.batch_size, dtype=torch.int64)
            if trial == 0:
                losses = torch.ones(len(observations))
                stack = images.expand(len(observations), *shape)
                watch(Snapshot(f"{len(observations)} seen", 0, 1, losses, stack, labels.expand(len(observations), -1)))
            width = dict(each.model.named_modules())["classifier"].in_features
            features = torch.rand((each.batch_size, width), generator=generator) if trial == 0 else None
            notes = ("of all", "of all", "of the first") if trial == 0 else ("of all", "of the others")
            made.append(Reconstruction(images, labels, features=features, notes=notes))
        return made
'''


@pytest.fixture
def quick_attacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Registers `quotient`, `guess`, `static` and `patchy` as a plugin's."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "fedsec_quick_attacks.py").write_text(ATTACKS)
    monkeypatch.syspath_prepend(str(folder))
    names = {"quotient": "Quotient", "guess": "Guess", "static": "Static", "patchy": "Patchy"}
    points = {
        name: EntryPoint(name, f"fedsec_quick_attacks:{attribute}", "fedsec.attacks")
        for name, attribute in names.items()
    }
    monkeypatch.setattr(registry, "_plugins", lambda kind: points if kind == "inversion" else {})
    yield
    sys.modules.pop("fedsec_quick_attacks", None)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
