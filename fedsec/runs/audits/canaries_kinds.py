"""What canary examples look like.

Mislabelled examples and blank images are those of Nasr, Hayes, Steinke, Balle, Tramer, Jagielski, Carlini, Terzis:
Tight Auditing of Differentially Private Machine Learning. USENIX Security 2023, arXiv:2302.07956; single bright pixels
are the input for what arXiv:2305.08846 calls a Dirac canary, whose gradient has one coordinate there.
"""

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from fedsec.errors import InputError
from fedsec.scenario.audit.canaries import Kind

BRIGHTEST = 255


def canary_examples(
    kind: Kind,
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """The canaries that take the place of some examples; no two of them are the same where they are made up.

    Args:
        kind: see `Kind`.
        images: of the examples, as they are stored.
        labels: theirs.
        num_classes: of the data; 0 where targets are numbers.
        rng: of the audit.

    Raises:
        InputError: there are no labels to change or no images to draw, or not so many different ones.
    """
    if kind == "natural":
        return images, labels
    if not num_classes:
        raise InputError(f"audit.canaries.kind: {kind} needs classes, and targets are numbers here; expected natural")
    if kind == "mislabelled":
        shifts = torch.from_numpy(rng.integers(1, num_classes, len(labels)))
        return images, (labels.cpu() + shifts) % num_classes
    if images.dtype != torch.uint8:
        raise InputError(f"audit.canaries.kind: {kind} needs images; expected mislabelled or natural for vectors")
    shape = tuple(images.shape[1:])
    pictures = _pixels(shape) if kind == "dirac" else _levels(shape)
    picture, label = _pairs(len(images), len(pictures), num_classes, kind, rng)
    return pictures[torch.from_numpy(picture)], torch.from_numpy(label)


def _pixels(shape: tuple[int, ...]) -> UInt8[Tensor, "pixels channels height width"]:
    """Black images with one bright pixel, a different one each."""
    channels, height, width = shape
    place = torch.eye(height * width, dtype=torch.bool).view(-1, 1, height, width)
    return place.expand(-1, channels, -1, -1).to(torch.uint8) * BRIGHTEST


def _levels(shape: tuple[int, ...]) -> UInt8[Tensor, "levels channels height width"]:
    """Images of one level of gray, a different one each."""
    levels = torch.arange(BRIGHTEST + 1, dtype=torch.uint8)
    return levels.view(-1, 1, 1, 1).repeat(1, *shape)


def _pairs(
    count: int, pictures: int, num_classes: int, kind: Kind, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, "canaries"], Int64[np.ndarray, "canaries"]]:
    """Different pairs of a picture and a label; each picture once before any comes again."""
    if count > pictures * num_classes:
        raise InputError(
            f"audit.canaries.count: there are {pictures * num_classes} different {kind} canaries of such images, and "
            f"{count} were asked for; expected fewer, or mislabelled"
        )
    first = rng.integers(num_classes, size=pictures)
    order = np.concatenate([rng.permutation(pictures) for _ in range(-(-count // pictures))])[:count]
    turn = np.arange(count) // pictures
    return order, (first[order] + turn) % num_classes
