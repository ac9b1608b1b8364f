"""The interface of inversion attacks: from an observation to images and labels."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from fedsec.arithmetic import arithmetic
from fedsec.errors import InputError
from fedsec.threat.distortion import Distortion
from fedsec.threat.kernels import differentiable_twice
from fedsec.threat.observation import Observation
from fedsec.threat.reconstruction import Reconstruction
from fedsec.threat.sealed import Sealed, unmodified

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

    role: ClassVar[str] = "updates"
    """What its kind of inversion looks at, where clients exchange updates."""
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    """The tasks whose examples it reconstructs: an observation has images, and labels that are classes."""

    reads_labels: ClassVar[bool] = True
    """Whether labels that are not granted are read from the last layer; else they are searched for with the images."""
    tells_labels_only: ClassVar[bool] = False
    """Whether labels are all that it is for: it reads them though they be granted."""

    @final
    def reconstruct(
        self, observation: Observation, *, generator: torch.Generator | None = None, watch: Watch | None = None
    ) -> Reconstruction:
        """What can be recovered from one observation.

        Args:
            observation: all that the attacker knows; left unchanged.
            generator: the only source of randomness, on the CPU; one seeded with 0 by default.
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
            observations: alike in all but update, labels and statistics; left unchanged. The first one's model is tried
                on a gray batch.
            generator: the only source of randomness, on the CPU; one seeded with 0 by default.
            watch: see `reconstruct`.

        Returns:
            One reconstruction for each.

        Raises:
            InputError: the observations differ in kind, an update is zero everywhere, the model cannot take the images,
                the attack cannot be used on them, or it broke this contract.
        """
        name = type(self).__name__
        if not observations:
            raise InputError(f"{name}: no observation")
        generator = generator or torch.Generator().manual_seed(0)
        if generator.device.type != "cpu":
            raise InputError(f"{name}: generator must be on the CPU, not on {generator.device}")
        _check_alike(name, observations)
        for observation in observations:
            _check_carries(name, observation)
        _check_model(name, observations[0])
        # A plain step is the gradient that it is, to every attack.
        observations = [observation.as_gradient() for observation in observations]
        model = observations[0].model
        exact = arithmetic(next(model.parameters()).device)
        with exact, unmodified(f"{name}.recover", **_watched(observations)), differentiable_twice(model):
            results = list(self.recover(observations, generator=generator, watch=watch or _ignore))
        if len(results) != len(observations):
            raise InputError(f"{name}.recover: {len(results)} reconstructions of {len(observations)} observations")
        return [
            _checked(f"{name}.recover", result, observation)
            for result, observation in zip(results, observations, strict=True)
        ]

    @abstractmethod
    def recover(
        self, observations: Sequence[Observation], *, generator: torch.Generator, watch: Watch
    ) -> Sequence[Reconstruction]:
        """One reconstruction for each observation; see `reconstruct_many`, which checks both sides of the contract."""


def _ignore(snapshot: Snapshot) -> None:
    pass


def _check_alike(name: str, observations: Sequence[Observation]) -> None:
    first = observations[0]
    for other in observations[1:]:
        for field in (
            "input_shape",
            "num_classes",
            "batch_size",
            "scale",
            "local",
            "loss",
            "reduction",
            "loss_scale",
            "unsent",
        ):
            if getattr(other, field) != getattr(first, field):
                raise InputError(f"{name}: observations attacked together must agree in {field}")
        if (other.labels is None) != (first.labels is None) or (other.statistics is None) != (first.statistics is None):
            raise InputError(f"{name}: observations attacked together must grant the same knowledge")
        if not _alike(first.distortion, other.distortion):
            raise InputError(
                f"{name}: observations attacked together must grant the same knowledge of the clients' defense: all or "
                "none a distortion, with the same signs and rescaled"
            )
        if other.update.keys() != first.update.keys() or other.device != first.device:
            raise InputError(f"{name}: observations attacked together must have updates of the same parameters")
        if not _same_model(first.model, other.model):
            raise InputError(f"{name}: observations attacked together must share one model")


def _alike(first: Distortion | None, other: Distortion | None) -> bool:
    if first is None or other is None:
        return first is other
    return (first.signs, first.rescaled) == (other.signs, other.rescaled)


def _same_model(first: nn.Module, other: nn.Module) -> bool:
    ours, theirs = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (first, other))
    modes, other_modes = ([module.training for module in model.modules()] for model in (first, other))
    if modes != other_modes or ours.keys() != theirs.keys():
        return False
    pairs = [(ours[key], theirs[key]) for key in ours]
    return all(a.dtype == b.dtype and a.device == b.device and torch.equal(a, b) for a, b in pairs)


def _check_carries(name: str, observation: Observation) -> None:
    if not any(bool(row.any()) for row in observation.update.values()):
        raise InputError(f"{name}: the update is zero everywhere; there is nothing to recover")
    masks = {} if observation.distortion is None else observation.distortion.kept
    if not any(bool((row[masks[key]] if key in masks else row).any()) for key, row in observation.update.items()):
        raise InputError(f"{name}: the defense kept nothing of the update but zeros; there is nothing to recover")
    for key, row in observation.gradient.items():
        if not bool(row.isfinite().all()):
            raise InputError(f"{name}: the gradient of {key!r}, from {observation.local}, is not finite")


def _check_model(name: str, observation: Observation) -> None:
    # A copy: a forward pass may move buffers. Two images: batch normalization in train mode refuses a single value.
    model = deepcopy(observation.model)
    device, dtype = observation.device, next(model.parameters()).dtype
    gray = observation.scale.apply(torch.full((2, *observation.input_shape), 0.5, dtype=dtype, device=device))
    for layer, module in model.named_modules():
        if isinstance(module, _NormBase) and module.training:
            module.register_forward_pre_hook(
                lambda module, entered, layer=layer: _check_spread(name, observation, layer, module, entered[0])
            )
    # A model of the user's own may draw from the global generators.
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            logits = model(gray)
        except (torch.OutOfMemoryError, InputError):
            raise
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            shape = "x".join(map(str, observation.input_shape))
            cause = " ".join(str(error).split())
            raise InputError(f"{name}: the model cannot take images of {shape}: {cause}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"{name}: the model must give logits [batch, classes], of 2 images it gives {got}")
    if logits.shape[1] != observation.num_classes:
        raise InputError(f"{name}: the model gives {logits.shape[1]} logits, num_classes is {observation.num_classes}")


def _check_spread(name: str, observation: Observation, layer: str, module: _NormBase, entered: Tensor) -> None:
    """Refuse batch normalization of a single value: it has no variance."""
    if isinstance(module, _InstanceNorm) or not 0 < entered[0].numel() == entered.shape[1]:
        return
    if observation.batch_size == 1:
        raise InputError(
            f"{name}: batch normalization {layer!r} in train mode sees a single value a channel for a batch of one "
            "image, which no client can train on; expected batch_size 2 or more, or the model in eval mode"
        )


def _watched(observations: Sequence[Observation]) -> dict[str, Tensor]:
    """What an attack must leave alone. Buffers are not among it: trying the model and putting them back is a write."""
    return {
        f"observations[{number}].{part}[{name!r}]": row
        for number, observation in enumerate(observations)
        for part, rows in (("update", observation.update), ("model", dict(observation.model.named_parameters())))
        for name, row in rows.items()
    }


def _checked(what: str, result: Reconstruction, observation: Observation) -> Reconstruction:
    if result.images is not None:
        images = result.images.detach()
        expected = (observation.batch_size, *observation.input_shape)
        if images.shape != expected or not bool(images.isfinite().all()):
            raise InputError(f"{what}: images must be finite and of shape {expected}, got {tuple(images.shape)}")
        if float(images.min()) < 0 or float(images.max()) > 1:
            raise InputError(f"{what}: images must lie in [0, 1], not in [{images.min():.3g}, {images.max():.3g}]")
        result = replace(result, images=images)
    result = replace(result, notes=(*observation.remarks, *result.notes))
    if result.labels is not None:
        labels = result.labels
        if labels.shape != (observation.batch_size,) or labels.dtype != torch.int64:
            raise InputError(f"{what}: labels must be {observation.batch_size} of int64")
        if int(labels.min()) < 0 or int(labels.max()) >= observation.num_classes:
            raise InputError(f"{what}: labels must lie in [0, {observation.num_classes})")
    return result
