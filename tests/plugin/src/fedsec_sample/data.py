"""A dataset that is made on the spot, and a partition."""

from pathlib import Path

import numpy as np
import torch

from fedsec.data import Dataset, Partition, Source, Split


class Stripes(Source):
    """Images of 8x8 with one bright row or column."""

    name = "stripes"
    layout = ""
    input_shape = (1, 8, 8)
    num_classes = 2
    embedded_in = "fedsec_sample"
    how_to_get = "`pip install fedsec-sample`"

    def read(self, folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 60, (160, 1, 8, 8), dtype=torch.uint8, generator=generator)
        labels = torch.arange(160) % 2
        for index, label in enumerate(labels.tolist()):
            view = images[index, 0] if label else images[index, 0].T
            view[index % 8] = 255
        whole = Split(images, labels)
        return whole.take(np.arange(120)), whole.take(np.arange(120, 160)), ("column", "row")


class FirstTakesHalf(Partition):
    """The first client gets half of the examples, the others share the rest.

    Args:
        share: of the first client.
    """

    needs_classes = False

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        self.share = share

    def assign(self, strata: np.ndarray, num_clients: int, num_strata: int, rng: np.random.Generator) -> np.ndarray:
        owners = 1 + np.arange(len(strata)) % max(1, num_clients - 1)
        owners[: int(self.share * len(strata))] = 0
        return rng.permutation(owners)


__all__ = ["Dataset", "FirstTakesHalf", "Stripes"]
