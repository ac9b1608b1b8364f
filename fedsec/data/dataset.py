"""Examples in memory: what every dataset becomes once it is loaded."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from fedsec.data.class_names import class_number
from fedsec.data.images import shape_text
from fedsec.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and what is to be predicted of them.

    Args:
        inputs: images as pixels in 0..255, or vectors of numbers on the scale on which they are to be learned; a text
            is a vector of its tokens' numbers.
        targets: the class of each example, from 0, or a number; of texts, a token for each place of the input.
        groups: whom each example comes from (a role, a writer), from 0; None where nobody knows.

    Raises:
        DataError: wrong type or shape, no example at all, a number that is not finite, or not one target (of texts, one
            row of them) and group an example.
    """

    inputs: UInt8[Tensor, "examples channels height width"] | Float32[Tensor, "examples features"]
    targets: Int64[Tensor, "examples"] | Float32[Tensor, "examples"] | Int64[Tensor, "examples length"]
    groups: Int64[Tensor, "examples"] | None = None

    def __post_init__(self) -> None:
        kind = self.inputs.dtype, self.inputs.ndim
        if kind not in ((torch.uint8, 4), (torch.float32, 2)) or 0 in self.inputs.shape:
            raise DataError(
                "images must be a non-empty uint8 tensor of shape [examples, channels, height, width], vectors a "
                f"float32 one of shape [examples, features], got {self.inputs.dtype} {list(self.inputs.shape)}"
            )
        one_each = self.targets.shape == self.inputs.shape[:1] or (
            not self.are_images and self.targets.dtype == torch.int64 and self.targets.shape == self.inputs.shape
        )
        if self.targets.dtype not in (torch.int64, torch.float32) or not one_each:
            raise DataError(
                "labels must be an int64 tensor (targets that are numbers a float32 one) with one entry for each of "
                f"the {len(self.inputs)} {'images' if self.are_images else 'examples'}, got {self.targets.dtype} "
                f"{list(self.targets.shape)}"
            )
        for name, values in (("inputs", self.inputs), ("targets", self.targets)):
            if values.is_floating_point() and not bool(values.isfinite().all()):
                raise DataError(f"{name} must be finite, but some are NaN or infinite")
        groups = self.groups
        if groups is not None and (groups.dtype != torch.int64 or groups.shape != self.inputs.shape[:1]):
            raise DataError(
                f"groups must be an int64 tensor with one entry for each of the {len(self.inputs)} examples, got "
                f"{groups.dtype} {list(groups.shape)}"
            )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def are_images(self) -> bool:
        """Whether the inputs are images; otherwise they are vectors."""
        return self.inputs.dtype == torch.uint8

    @property
    def are_classes(self) -> bool:
        """Whether the targets are classes; otherwise they are numbers."""
        return not self.targets.is_floating_point()

    @property
    def are_sequences(self) -> bool:
        """Whether the targets are tokens, one for each place of the input."""
        return self.targets.ndim == 2

    @property
    def images(self) -> UInt8[Tensor, "examples channels height width"]:
        """The inputs, which must be images (else a DataError)."""
        if not self.are_images:
            raise DataError(f"images are needed, but the inputs are vectors of {self.inputs.shape[1]} numbers")
        return self.inputs

    @property
    def labels(self) -> Int64[Tensor, "examples"]:
        """The targets, which must be classes (else a DataError)."""
        if not self.are_classes:
            raise DataError("classes are needed, but the targets are numbers")
        if self.are_sequences:
            raise DataError("one class for each example is needed, but the targets are sequences of tokens")
        return self.targets

    def take(self, indices: np.ndarray) -> "Split":
        """The examples with these numbers, in this order."""
        chosen = torch.from_numpy(indices).to(self.targets.device)
        groups = None if self.groups is None else self.groups[chosen]
        return Split(self.inputs[chosen], self.targets[chosen], groups)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test examples of one shape, with the same classes.

    Args:
        name: the name it was loaded by.
        train: examples that are shared out among clients.
        test: examples that only the evaluation sees.
        classes: name of each class, in the order of the labels; none where targets are numbers.
        source: where it was found.
        notes: what was passed over or taken for something else while it was read, a sentence each.
        task: what is learned of it, a key of `fedsec.tasks.TASKS`; by default what the targets are for: classes for
            classification, numbers for regression, sequences for `next_token`.
        superclasses: the coarse class of each class, from 0; none where classes form no tree.
        groups: whom examples come from (roles, writers), in the order of their numbers; none where nobody knows.

    Raises:
        DataError: training and test differ in shape or kind, fewer than two classes, a label without a class, an input
            that is no token, coarse classes of some classes only, or an example of a group that there is not.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()
    task: str = ""
    superclasses: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.task:
            classes = "next_token" if self.train.are_sequences else "classification"
            object.__setattr__(self, "task", classes if self.train.are_classes else "regression")
        self._check_groups()
        if self.train.inputs.shape[1:] != self.test.inputs.shape[1:] or self.train.are_images != self.test.are_images:
            kind = "images" if self.train.are_images else "inputs"
            raise DataError(
                f"{self.name}: training {kind} are {shape_text(self.train.inputs.shape[1:])}, test {kind} "
                f"{shape_text(self.test.inputs.shape[1:])} ({self.source})"
            )
        if self.train.are_sequences != self.test.are_sequences:
            raise DataError(f"{self.name}: targets of one split are sequences, of the other not ({self.source})")
        if self.train.are_classes != self.test.are_classes:
            raise DataError(f"{self.name}: targets of one split are classes, of the other numbers ({self.source})")
        if not self.train.are_classes:
            if self.classes:
                raise DataError(f"{self.name}: targets are numbers, so there can be no classes ({self.source})")
            return
        if len(self.classes) < 2:
            raise DataError(f"{self.name}: at least two classes are needed, got {len(self.classes)} ({self.source})")
        for part, split in (("training", self.train), ("test", self.test)):
            numbered = [("labels", split.targets)]
            if split.are_sequences:
                numbered.append(("tokens", split.inputs))
            for what, numbers in numbered:
                low, high = (float(bound) for bound in torch.aminmax(numbers))
                whole = not numbers.is_floating_point() or bool((numbers == numbers.round()).all())
                if low < 0 or high >= self.num_classes or not whole:
                    raise DataError(
                        f"{self.name}: {part} {what} run from {low:g} to {high:g}{'' if whole else ', not all whole'}, "
                        f"but there are {self.num_classes} classes, numbered from 0 ({self.source})"
                    )

    def _check_groups(self) -> None:
        if self.superclasses and len(self.superclasses) != len(self.classes):
            raise DataError(
                f"{self.name}: expected a coarse class for each of {len(self.classes)} classes, got "
                f"{len(self.superclasses)} ({self.source})"
            )
        for split in (self.train, self.test):
            numbers = split.groups
            if numbers is not None and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self.groups):
                raise DataError(
                    f"{self.name}: groups run from {int(numbers.min())} to {int(numbers.max())}, but there are "
                    f"{len(self.groups)} of them, numbered from 0 ({self.source})"
                )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input: (channels, height, width), or (features,)."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image; a DataError where inputs are vectors."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each has an example; 0 where targets are numbers."""
        return len(self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that change with any input, target or class name, and with nothing else.

        About a second for each gigabyte, the first time.
        """
        digest = hashlib.blake2b(digest_size=16)
        digest.update("\0".join((*self.classes, "")).encode("utf-8", "surrogateescape"))
        for tensor in (self.train.inputs, self.train.targets, self.test.inputs, self.test.targets):
            digest.update(f"{tensor.dtype} {list(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        if self.groups or self.superclasses:  # what decides who gets an example; older data have neither
            numbers = [split.groups.tolist() if split.groups is not None else [] for split in (self.train, self.test)]
            digest.update(repr((self.groups, self.superclasses, numbers)).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def class_number(self, name: int | str) -> int:
        """The label of a class.

        Args:
            name: of the class, upper or lower case; or its number already.

        Raises:
            DataError: no such class, or several whose names differ in case only; the text lists the known ones.
        """
        return class_number(self.name, self.classes, name)

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
