"""What a chain's gradient says of the images that it is the gradient of, as equations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, sqrt

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedsec.matching.features import rounding
from fedsec.matching.row_space import row_space
from fedsec.matching.separation.linear_chain import LinearChain

__all__ = ["ChainEquations", "ChainImages"]

_REWEIGHTINGS = 11
"""How often rows are weighed by how far they are from the others."""
_RESOLVED = 0.99
"""Share of an image in its row of the solution from which it counts as told apart."""
_MOST_NOISE = 0.05
"""Relative mismatch beyond which nothing counts as explained."""


@dataclass(frozen=True, eq=False)
class ChainImages:
    """Images, and how well they explain a gradient.

    Attributes:
        inputs: of the model, one row an image, in the order of the features.
        mismatch: of the gradient of these images, relative to the client's, over all layers but the last.
        residual: relative, of the equations for the images at the first layer, its bias included.
        tolerance: what the gradient's precision, and noise that its rank gives away, let one expect of both.
        resolution: of each image, its share in its row; what is left of one is a mixture with others.
        checked: whether the first layer has more equations than were solved; of no more, the residual is zero anyway.
    """

    inputs: Float[Tensor, "batch pixels"]
    mismatch: float
    residual: float
    tolerance: float
    resolution: Float[Tensor, "batch"]
    checked: bool = True

    @property
    def determined(self) -> Bool[Tensor, "batch"]:
        """Which images the first layer's gradient tells apart from the others."""
        return self.resolution > _RESOLVED

    @property
    def fits(self) -> bool:
        """Whether the gradient is that of these images, of which most are told apart."""
        if bool(self.determined.all()):
            return self.mismatch <= self.tolerance
        most = 2 * int(self.determined.sum()) > len(self.determined)
        return most and self.checked and self.residual <= self.tolerance


