"""Semi-supervised training by MixMatch: a few labelled examples, and many without labels.

Reference: Berthelot et al., MixMatch: a holistic approach to semi-supervised learning, NeurIPS 2019, arXiv:1905.02249
(algorithm 1, equations 2 to 12).

Deviations: augmentations are shifts by a pixel and noise, in place of flips and crops, so that they go with tables and
digits; what is trained are the weights themselves, without the moving average of them.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

__all__ = ["MixMatch", "augmented", "mixed", "sharpened"]

NOISE = 0.1
"""Of an augmentation, in standard deviations of each entry over the examples."""
SMALLEST = 4
"""Pixels on a side, at least, of images that are shifted."""


@dataclass(frozen=True)
class MixMatch:
    """Trains a classifier on labelled examples and on its own guesses of the others.

    A guess is the mean of what the classifier says of `views` augmentations, sharpened. Examples of both kinds are
    mixed with each other, x <- l x + (1 - l) x', l >= 1/2 of a Beta(alpha, alpha), targets alike, and the loss is

        cross-entropy of the labelled + w_t mean square of (probabilities - guesses) of the others,

    where w_t grows linearly from 0 to `weight` over the steps.

    Args:
        steps: of Adam.
        lr: its learning rate.
        weight: of the term of examples without labels; 0: the labelled ones alone.
        batch: examples of each kind in a step.
        temperature: guesses are raised to its inverse.
        alpha: of the Beta distribution.
        views: augmentations behind a guess.
    """

    steps: int = 300
    lr: float = 0.002
    weight: float = 50.0
    batch: int = 64
    temperature: float = 0.8
    alpha: float = 0.75
    views: int = 2

    def train(
        self,
        model: nn.Module,
        labelled: Float[Tensor, "known *shape"],
        labels: Int64[Tensor, "known"],
        others: Float[Tensor, "unknown *shape"],
        num_classes: int,
        rng: np.random.Generator,
    ) -> None:
        """Change the weights of a model in place.

        Args:
            model: makes logits of examples; draws nothing at random.
            labelled: examples with labels.
            labels: of these.
            others: examples without.
            num_classes: of the labels.
            rng: the only source of randomness.
        """
        spread = torch.cat([labelled, others]).std(0, correction=0)
        targets = one_hot(labels, num_classes).to(labelled)
        optimizer = torch.optim.Adam(model.parameters(), lr=self.lr)
        for step in range(self.steps):
            known = self._drawn(len(labelled), rng)
            unknown = self._drawn(len(others), rng)
            inputs, truth = augmented(labelled[known], spread, rng), targets[known]
            views = [augmented(others[unknown], spread, rng) for _ in range(self.views)]
            with torch.no_grad():
                guesses = torch.stack([model(view).softmax(1) for view in views]).mean(0)
            guesses = sharpened(guesses, self.temperature).repeat(self.views, 1)
            everything, wanted = mixed(torch.cat([inputs, *views]), torch.cat([truth, guesses]), self.alpha, rng)
            logits = model(everything)
            count = len(inputs)
            loss = cross_entropy(logits[:count], wanted[:count])
            difference = logits[count:].softmax(1) - wanted[count:]
            loss = loss + self.weight * step / self.steps * difference.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _drawn(self, count: int, rng: np.random.Generator) -> Tensor:
        """Places of a batch's examples, each of which stands in it as often as any other, if there are too few."""
        rounds = -(-self.batch // count)
        places = np.concatenate([rng.permutation(count) for _ in range(rounds)])
        return torch.from_numpy(places[: self.batch])


def augmented(
    inputs: Float[Tensor, "batch *shape"], spread: Float[Tensor, "*shape"], rng: np.random.Generator
) -> Float[Tensor, "batch *shape"]:
    """Examples with noise; images moved by up to a pixel each way, too, their borders repeated.

    Args:
        inputs: images [batch, channels, height, width], or rows of any shape.
        spread: standard deviation of each entry.
        rng: the only source of randomness.
    """
    if inputs.ndim == 4 and min(inputs.shape[2:]) >= SMALLEST:
        count, (height, width) = len(inputs), inputs.shape[2:]
        down, right = torch.from_numpy(rng.integers(-1, 2, (2, count, 1))).to(inputs.device)
        rows = (torch.arange(height, device=inputs.device) + down).clamp(0, height - 1)
        columns = (torch.arange(width, device=inputs.device) + right).clamp(0, width - 1)
        places = torch.arange(count, device=inputs.device)[:, None, None]
        inputs = inputs[places, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    noise = torch.from_numpy(rng.standard_normal(tuple(inputs.shape))).to(inputs)
    return inputs + NOISE * spread * noise


def sharpened(probabilities: Float[Tensor, "batch classes"], temperature: float) -> Float[Tensor, "batch classes"]:
    """Probabilities to the power of 1 / temperature, summing to one again."""
    powers = probabilities ** (1 / temperature)
    return powers / powers.sum(1, keepdim=True)


def mixed(
    inputs: Float[Tensor, "batch *shape"],
    targets: Float[Tensor, "batch classes"],
    alpha: float,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, "batch classes"]]:
    """Each example with a random other one, of which there is less than half in it; targets alike."""
    count = len(inputs)
    shares = rng.beta(alpha, alpha, count)
    own = torch.from_numpy(np.maximum(shares, 1 - shares)).to(inputs)
    partners = torch.from_numpy(rng.permutation(count))
    share = own.view(-1, *[1] * (inputs.ndim - 1))
    blended = share * inputs + (1 - share) * inputs[partners]
    return blended, own[:, None] * targets + (1 - own[:, None]) * targets[partners]
