"""The interface of inversions of feature maps: from what a FedGKT client sends to its images."""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.arithmetic import arithmetic
from fedsec.errors import InputError
from fedsec.threat.inversion import Snapshot, Watch
from fedsec.threat.observed.pixel_scale import PixelScale
from fedsec.threat.reconstruction import Reconstruction
from fedsec.threat.sealed import Sealed, unmodified

__all__ = ["FeatureInversion", "FeatureObservation"]


@dataclass(frozen=True, eq=False)
class FeatureObservation:
    """All that an honest-but-curious FedGKT server knows of some of a client's images. There is no field for the truth.

    Attributes:
        extractor: of the client, as far as the attacker knows it; a private copy in eval mode is kept.
        features: the feature maps that the client sent; kept in the extractor's dtype.
        input_shape: (channels, height, width) of one image.
        scale: how pixels become the extractor's input.
        labels: of the images, in the features' order; FedGKT's clients send them.
        exact: whether the extractor made these features. If not, it is only where the client's training began (the
            server hands out initial weights and never sees them again).

    Raises:
        InputError: the parts do not go together, or a feature is not finite.
    """

    extractor: nn.Module
    features: Float[Tensor, "batch channels height width"]
    input_shape: tuple[int, int, int]
    scale: PixelScale = field(default_factory=PixelScale)
    labels: Int64[Tensor, "batch"] | None = None
    exact: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "extractor", deepcopy(self.extractor).requires_grad_(False).eval())
        features = self.features
        if features.ndim != 4 or 0 in features.shape or not features.is_floating_point():
            raise InputError(
                "FeatureObservation: features must be floating-point feature maps [batch, channels, height, width], "
                f"not {features.dtype} of shape {tuple(features.shape)}"
            )
        like = next((row for row in self.extractor.parameters() if row.is_floating_point()), features)
        if features.device != like.device:
            raise InputError(f"FeatureObservation: features are on {features.device}, the extractor on {like.device}")
        object.__setattr__(self, "features", features.detach().to(like.dtype, copy=True))
        if not bool(self.features.isfinite().all()):
            raise InputError(f"FeatureObservation: features must be finite, also as {like.dtype}")
        if len(self.input_shape) != 3 or min(self.input_shape) < 1:
            raise InputError(
                f"FeatureObservation: input_shape must be (channels, height, width), got {self.input_shape}"
            )
        if len(self.scale.mean) not in (1, self.input_shape[0]):
            raise InputError(
                f"FeatureObservation: {self.scale} does not go with images of {self.input_shape[0]} channels"
            )
        if self.labels is not None:
            labels = self.labels
            if labels.shape != features.shape[:1] or labels.dtype != torch.int64 or int(labels.min()) < 0:
                raise InputError(
                    f"FeatureObservation: labels must be {len(features)} of int64 and not negative, got {labels.dtype} "
                    f"of shape {tuple(labels.shape)}"
                )
            object.__setattr__(self, "labels", labels.to(features.device).clone())

    @property
    def batch_size(self) -> int:
        """How many images are asked for."""
        return len(self.features)

    @property
    def device(self) -> torch.device:
        """Where the features lie."""
        return self.features.device


class FeatureInversion(Sealed, ABC):
    """Recovers images from their feature maps; a subclass fills in `recover`."""

    role: ClassVar[str] = "knowledge"
    """What its kind of inversion looks at, where clients exchange knowledge."""
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    """The tasks whose examples it reconstructs: an observation has images, and labels that are classes."""

    @final
    def reconstruct(
        self, observation: FeatureObservation, *, generator: torch.Generator | None = None, watch: Watch | None = None
    ) -> Reconstruction:
        """What can be recovered of the images.

        Args:
            observation: all that the attacker knows; left unchanged.
            generator: the only source of randomness, on the CPU; one seeded with 0 by default.
            watch: called at intervals with the best so far, as one trial; labels that nobody told are 0 there. A
                KeyboardInterrupt during the search ends it and the best so far is returned, marked as interrupted.

        Returns:
            Images in [0, 1], in the features' order, and the labels that were observed, if any.

        Raises:
            InputError: the features are zero everywhere, the extractor cannot take the images or gives other features,
                the attack cannot be used on this observation, or it broke this contract.
        """
        name = type(self).__name__
        generator = generator or torch.Generator().manual_seed(0)
        if generator.device.type != "cpu":
            raise InputError(f"{name}: generator must be on the CPU, not on {generator.device}")
        if not bool(observation.features.any()):
            raise InputError(f"{name}: the features are zero everywhere; there is nothing to recover")
        _check_extractor(name, observation)
        state = {f"extractor[{key!r}]": row for key, row in observation.extractor.state_dict(keep_vars=True).items()}
        exact = arithmetic(observation.features.device)
        with exact, unmodified(f"{name}.recover", features=observation.features, **state):
            result = self.recover(observation, generator=generator, watch=watch or _ignore)
        return _checked(f"{name}.recover", result, observation)

    @abstractmethod
    def recover(self, observation: FeatureObservation, *, generator: torch.Generator, watch: Watch) -> Reconstruction:
        """The images; see `reconstruct`, which checks both sides of the contract and fills in observed labels."""


def _ignore(snapshot: Snapshot) -> None:
    pass


def _check_extractor(name: str, observation: FeatureObservation) -> None:
    features = observation.features
    gray = observation.scale.apply(torch.full((2, *observation.input_shape), 0.5).to(features))
    with torch.no_grad():
        try:
            # A copy: some layers count their calls, even in eval mode.
            sent = deepcopy(observation.extractor)(gray)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            shape, cause = "x".join(map(str, observation.input_shape)), " ".join(str(error).split())
            raise InputError(f"{name}: the extractor cannot take images of {shape}: {cause}") from error
    expected = (2, *features.shape[1:])
    if not isinstance(sent, Tensor) or tuple(sent.shape) != expected:
        got = f"shape {tuple(sent.shape)}" if isinstance(sent, Tensor) else type(sent).__name__
        raise InputError(f"{name}: of 2 images the extractor must give features of shape {expected}, it gives {got}")


def _checked(what: str, result: Reconstruction, observation: FeatureObservation) -> Reconstruction:
    expected = (observation.batch_size, *observation.input_shape)
    if result.images is None:
        raise InputError(f"{what}: no images")
    images = result.images.detach()
    if images.shape != expected or not bool(images.isfinite().all()):
        raise InputError(f"{what}: images must be finite and of shape {expected}, got {tuple(images.shape)}")
    if float(images.min()) < 0 or float(images.max()) > 1:
        raise InputError(f"{what}: images must lie in [0, 1], not in [{images.min():.3g}, {images.max():.3g}]")
    return replace(result, images=images, labels=observation.labels)
