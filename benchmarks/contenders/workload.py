"""What every contender of `cohort.py` does: the same data, model, batches, optimizer and number of rounds.

Needs nothing but NumPy and PyTorch, so that it runs in each contender's environment. Clients pass over their examples
in order, in batches of 20, so all contenders compute the same thing, and their models can be compared at the end.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

CLIENTS = 20
STEPS = 10
BATCH = 20
LR = 0.01
MOMENTUM = 0.9
CLASSES = 10


def build_model() -> nn.Sequential:
    """Two 5x5 stride-2 convolutions with sigmoids and one linear layer: 28,938 parameters on 28x28."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, CLASSES),
    )


def write_data(path: Path, seed: int = 0) -> None:
    """Write images (uint8, one blurred prototype a class, and noise), labels and initial parameters."""
    rng = np.random.default_rng(seed)
    prototypes = rng.uniform(0, 255, (CLASSES, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)
    labels = rng.integers(0, CLASSES, (CLIENTS, STEPS * BATCH))
    images = np.clip(prototypes[labels] + rng.normal(0, 60, (*labels.shape, 28, 28)), 0, 255)
    parameters = {}
    for index, parameter in enumerate(build_model().parameters()):
        bound = 1 / np.sqrt(np.prod(parameter.shape[1:]) if parameter.ndim > 1 else 100)
        parameters[f"parameter_{index}"] = rng.uniform(-bound, bound, parameter.shape).astype(np.float32)
    np.savez(path, images=images.astype(np.uint8)[:, :, None], labels=labels.astype(np.int64), **parameters)


@dataclass(frozen=True)
class Workload:
    """The data in memory.

    Args:
        raw: [clients, examples, 1, 28, 28], uint8.
        images: the same, float32 in [0, 1].
        labels: [clients, examples], int64.
        parameters: the initial model's, in the order of `build_model().parameters()`.
    """

    raw: Tensor
    images: Tensor
    labels: Tensor
    parameters: list[Tensor]

    @classmethod
    def read(cls, path: Path) -> "Workload":
        """Read what `write_data` wrote."""
        with np.load(path) as file:
            raw, labels = torch.from_numpy(file["images"]), torch.from_numpy(file["labels"])
            names = sorted(name for name in file.files if name.startswith("parameter_"))
            return cls(raw, raw.float() / 255, labels, [torch.from_numpy(file[name]) for name in names])

    def model(self) -> nn.Sequential:
        """The initial model."""
        model = build_model()
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), self.parameters, strict=True):
                parameter.copy_(value)
        return model


class Clock:
    """Times rounds; the warm-up rounds and all that comes before them count as start-up."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.begun = time.perf_counter()
        self.ends: list[float] = []

    def lap(self) -> None:
        """A round has just ended."""
        self.ends.append(time.perf_counter())

    def measured(self) -> tuple[list[float], float]:
        """Milliseconds of each round after the warm-up, and seconds until the first of them began."""
        ends = self.ends[self.warmup - 1 :]
        rounds = [1000 * (after - before) for before, after in pairwise(ends)]
        return rounds, ends[0] - self.begun


def arguments() -> argparse.ArgumentParser:
    """The command line that all contenders share."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    return parser


def report(out: Path, workload: Workload, clock: Clock, parameters: list[Tensor], versions: dict[str, str]) -> None:
    """Write one contender's measurements as JSON, and how far its parameters have moved beside it."""
    rounds, startup = clock.measured()
    content = {
        "milliseconds": rounds,
        "min": min(rounds),
        "median": statistics.median(rounds),
        "startup_seconds": startup,
        "versions": {"torch": torch.__version__, **versions},
    }
    out.write_text(json.dumps(content))
    moved = zip(parameters, workload.parameters, strict=True)
    np.savez(out.with_suffix(".npz"), *((end.detach() - start).numpy() for end, start in moved))


def run_rounds(options: argparse.Namespace, clock: Clock, one_round: Callable[[], None]) -> None:
    """Call a contender's round as often as asked for."""
    for _ in range(options.warmup + options.rounds):
        one_round()
        clock.lap()
