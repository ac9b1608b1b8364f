"""The interface of inversion attacks: from an observation to images and labels."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fedsec.contract import Sealed
from fedsec.errors import InputError
from fedsec.threat.observation import Observation, Reconstruction

__all__ = ["Inversion", "Snapshot", "Watch"]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """How far an inversion has come.

    Attributes:
        stage: what is being done, in one or two words.
        iteration: of this stage.
        iterations: how many this stage will take at most.
        losses: the best matching loss so far of each observation.
        images: the best images so far, in [0, 1].
        labels: that go with them.
    """

    stage: str
    iteration: int
    iterations: int
    losses: Float[Tensor, "trials"]
    images: Float[Tensor, "trials batch channels height width"]
    labels: Int64[Tensor, "trials batch"]


Watch = Callable[[Snapshot], None]


class Inversion(Sealed, ABC):
    """Recovers images and labels from what a server sees; a subclass fills in `recover`."""

    @final
    def reconstruct(
        self, observation: Observation, *, generator: torch.Generator | None = None, watch: Watch | None = None
    ) -> Reconstruction:
        """What can be recovered from one observation.

        Args:
            observation: all that the attacker knows; left unchanged.
            generator: the only source of randomness; one seeded with 0 by default.
            watch: called at intervals with the best so far. A KeyboardInterrupt during the search ends it
                and the best so far is returned, marked as interrupted.

        Returns:
            Images in [0, 1] and labels, in an order of the attack's own.

        Raises:
            InputError: the attack cannot be used on this observation, or broke this contract.
        """
        return self.reconstruct_many([observation], generator=generator, watch=watch)[0]

    @final
    def reconstruct_many(
        self,
        observations: Sequence[Observation],
        *,
        generator: torch.Generator | None = None,
        watch: Watch | None = None,
    ) -> list[Reconstruction]:
        """The same for several observations of one model, attacked together: faster than one by one.

        Args:
            observations: alike in all but update, labels and statistics.
            generator: the only source of randomness; one seeded with 0 by default.
            watch: see `reconstruct`.

        Returns:
            One reconstruction for each.

        Raises:
            InputError: the observations differ in kind, the attack cannot be used on them, or it broke this contract.
        """
        name = type(self).__name__
        if not observations:
            raise InputError(f"{name}: no observation")
        _check_alike(name, observations)
        generator = generator or torch.Generator().manual_seed(0)
        found = list(self.recover(observations, generator=generator, watch=watch or _ignore))
        if len(found) != len(observations):
            raise InputError(f"{name}.recover: {len(found)} reconstructions of {len(observations)} observations")
        return [_checked(f"{name}.recover", result, observations[0]) for result in found]

    @abstractmethod
    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> Sequence[Reconstruction]:
        """One reconstruction for each observation; see `reconstruct_many`, which checks both sides of the contract."""


def _ignore(snapshot: Snapshot) -> None:
    pass


def _check_alike(name: str, observations: Sequence[Observation]) -> None:
    first = observations[0]
    parameters = dict(first.model.named_parameters())
    for other in observations[1:]:
        for field in ("input_shape", "num_classes", "batch_size", "scale", "local"):
            if getattr(other, field) != getattr(first, field):
                raise InputError(f"{name}: observations attacked together must agree in {field}")
        if (other.labels is None) != (first.labels is None) or (other.statistics is None) != (first.statistics is None):
            raise InputError(f"{name}: observations attacked together must grant the same knowledge")
        if other.update.keys() != first.update.keys() or other.device != first.device:
            raise InputError(f"{name}: observations attacked together must have updates of the same parameters")
        theirs = dict(other.model.named_parameters())
        same = theirs.keys() == parameters.keys() and other.model.training == first.model.training
        if not same or any(not torch.equal(theirs[key], parameters[key]) for key in parameters):
            raise InputError(f"{name}: observations attacked together must share one model")


def _checked(what: str, result: Reconstruction, observation: Observation) -> Reconstruction:
    if result.images is not None:
        images = result.images.detach()
        expected = (observation.batch_size, *observation.input_shape)
        if images.shape != expected or not bool(images.isfinite().all()):
            raise InputError(f"{what}: images must be finite and of shape {expected}, got {tuple(images.shape)}")
        if float(images.min()) < 0 or float(images.max()) > 1:
            raise InputError(f"{what}: images must lie in [0, 1], not in [{images.min():.3g}, {images.max():.3g}]")
        result = replace(result, images=images)
    if result.labels is not None:
        labels = result.labels
        if labels.shape != (observation.batch_size,) or labels.dtype != torch.int64:
            raise InputError(f"{what}: labels must be {observation.batch_size} of int64")
        if int(labels.min()) < 0 or int(labels.max()) >= observation.num_classes:
            raise InputError(f"{what}: labels must lie in [0, {observation.num_classes})")
    return result
