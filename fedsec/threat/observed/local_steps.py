"""A client's local training as far as a server knows it: what it prescribed."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

from fedsec.errors import InputError

__all__ = ["LocalSteps"]


@dataclass(frozen=True)
class LocalSteps:
    """The client's local training, as the server prescribed it: SGD on slices of a shuffled epoch.

    Args:
        lr: learning rate, positive.
        steps: number of SGD steps, at least 1.
        batch_size: images in one step; the last step of an epoch takes what is left. None: all images in every step.
        momentum: of SGD (PyTorch's form), in [0, 1).
        weight_decay: times the parameters, added to each gradient.
        clip_norm: length to which each step's gradient is cut that is longer, before weight decay; None for none.

    Raises:
        InputError: a number out of range.
    """

    lr: float
    steps: int
    batch_size: int | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.lr) and self.lr > 0):
            raise InputError(f"LocalSteps: lr must be positive, not {self.lr}")
        if self.steps < 1 or (self.batch_size is not None and self.batch_size < 1):
            raise InputError(
                f"LocalSteps: steps and batch_size must be at least 1, not {self.steps} and {self.batch_size}"
            )
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < float("inf")):
            raise InputError(
                f"LocalSteps: momentum must be in [0, 1) and weight_decay not negative, not {self.momentum} and "
                f"{self.weight_decay}"
            )
        if self.clip_norm is not None and not 0 < self.clip_norm < float("inf"):
            raise InputError(f"LocalSteps: clip_norm must be positive, or none, not {self.clip_norm}")

    @property
    def strength(self) -> float:
        """The steps that would make the same difference without momentum, for a gradient that stays the same.

        sum over t = 1..steps of (1 - momentum^t) / (1 - momentum)
        """
        return sum(1 - self.momentum**step for step in range(1, self.steps + 1)) / (1 - self.momentum)

    @property
    def midway(self) -> float:
        """The share of the way at which one gradient stands best for the mean of all steps', for reading labels.

        Gradients were taken at 0, 1/k, ..., (k - 1)/k of the way, with their mean at (k - 1) / 2k. So it is for two
        steps; for more, one half is better, as measured (scores of a sigmoid, a ReLU and a fully connected network,
        batches of eight, squared error at (k - 1) / 2k and at one half: 0.15 and 0.18 for 2 steps, 0.23 and 0.04 for 3,
        0.33 and 0.03 for 4).
        """
        return 0.5 if self.steps > 2 else (self.steps - 1) / (2 * self.steps)

    def slots(self, num_images: int) -> Iterator[tuple[int, slice]]:
        """(epoch, which places of its shuffled order) of each step."""
        size = min(self.batch_size or num_images, num_images)
        starts = range(0, num_images, size)
        for step in range(self.steps):
            start = starts[step % len(starts)]
            yield step // len(starts), slice(start, min(start + size, num_images))

    def epochs(self, num_images: int) -> int:
        """How often the client goes through its images, the last time perhaps not to the end."""
        return max(epoch for epoch, _ in self.slots(num_images)) + 1
