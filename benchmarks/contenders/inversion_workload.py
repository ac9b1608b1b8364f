"""What every contender of `inversion.py` is given and how it is measured.

A contender gets what a server holds: the model, one client's gradient and the label. The image itself stays with
`inversion.py`, which scores what comes back. Needs PyTorch, NumPy and fedsec's models, so that it runs in each
contender's environment.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedsec.models import build

INPUT_SHAPE = (3, 32, 32)
CLASSES = 10
LR = 0.1
"""Of signed Adam, in units of the normalized input; times 0.1 after 3/8, 5/8 and 7/8 of the iterations."""
WARM_UP = 3
PROBE = 0.1
"""Share of the measured seconds that go into finding out how many iterations fit into them."""


@dataclass(frozen=True)
class Problem:
    """One gradient to invert.

    Args:
        model: name of one of fedsec's.
        parameters: its state.
        gradient: of the cross-entropy of the one image, in the order of the model's parameters.
        label: [1], int64.
        mean: of the normalization, a number a channel.
        std: likewise.
        tv: weight of the total variation beside the cosine distance.
        restarts: random starts, of which the one with the smallest cosine distance is kept.
        seed: of the starts.
    """

    model: str
    parameters: dict[str, Tensor]
    gradient: list[Tensor]
    label: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tv: float
    restarts: int
    seed: int

    def write(self, path: Path) -> None:
        """Write it for `read`."""
        torch.save(asdict(self), path)

    @classmethod
    def read(cls, path: Path) -> "Problem":
        """Read what `write` wrote."""
        return cls(**torch.load(path, weights_only=True))

    def module(self) -> nn.Module:
        """The model with its weights, in eval mode."""
        module = build(self.model, INPUT_SHAPE, CLASSES)
        module.load_state_dict(self.parameters)
        return module.eval()

    def scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation as [channels, 1, 1]."""
        return torch.tensor(self.mean)[:, None, None], torch.tensor(self.std)[:, None, None]


Attack = Callable[[int], Tensor]
"""From a number of iterations to pixels in [0, 1], [1, 3, 32, 32]; from the same start each time it is called."""


def run(prepare: Callable[[Problem], Attack], versions: dict[str, str]) -> None:
    """Measure one contender on one problem and write what came out.

    Args:
        prepare: what is done once, before the clock starts.
        versions: of the contender.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--problem", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--iterations", type=int, help="exactly so many, however long they take")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    problem = Problem.read(options.problem)
    attack = prepare(problem)
    torch.optim.Adam(
        [torch.zeros(1, requires_grad=True)]
    )  # PyTorch imports much of itself here, which is not the attack's
    resident = forget_peak()
    attack(WARM_UP)
    iterations = options.iterations or affordable(attack, options.seconds)
    seconds, pixels = timed(partial(attack, iterations))
    peak = memory("VmHWM")
    content = {
        "iterations": iterations,
        "seconds": seconds,
        "rate": problem.restarts * iterations / seconds,
        "peak_mib": peak,
        "attack_mib": peak - resident,
        "versions": {"torch": torch.__version__, **versions},
    }
    options.out.write_text(json.dumps(content))
    np.save(options.out.with_suffix(".npy"), pixels.detach().numpy())


def affordable(attack: Attack, seconds: float) -> int:
    """How many iterations take that long; what a call costs besides its iterations is accounted for."""
    first, _ = timed(partial(attack, WARM_UP))
    more = max(2 * WARM_UP, int(PROBE * seconds * WARM_UP / first))
    second, _ = timed(partial(attack, more))
    each = max((second - first) / (more - WARM_UP), 0.5 * second / more)
    fixed = max(0.0, first - WARM_UP * each)
    return max(1, int((seconds - fixed) / each))


def timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds that a call takes, and its result."""
    before = time.perf_counter()
    result = call()
    return time.perf_counter() - before, result


def forget_peak() -> float:
    """Let the kernel count peak memory from now on; MiB in use now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(key: str) -> float:
    """MiB that the kernel reports for this process under `key`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this benchmark reads /proc/self/status, so it needs Linux")
