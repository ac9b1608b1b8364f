"""Which examples each client trains on, step by step: decided before training, the same for every engine."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int16, Int64

from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError


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
        draws: key of the client's own stream for a model's random layers, 128 bits; see `fedsec.seeds.Streams.key`.
            None for models that draw nothing.
    """

    examples: Int64[np.ndarray, "steps batch"]
    sizes: Int64[np.ndarray, "steps"]
    views: Int16[np.ndarray, "steps batch 5"] | None = None
    noise: Noise | None = None
    expected: int = 0
    draws: int | None = None

    @property
    def steps(self) -> int:
        """Number of local steps."""
        return len(self.sizes)

    def first(self, steps: int) -> "BatchPlan":
        """The same plan, broken off after so many steps."""
        views = None if self.views is None else self.views[:steps]
        return replace(self, examples=self.examples[:steps], sizes=self.sizes[:steps], views=views)

    def without(self, absent: Int64[np.ndarray, "absent"]) -> "BatchPlan":
        """The same plan, in which the slots of some examples stay empty: as if their gradients were zero.

        That is what an account of DP-SGD calls removing an example (zero-out): how many slots there are, the sampling
        rate and the expected batch stay what they were.

        Raises:
            InputError: batches of ordinary training, whose mean would be over fewer examples.
        """
        if not len(absent):
            return self
        if self.noise is None:
            raise InputError("only private training has slots that may stay empty; expected fewer examples")
        taken = np.arange(self.examples.shape[1]) < self.sizes[:, None]
        present = taken & ~np.isin(self.examples, absent)
        order = np.argsort(~present, axis=1, kind="stable")
        views = None if self.views is None else np.take_along_axis(self.views, order[:, :, None], axis=1)
        return replace(
            self, examples=np.take_along_axis(self.examples, order, axis=1), sizes=present.sum(1), views=views
        )


def plan_batches(
    examples: np.ndarray,
    local: LocalTraining,
    rng: np.random.Generator,
    image_size: tuple[int, int] = (1, 1),
    *,
    noise: Noise | None = None,
    draws: int | None = None,
) -> BatchPlan:
    """Shuffle a client's examples into batches; for private training, draw Poisson samples.

    With `epochs`, each pass is a fresh permutation cut into batches, the last one possibly shorter, or left out
    (`drop_last`). With `steps`, permutations follow each other without a seam, so that every batch is full.

    Args:
        examples: the client's example numbers.
        local: how many batches, and how large.
        rng: the client's own stream for this round.
        image_size: (height, width), for augmentations that need it.
        noise: of private training.
        draws: key for a model's random layers.

    Raises:
        InputError: private training without noise of its own, or noise without private training.
    """
    if (local.private is None) != (noise is None):
        raise InputError("private training, and nothing else, needs a plan with noise")
    plan = _shuffled(examples, local, rng) if noise is None else _sampled(examples, local, rng, noise)
    plan = replace(plan, draws=draws)
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
    if local.drop_last:
        full = order[:, : count - count % batch].reshape(-1, batch)
        return BatchPlan(full, np.full(len(full), batch))
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