class ChainEquations:
    """The gradient of every layer but the last as a function of the images; in double precision on the CPU.

    Args:
        chain: the model.
        gradient: of the mean cross-entropy, by parameter name.
        targets: labels as probabilities.
        basis: orthonormal rows in whose span the images lie; all inputs are coordinates in it.
    """

    def __init__(
        self,
        chain: LinearChain,
        gradient: Mapping[str, Tensor],
        targets: Float[Tensor, "batch classes"],
        basis: Float[Tensor, "rank pixels"],
    ) -> None:
        self.chain, self.targets = chain.within(basis), targets
        whole, *others = (gradient[layer.weight_name].double().cpu() for layer in chain.layers)
        self.weights = [whole @ basis.T, *others]
        biases = [gradient.get(layer.bias_name) for layer in chain.layers]
        self.biases = [None if bias is None else bias.double().cpu() for bias in biases]
        self.lengths = [max(float(rows.norm()), 1e-300) for rows in self.weights]
        size, columns = len(basis), min(whole.shape)
        # Noise lies in all directions alike. Of the first layer only those of the basis are looked at.
        first = _noise(whole, size) * sqrt(size / columns)
        later = [_noise(rows, len(targets)) for rows in others]
        precision = max(rounding(gradient[layer.weight_name]) for layer in chain.layers)
        self.precision = max(first / self.lengths[0], precision)
        self.tolerance = min(max(3 * hypot(first, *later) / hypot(*self.lengths), precision), _MOST_NOISE)

    def at_features(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        """The mean loss's gradient at what enters the last layer."""
        posteriors = self.chain.logits(features).softmax(1)
        return (posteriors - self.targets) @ self.chain.head_weight / len(features)

    def sent(self, outputs: Sequence[Float[Tensor, "batch outputs"]]) -> list[Float[Tensor, "batch outputs"]]:
        """D of every layer: the mean loss's gradient at its outputs, before the activation.

        Args:
            outputs: of the chain, the images first.
        """
        arriving, rows = self.at_features(outputs[-1]), list[Tensor]()
        for layer, left in zip(reversed(self.chain.layers), reversed(outputs[1:]), strict=True):
            rows.append(arriving * layer.activation.slope(left))
            arriving = rows[-1] @ layer.weight
        return rows[::-1]

    def entered(
        self, number: int, sent: Float[Tensor, "batch outputs"]
    ) -> tuple[Float[Tensor, "batch inputs"], Float[Tensor, "batch"]]:
        """What entered a layer, by least squares over the rows of its gradient, and each image's resolution.

        Args:
            number: of the layer.
            sent: D of that layer.
        """
        rows, trust = self.weights[number], torch.ones_like(sent[0])
        inputs, resolution = self._solution(sent, rows, trust)
        moved = sent.abs().amax(0) > 0
        if not self.chain.layers[number].activation.kinked or not bool(moved.any()):
            return inputs, resolution
        for step in range(_REWEIGHTINGS):
            errors = (sent.T @ inputs - rows).norm(dim=1)
            usual = float(errors[moved].median()) + 1e-12 * float(errors.max()) + 1e-300
            # First towards the least sum of errors, then without those that lie far outside.
            early = step < _REWEIGHTINGS // 2
            trust = (1 + errors / usual).rsqrt() if early else (1 + (errors / (3 * usual)).square()).rsqrt()
            inputs, resolution = self._solution(sent, rows, trust)
        return inputs, resolution

    def _solution(self, sent: Tensor, rows: Tensor, trust: Float[Tensor, "outputs"]) -> tuple[Tensor, Tensor]:
        """The shortest solution of weighted least squares, in directions that the gradient's precision leaves."""
        left, values, right = torch.linalg.svd(sent * trust, full_matrices=False)
        known = values > 3 * self.precision * values[0]
        left, values, right = left[:, known], values[known], right[known]
        return (left / values) @ (right @ (trust[:, None] * rows)), left.square().sum(1)

    def residual(self, number: int, sent: Float[Tensor, "batch outputs"], inputs: Tensor) -> float:
        """Relative error of a layer's gradient.

        Args:
            number: of the layer.
            sent: D of that layer.
            inputs: what entered it.
        """
        error, length = self._error(number, sent, inputs)
        return float((error / length.clamp_min(1e-300)).sqrt())

    def errors(self, inputs: Float[Tensor, "batch rank"]) -> Float[Tensor, "errors"]:
        """Of every layer's gradient, relative to that layer's.

        Args:
            inputs: images in the coordinates of the basis.
        """
        outputs, parts = self.chain.outputs(inputs), list[Tensor]()
        for number, (sent, entered) in enumerate(zip(self.sent(outputs), outputs, strict=False)):
            parts.append((sent.T @ entered - self.weights[number]).flatten() / self.lengths[number])
            bias = self.biases[number]
            if bias is not None:
                parts.append((sent.sum(0) - bias) / self.lengths[number])
        return torch.cat(parts)

    def judged(
        self, inputs: Float[Tensor, "batch rank"], sent: Float[Tensor, "batch outputs"], resolution: Tensor
    ) -> ChainImages:
        """Images with how well they explain the gradient.

        Args:
            inputs: images in the coordinates of the basis.
            sent: D of the first layer, that they were computed with.
            resolution: see `ChainImages`.
        """
        outputs = self.chain.outputs(inputs)
        parts = [
            self._error(number, *layer) for number, layer in enumerate(zip(self.sent(outputs), outputs, strict=False))
        ]
        error, length = (torch.stack(part).sum() for part in zip(*parts, strict=True))
        mismatch = float((error / length.clamp_min(1e-300)).sqrt())
        moved, solved = int((sent.abs().amax(0) > 0).sum()), round(float(resolution.sum()))
        checked = self.biases[0] is not None or moved > solved
        return ChainImages(inputs, mismatch, self.residual(0, sent, inputs), self.tolerance, resolution, checked)

    def _error(self, number: int, sent: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of a layer's gradient, and its squared length."""
        goal, bias = self.weights[number], self.biases[number]
        error, length = (sent.T @ inputs - goal).square().sum(), goal.square().sum()
        if bias is None:
            return error, length
        return error + (sent.sum(0) - bias).square().sum(), length + bias.square().sum()


def _noise(rows: Float[Tensor, "outputs inputs"], size: int) -> float:
    """Length of noise in a layer's gradient, from what no batch of this size explains."""
    directions = min(rows.shape)
    if size >= directions:
        return 0.0
    basis = row_space(rows, size)
    beyond = float((rows - rows @ basis.T @ basis).norm())
    return beyond * sqrt(directions / (directions - size))
