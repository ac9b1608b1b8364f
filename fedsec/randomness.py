"""The process's global random generators, for code that draws from them whatever we do: layers such as dropout.

A model's random layers take no generator; they draw from PyTorch's, NumPy's or Python's global one. So that every
client's draws are its own, whoever trains before it, these are set to the client's stream and put back afterwards.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import numpy as np
import torch

from fedsec.seeds import noise_generator

_LOCK = RLock()
"""The generators belong to the process: what draws from one stream must not run beside what draws from another."""


@contextmanager
def preserved(device: torch.device) -> Iterator[None]:
    """Put the global generators back afterwards; nobody else who asks for it draws meanwhile.

    Args:
        device: whose generator counts, beside the CPU's.
    """
    with _LOCK:
        before = snapshot(device)
        try:
            yield
        finally:
            _restore(before, device)


@contextmanager
def seeded(key: int, device: torch.device) -> Iterator[None]:
    """Let the global generators draw a stream's numbers while this lasts, and put them back afterwards.

    Args:
        key: of the stream, 128 bits; see `fedsec.seeds.Streams.key`.
        device: as above.
    """
    with preserved(device):
        words = np.random.SeedSequence(key).generate_state(8)
        torch.set_rng_state(noise_generator(key).get_state())
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(words[:2].view(np.uint64)[0] >> 1))
        np.random.seed(words[2:6])
        random.seed(key)
        yield


def snapshot(device: torch.device) -> tuple[Any, ...]:
    """Where the global generators stand."""
    theirs = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.zeros(0, dtype=torch.uint8)
    kind, words, *rest = np.random.get_state()
    return torch.get_rng_state(), theirs, kind, np.array(words), *rest, random.getstate()


def moved(before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
    """Whether anything was drawn between two snapshots."""
    torch_alike = all(torch.equal(one, other) for one, other in zip(before[:2], after[:2], strict=True))
    numpy_alike = bool(np.array_equal(before[3], after[3])) and before[4:] == after[4:]
    return not (torch_alike and numpy_alike)


def _restore(state: tuple[Any, ...], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
    np.random.set_state(tuple(state[2:-1]))
    random.setstate(state[-1])
