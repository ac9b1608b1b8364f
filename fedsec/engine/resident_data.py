"""A federation's data, resident on the device as uint8 and gathered by index.

All clients' images lie in one tensor. A client is an array of example numbers; an example is an image
number and a label. A poisoned client gets examples of its own, so that the same image may carry the
true label for one client and a flipped one for another without being copied.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int16, Int64, UInt8
from torch import Tensor

from fedsec.data.augmentation import Augmentation
from fedsec.data.dataset import Split
from fedsec.data.images import normalize
from fedsec.data.normalization import Normalization
from fedsec.data.partitions import client_indices
from fedsec.errors import InputError


@dataclass
class ResidentData:
    """Images as uint8 on the device, and which examples belong to which client.

    Args:
        images: all images, uint8 in 0..255.
        image_of: image number of each example.
        label_of: label of each example.
        clients: example numbers of each client, at present.
        normalization: constants applied to images scaled to [0, 1].
        poisoned_by: the attack that corrupted some clients' examples, and these clients; None as long as nobody did.
        honest: of clients that corrupted their examples, the numbers of the honest ones.
        poisoned: of the same clients, the numbers of the corrupted ones.
        absent: of private clients, the numbers of examples whose slots stay empty: they count among the client's, and
            no gradient of theirs is ever formed.
    """

    images: UInt8[Tensor, "images channels height width"]
    image_of: Int64[Tensor, "examples"]
    label_of: Int64[Tensor, "examples"]
    clients: list[np.ndarray]
    normalization: Normalization
    poisoned_by: tuple[object, frozenset[int]] | None = None
    honest: dict[int, np.ndarray] = field(default_factory=dict)
    poisoned: dict[int, np.ndarray] = field(default_factory=dict)
    absent: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def build(
        cls, split: Split, clients: Sequence[Any], normalization: Normalization, device: torch.device
    ) -> "ResidentData":
        """Put a split on the device; example i is image i with its true label.

        Args:
            split: images or vectors, and their targets.
            clients: for each client the numbers of its examples or a mask, as an array, a tensor or a list.
            normalization: constants applied to images scaled to [0, 1], or to vectors as they are.
            device: where the data are to lie.

        Raises:
            PartitionError: a client without examples, examples that do not exist, or one that two clients have.
        """
        return cls(
            images=split.inputs.to(device),
            image_of=torch.arange(len(split), device=device),
            label_of=split.targets.to(device),
            clients=client_indices(clients, len(split)),
            normalization=normalization,
        )

    @property
    def device(self) -> torch.device:
        """Where the images lie."""
        return self.images.device

    def sizes(self, clients: Iterable[int]) -> np.ndarray:
        """Number of examples of each given client."""
        return np.array([len(self.clients[client]) for client in clients], dtype=np.int64)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images; an InputError where inputs are vectors."""
        if self.images.ndim != 4:
            raise InputError(f"augmentation: expected images, got vectors of {self.images.shape[1]} numbers")
        return self.images.shape[2], self.images.shape[3]

    def batch(
        self,
        examples: Int64[Tensor, "*batch"],
        views: Int16[Tensor, "*batch 5"] | None = None,
        augmentation: Augmentation | None = None,
    ) -> tuple[Float[Tensor, "*batch channels height width"], Int64[Tensor, "*batch"]]:
        """Normalized images and labels of the given examples, augmented where their views are given."""
        raw = self.images[self.image_of[examples.reshape(-1)]]
        if views is None or augmentation is None:
            images = normalize(raw, self.normalization)
        else:
            images = augmentation.apply(raw, views.reshape(-1, views.shape[-1]), self.normalization)
        return images.view(*examples.shape, *images.shape[1:]), self.label_of[examples]

    def put(self, numbers: np.ndarray) -> Tensor:
        """An array on the device; a GPU is not waited for."""
        tensor = torch.from_numpy(numbers)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def client_examples(self, client: int) -> tuple[Tensor, Int64[Tensor, "examples"]]:
        """One client's raw images (uint8) and labels."""
        return self.examples(self.clients[client])

    def examples(self, numbers: np.ndarray) -> tuple[Tensor, Int64[Tensor, "examples"]]:
        """The raw images (uint8) and labels of examples, whoever has them."""
        chosen = torch.from_numpy(numbers).to(self.device)
        return self.images[self.image_of[chosen]], self.label_of[chosen]

    def poison_only(self, clients: Collection[int]) -> None:
        """Let these clients have the examples that they corrupted, and all others their honest ones."""
        for client, poisoned in self.poisoned.items():
            self.clients[client] = poisoned if client in clients else self.honest[client]

    def replace_labels(self, client: int, labels: Int64[Tensor, "examples"]) -> None:
        """Give one client other labels for its images."""
        old = torch.from_numpy(self.clients[client]).to(self.device)
        self._append(client, self.image_of[old], labels)

    def replace_examples(self, client: int, images: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, "n"]) -> None:
        """Give one client other images and labels."""
        first = len(self.images)
        self.images = torch.cat([self.images, images.to(self.device)])
        self._append(client, torch.arange(first, len(self.images), device=self.device), labels)

    def replace_slots(
        self, client: int, places: Int64[np.ndarray, "n"], images: Tensor, labels: Int64[Tensor, "n"]
    ) -> Int64[np.ndarray, "n"]:
        """Put other examples in the place of some of a client's.

        Args:
            client: whose.
            places: of the examples among the client's.
            images: in their stead, as the others are stored.
            labels: likewise.

        Returns:
            Their numbers.
        """
        first, image = len(self.image_of), len(self.images)
        self.images = torch.cat([self.images, images.to(self.images)])
        own = torch.arange(image, len(self.images), device=self.device)
        self.image_of = torch.cat([self.image_of, own])
        self.label_of = torch.cat([self.label_of, labels.to(self.label_of)])
        numbers = np.arange(first, len(self.image_of), dtype=np.int64)
        self.clients[client] = self.clients[client].copy()
        self.clients[client][places] = numbers
        return numbers

    def _append(self, client: int, image_of: Tensor, labels: Tensor) -> None:
        first = len(self.image_of)
        self.image_of = torch.cat([self.image_of, image_of])
        self.label_of = torch.cat([self.label_of, labels.to(self.device)])
        self.honest.setdefault(client, self.clients[client])
        self.clients[client] = self.poisoned[client] = np.arange(first, len(self.image_of), dtype=np.int64)
