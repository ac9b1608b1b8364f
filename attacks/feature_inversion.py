"""Feature inversion: pixels whose feature maps are those that a client sent.

A 3x3 convolution to 16 channels at full resolution gives 16 numbers for the 3 of each pixel, so even behind a ReLU the
image is overdetermined: with the client's own extractor it comes back to rounding. FedGKT's server does not have that
extractor, but it handed out the weights that the client's training began with. The drift since then is the same for
all images of a batch and far smaller than what they tell about it, so `refine` estimates it along with them.

Group normalization without a bias before it removes each image's contrast, one number that no feature tells, and an
extractor whose scale drifted hides the contrast that all images share. The prior on the contrast fills it in: it takes
the pixels' scale for the data's own mean and deviation, and images whose contrast is unusual come back with the
usual one.

Reference: He, Zhang, Lee, Model inversion attacks against collaborative inference, ACSAC 2019 (regularized maximum
likelihood); Mahendran, Vedaldi, Understanding deep image representations by inverting them, CVPR 2015,
arXiv:1412.0035 (normalized feature distance, total variation). Both take the network as known.

Deviations: L-BFGS instead of gradient descent, a squared total variation (smooth, as L-BFGS needs it), priors that
fade, a quadratic penalty instead of a hard box during the search, and the extractor's refinement.
"""

from dataclasses import dataclass
from math import isfinite, prod

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import functional_call

from fedsec.errors import InputError
from fedsec.matching.lbfgs import LBFGS
from fedsec.matching.limits import Deadline, check_limits
from fedsec.threat import FeatureInversion, FeatureObservation, PixelScale, Reconstruction, Snapshot
from fedsec.threat.inversion import Watch

_STAGE = 20
"""L-BFGS iterations between two fadings of the priors, looks at the clock and calls of the watch."""

_SOLVED = 1e-6
"""Relative mismatch at which a known extractor's image is as good as 255 shades a channel can show."""

_BOX = 1.0
"""Weight of the mean squared distance of pixels from [0, 1]."""

_UNIT_STEP = 4.0
"""Steps of the extractor's weights relative to those of pixels. Of 1, 4, 16 and 64 the best or next to it for 1 and 8
images of CIFAR-10 and drifts of 1 and 10 epochs; 64, without any rescaling for 8 images, gains 10 dB less."""

_UNIT = PixelScale()
_STANDARD = PixelScale((0.5,), (0.25,))


