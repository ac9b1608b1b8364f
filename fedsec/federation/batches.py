"""Which examples each client trains on, step by step: decided before training, the same for every engine."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int16, Int64

from fedsec.data.augmentation import Augmentation
from fedsec.errors import InputError
from fedsec.privacy.training import PrivateTraining


@dataclass(frozen=True)
class LocalTraining:
    """What a client does with the model it receives.

    Args:
        steps: number of optimizer steps, or
        epochs: number of passes over the client's examples (exactly one of the two).
        batch_size: examples in a batch (at most the client's own number), or
        batch_fraction: the batch as a share of the client's examples (exactly one of the two).
        optimizer: `sgd` or `adam`; its state starts afresh each round, as in FedAvg.
        lr: learning rate.
        momentum: heavy-ball momentum of SGD, as in PyTorch (no dampening).
        weight_decay: L2 penalty added to the gradient.
        proximal: FedProx's mu: mu / 2 ||w - w_received||^2 is added to the loss; 0 for none.
        augmentation: of the images, drawn anew for every batch; None for none.
        private: DP-SGD. Batches are then Poisson samples: a step's batch takes each example independently with
            probability batch / examples, and `epochs` count steps only. The proximal term and weight decay depend on
            no example, so they join after the noise. None: ordinary training.
    """

    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    batch_fraction: float | None = None
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    proximal: float = 0.0
    augmentation: Augmentation | None = None
    private: PrivateTraining | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise InputError("local training needs either steps or epochs, and not both")
        if (self.batch_size is None) == (self.batch_fraction is None):
            raise InputError("local training needs either batch_size or batch_fraction, and not both")
        for name in ("steps", "epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"local {name} must be at least 1, got {value}")
        if self.batch_fraction is not None and not 0 < self.batch_fraction <= 1:
            raise InputError(f"local batch_fraction must lie in (0, 1], got {self.batch_fraction}")
        if self.optimizer not in ("sgd", "adam"):
            raise InputError(f"local optimizer must be sgd or adam, got {self.optimizer!r}")
        if self.optimizer == "adam" and self.momentum:
            raise InputError("local momentum belongs to sgd; adam has its own")
        if not self.lr > 0 or not 0 <= self.momentum < 1 or not self.weight_decay >= 0:
            raise InputError("local training needs lr > 0, 0 <= momentum < 1 and weight_decay >= 0")
        if not self.proximal >= 0:
            raise InputError(f"the proximal term's mu must not be negative, got {self.proximal}")

    def batch_of(self, examples: int) -> int:
        """Batch size of a client with this many examples."""
        if self.batch_fraction is not None:
            return max(1, int(self.batch_fraction * examples + 1e-9))
        assert self.batch_size is not None
        return min(self.batch_size, examples)

    def steps_of(self, examples: int) -> int:
        """Number of local steps of a client with this many examples."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return self.epochs * -(-examples // self.batch_of(examples))


@dataclass(frozen=True)
class Noise:
    """What private training adds to a client's gradients in one round.

    Args:
        multiplier: the client's noise multiplier.
        key: of the round's noise, 128 bits from a stream of its own; see `fedsec.seeds.noise_generator`.
    """

    multiplier: float
    key: int


@dataclass(frozen=True)
class BatchPlan:
    """One client's batches for one round.

    Args:
        examples: example numbers, padded to the longest batch by repeating valid ones.
        sizes: true size of each batch; what lies beyond it is padding and must not count.
        views: how each of them is augmented; None for images as they are.
        noise: of private training, whose batches vary in size and may be empty; None for ordinary training.
        expected: the mean size of private training's batches, by which it divides.
    """

    examples: Int64[np.ndarray, "steps batch"]
    sizes: Int64[np.ndarray, "steps"]
    views: Int16[np.ndarray, "steps batch 5"] | None = None
    noise: Noise | None = None
    expected: int = 0

    @property
    def steps(self) -> int:
        """Number of local steps."""
        return len(self.sizes)

    def first(self, steps: int) -> "BatchPlan":
        """The same plan, broken off after so many steps."""
        views = None if self.views is None else self.views[:steps]
        return replace(self, examples=self.examples[:steps], sizes=self.sizes[:steps], views=views)


def plan_batches(
    examples: np.ndarray,
    local: LocalTraining,
    rng: np.random.Generator,
    image_size: tuple[int, int] = (1, 1),
    *,
    noise: Noise | None = None,
) -> BatchPlan:
    """Shuffle a client's examples into batches; for private training, draw Poisson samples.

    With `epochs`, each pass is a fresh permutation cut into batches, the last one possibly shorter. With
    `steps`, permutations follow each other without a seam, so that every batch is full.

    Args:
        examples: the client's example numbers.
        local: how many batches, and how large.
        rng: the client's own stream for this round.
        image_size: (height, width), for augmentations that need it.
        noise: of private training.

    Raises:
        InputError: private training without noise of its own, or noise without private training.
    """
    if (local.private is None) != (noise is None):
        raise InputError("private training, and nothing else, needs a plan with noise")
    plan = _shuffled(examples, local, rng) if noise is None else _sampled(examples, local, rng, noise)
    if local.augmentation is None:
        return plan
    return replace(plan, views=local.augmentation.draw(plan.examples.shape, image_size, rng))


def _shuffled(examples: np.ndarray, local: LocalTraining, rng: np.random.Generator) -> BatchPlan:
    count, batch = len(examples), local.batch_of(len(examples))
    steps = local.steps_of(count)
    if local.steps is not None:
        passes = -(-steps * batch // count)
        stream = rng.permuted(np.broadcast_to(examples, (passes, count)), axis=1).reshape(-1)
        return BatchPlan(stream[: steps * batch].reshape(steps, batch), np.full(steps, batch))
    assert local.epochs is not None
    order = rng.permuted(np.broadcast_to(examples, (local.epochs, count)), axis=1)
    missing = -count % batch
    padded = np.concatenate([order, order[:, :missing]], axis=1)
    sizes = np.full((local.epochs, padded.shape[1] // batch), batch)
    sizes[:, -1] -= missing
    return BatchPlan(padded.reshape(-1, batch), sizes.reshape(-1))


def _sampled(examples: np.ndarray, local: LocalTraining, rng: np.random.Generator, noise: Noise) -> BatchPlan:
    """Poisson samples; privacy accounting holds for no others."""
    count, expected = len(examples), local.batch_of(len(examples))
    steps = local.steps_of(count)
    taken = rng.random((steps, count)) < expected / count
    sizes = taken.sum(1)
    # A stable sort puts those that are taken first; what follows is valid padding.
    order = np.argsort(~taken, axis=1, kind="stable")[:, : max(1, int(sizes.max()))]
    return BatchPlan(np.asarray(examples)[order], sizes, noise=noise, expected=expected)
