"""Labeled images in memory: what every dataset becomes once it is loaded."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from fedsec.data.normalization import Normalization
from fedsec.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Args:
        images: pixels in 0..255.
        labels: class of each image, from 0.

    Raises:
        DataError: wrong type or shape, no image at all, or not one label for each image.
    """

    images: UInt8[Tensor, "examples channels height width"]
    labels: Int64[Tensor, "examples"]

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or 0 in self.images.shape:
            raise DataError(
                "images must be a non-empty uint8 tensor of shape [examples, channels, height, width], got "
                f"{self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels must be an int64 tensor with one entry for each of the {len(self.images)} images, got "
                f"{self.labels.dtype} {list(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Split":
        """The examples with these numbers, in this order."""
        chosen = torch.from_numpy(indices).to(self.labels.device)
        return Split(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images of one shape, with the same classes.

    Args:
        name: the name it was loaded by.
        train: examples that are shared out among clients.
        test: examples that only the evaluation sees.
        classes: name of each class, in the order of the labels.
        source: where it was found.

    Raises:
        DataError: shapes of training and test images differ, fewer than two classes, or a label without a class.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise DataError(
                f"{self.name}: training images are {shape_text(self.train.images.shape[1:])}, test images "
                f"{shape_text(self.test.images.shape[1:])} ({self.source})"
            )
        if len(self.classes) < 2:
            raise DataError(f"{self.name}: at least two classes are needed, got {len(self.classes)} ({self.source})")
        for part, split in (("training", self.train), ("test", self.test)):
            low, high = (int(bound) for bound in torch.aminmax(split.labels))
            if low < 0 or high >= self.num_classes:
                raise DataError(
                    f"{self.name}: {part} labels run from {low} to {high}, but there are {self.num_classes} classes, "
                    f"numbered from 0 ({self.source})"
                )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each has an example."""
        return len(self.classes)

    def subset(self, train_size: int | None, test_size: int | None, rng: np.random.Generator) -> "Dataset":
        """A random part of this dataset, its examples in their old order.

        From equal generators a smaller subset lies inside a larger one, and the size of one split never changes
        which examples of the other are chosen.

        Args:
            train_size: number of training examples; None keeps all.
            test_size: number of test examples; None keeps all.
            rng: chooses the examples, uniformly without replacement.

        Raises:
            DataError: a size below 1 or above what there is.
        """
        return replace(
            self,
            train=self._part("train_size", self.train, train_size, rng),
            test=self._part("test_size", self.test, test_size, rng),
        )

    def _part(self, key: str, split: Split, size: int | None, rng: np.random.Generator) -> Split:
        order = rng.permutation(len(split))
        if size is None:
            return split
        if not 1 <= size <= len(split):
            raise DataError(f"{self.name}: {key} must be between 1 and {len(split)}, got {size}")
        return split.take(np.sort(order[:size]))


def shape_text(shape: tuple[int, ...]) -> str:
    """An image's shape as people write it: channels x height x width."""
    return "x".join(map(str, shape))


def normalize(images: UInt8[Tensor, "n c h w"], normalization: Normalization) -> Float[Tensor, "n c h w"]:
    """uint8 images as float32: (image / 255 - mean) / std, channel by channel."""
    scale, shift = _affine(normalization, images.device)
    return images.to(torch.float32).mul_(scale).sub_(shift)


@lru_cache(maxsize=16)
def _affine(normalization: Normalization, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and offset that `normalize` applies, kept on the device: no copy to it in the training loop."""
    mean, std = (torch.tensor(v, device=device).view(-1, 1, 1) for v in (normalization.mean, normalization.std))
    return 1 / (255 * std), mean / std