class InvertFeatures(FeatureInversion):
    """Recovers a FedGKT client's images from the feature maps that it sends to the server.

    min over x of ||E(x) - h||^2 / ||h||^2 + tv ||grad x||^2 + contrast (mean x^2 - 1)^2, where the last x is
    standardized and both priors fade

    If E is only where the client's training began, its weights are searched for too: matrices and kernels near their
    start, vectors (biases, affine parts, which stand for running statistics) freely.

    Args:
        iterations: of L-BFGS, at most.
        tv: weight of the mean squared difference of neighboring pixels, at first.
        contrast: weight of the deviation from the usual contrast, at first: that of the observation's pixel scale.
        fade: share of both weights that is left at the end; they fade geometrically.
        refine: adapt an extractor that is not the client's own.
        anchor: weight of the mean squared relative change of its matrices and kernels.
        seconds: stop after this time; never, if not given.

    Raises:
        InputError: a number out of range.

    Cost:
        In each iteration a pass forward and backward through the client's extractor.

    Limits:
        Contrast that normalization removed does not come back; images whose contrast is unusual get the usual one. It
        needs the extractor that the client began with, and little drift from it.

    Example:
        iterations: 100

    Reference: He et al., ACSAC 2019; Mahendran & Vedaldi, CVPR 2015, arXiv:1412.0035
    """

    def __init__(
        self,
        iterations: int = 600,
        tv: float = 1e-3,
        contrast: float = 1e-3,
        fade: float = 1e-2,
        refine: bool = True,
        anchor: float = 1e-2,
        seconds: float | None = None,
    ) -> None:
        check_limits("InvertFeatures", iterations=iterations, seconds=seconds)
        for name, weight in {"tv": tv, "contrast": contrast, "anchor": anchor}.items():
            if not (isfinite(weight) and weight >= 0):
                raise InputError(f"InvertFeatures: {name} must not be negative, not {weight}")
        if not 0 < fade <= 1:
            raise InputError(f"InvertFeatures: fade must lie in (0, 1], not {fade}")
        self.iterations, self.tv, self.contrast, self.fade = iterations, tv, contrast, fade
        self.refine, self.anchor, self.seconds = refine, anchor, seconds

    def recover(self, observation: FeatureObservation, *, generator: torch.Generator, watch: Watch) -> Reconstruction:
        drift = None if observation.exact or not self.refine else _Drift.of(observation)
        best = _Best(observation, watch, self.iterations)
        deadline = Deadline(self.seconds)
        stages = -(-self.iterations // _STAGE)
        fading = 1.0
        # Without a drift to share, every image is a problem of its own, with its own line search.
        size = observation.batch_size
        everyone = torch.arange(size)
        start = observation.features.new_full((size, prod(observation.input_shape)), 0.5)
        if drift is not None:
            start = torch.cat([start.view(1, -1), start.new_zeros(1, drift.size)], 1)

        def evaluate(points: Float[Tensor, "some n"], which: Int64[Tensor, "some"]) -> tuple[Tensor, Tensor]:
            points = points.detach().requires_grad_()
            images, change = _parts(points, observation, drift)
            losses = _mismatch(observation, images, which if drift is None else everyone, drift, change)
            losses = losses + fading * self._priors(images, observation.scale) + _BOX * _outside(images)
            total = losses if drift is None else (losses.mean() + self.anchor * drift.cost(change))[None]
            return total, torch.autograd.grad(total.sum(), points)[0]

        search = LBFGS(evaluate, start)
        interrupted = False
        try:
            for stage in range(stages):
                search.run(min(_STAGE, self.iterations - stage * _STAGE), changed=True, deadline=deadline)
                with torch.no_grad():
                    images, change = _parts(search.points, observation, drift)
                    losses = _mismatch(observation, images, everyone, drift, change)
                best.record(search.iterations, losses, images)
                # While the extractor is uncertain, a small mismatch does not yet mean good images.
                solved = drift is None and bool((losses <= _SOLVED).all())
                if solved or deadline.passed:
                    break
                fading = self.fade ** ((stage + 1) / max(1, stages - 1))
        except KeyboardInterrupt:
            interrupted = True
        return best.result(interrupted)

    def _priors(self, images: Float[Tensor, "some c h w"], scale: PixelScale) -> Float[Tensor, "some"]:
        """Squared total variation, and distance from the usual contrast."""
        rows, columns = (images.diff(dim=axis).flatten(1) for axis in (-2, -1))
        variation = sum(steps.square().sum(1) / max(1, steps.shape[1]) for steps in (rows, columns))
        standardized = (_STANDARD if scale == _UNIT else scale).apply(images)
        power = standardized.square().flatten(1).mean(1)
        return self.tv * variation + self.contrast * (power - 1).square()


@dataclass(frozen=True, eq=False)
class _Drift:
    """How the extractor may differ from the one that is known, as one vector.

    Attributes:
        start: the known parameters, by name.
        sizes: root mean square of each parameter, or 1 if it is zero.
        unit: how far a parameter moves, in its size, for a step of one.
        anchored: share of the vector's square that costs something; vectors of parameters move freely.
        size: of the vector.
    """

    start: dict[str, Tensor]
    sizes: dict[str, float]
    unit: float
    anchored: Float[Tensor, "size"]
    size: int

    @classmethod
    def of(cls, observation: FeatureObservation) -> "_Drift | None":
        """None if the extractor has no parameters."""
        parameters = observation.extractor.named_parameters()
        start: dict[str, Tensor] = {name: row for name, row in parameters if row.is_floating_point()}
        if not start:
            return None
        # All places of all images pull at one weight, and few at one pixel: in units of a pixel's own curvature L-BFGS
        # sees both about alike.
        unit = _UNIT_STEP * observation.features[:, 0].numel() ** -0.5
        sizes = {name: float(row.square().mean().sqrt()) or 1.0 for name, row in start.items()}
        anchored = torch.cat([torch.full((row.numel(),), float(row.ndim > 1)) for row in start.values()])
        return cls(start, sizes, unit, anchored.to(observation.features), len(anchored))

    def weights(self, change: Float[Tensor, "size"]) -> dict[str, Tensor]:
        """The extractor's parameters after this change."""
        parts = torch.split(change, [row.numel() for row in self.start.values()])
        return {
            name: row + self.unit * self.sizes[name] * part.view_as(row)
            for (name, row), part in zip(self.start.items(), parts, strict=True)
        }

    def cost(self, change: Float[Tensor, "size"]) -> Float[Tensor, ""]:
        """Mean squared relative change of what is anchored."""
        return (self.anchored * (self.unit * change).square()).sum() / self.anchored.sum().clamp_min(1)


class _Best:
    """The images of least mismatch so far, all of one search: the server cannot judge by the truth."""

    def __init__(self, observation: FeatureObservation, watch: Watch, iterations: int) -> None:
        size, features = observation.batch_size, observation.features
        self._watch, self._iterations, self._done = watch, iterations, 0
        self._images = torch.full((size, *observation.input_shape), 0.5).to(features)
        self._labels = observation.labels
        self._shown = torch.zeros(size, dtype=torch.int64) if self._labels is None else self._labels
        self._loss = torch.tensor(torch.inf)
        self._history: list[Tensor] = []

    def record(self, iteration: int, losses: Float[Tensor, "batch"], images: Float[Tensor, "batch c h w"]) -> None:
        """Take note of where the search stands."""
        loss = losses.mean().float().cpu()
        self._history.append(loss)
        self._done = iteration
        if bool(loss < self._loss) and bool(images.isfinite().all()):
            self._loss, self._images = loss, images.detach().clamp(0, 1)
        shown = self._images[None].clone(), self._shown[None].to(self._images.device)
        self._watch(Snapshot("features", iteration, self._iterations, self._loss[None], *shown))

    def result(self, interrupted: bool) -> Reconstruction:
        """The best so far."""
        lost = () if bool(self._loss.isfinite()) else ("the search never had a finite loss; the images are plain gray",)
        losses = torch.stack(self._history) if self._history else torch.zeros(0)
        return Reconstruction(self._images, self._labels, losses, self._done, interrupted=interrupted, notes=lost)


def _parts(
    points: Float[Tensor, "some n"], observation: FeatureObservation, drift: _Drift | None
) -> tuple[Tensor, Tensor]:
    """Images [some, c, h, w] and the change of the extractor [size]."""
    if drift is None:
        return points.view(-1, *observation.input_shape), points.new_zeros(0)
    pixels, change = torch.split(points[0], [points.shape[1] - drift.size, drift.size])
    return pixels.view(-1, *observation.input_shape), change


def _mismatch(
    observation: FeatureObservation, images: Tensor, which: Tensor, drift: _Drift | None, change: Tensor
) -> Float[Tensor, "some"]:
    """||E(x) - h||^2 of each image, relative to the mean power of the features."""
    inputs = observation.scale.apply(images)
    weights = {} if drift is None else drift.weights(change)
    features: Tensor = functional_call(observation.extractor, weights, (inputs,))
    power = observation.features.square().flatten(1).sum(1).mean()
    wanted = observation.features[which.to(observation.device)]
    return (features - wanted).square().flatten(1).sum(1) / power


def _outside(images: Float[Tensor, "some c h w"]) -> Float[Tensor, "some"]:
    """Mean squared distance of the pixels from [0, 1]."""
    return (images - images.clamp(0, 1)).square().flatten(1).mean(1)
