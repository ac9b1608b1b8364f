"""Handwritten digits that come with scikit-learn: nothing to download."""

from pathlib import Path
from typing import TYPE_CHECKING

from fedsec.data.sources.source import Source

if TYPE_CHECKING:
    from fedsec.data.dataset import Split


class Digits(Source):
    """UCI handwritten digits, 1,437 + 360 gray images of 8x8, 10 classes, embedded in scikit-learn.

    Pixels 0..16 become 0..255. The split is fixed: with the examples sorted by label (and, within a
    label, in the order of the file), every fifth, from the first on, is a test example. Each class is
    thus split 4 to 1, to within one example.

    Reference: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI repository, 1998.
    """

    name = "digits"
    layout = ""
    input_shape = (1, 8, 8)
    num_classes = 10
    embedded_in = "sklearn"
    how_to_get = "`pip install scikit-learn`; it is embedded there"

    def read(self, folder: Path) -> "tuple[Split, Split, tuple[str, ...]]":
        """See `Source.read`."""
        import numpy as np
        import torch

        from fedsec.data.dataset import Split

        table = folder / "datasets" / "data" / "digits.csv.gz"
        if table.is_file():  # read where it lies: scikit-learn takes about as long to load as PyTorch
            rows = np.loadtxt(table, delimiter=",")
        else:
            from sklearn.datasets import load_digits

            rows = np.column_stack(load_digits(return_X_y=True))
        labels = rows[:, -1].astype(np.int64)
        images = np.rint(rows[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        whole = Split(torch.from_numpy(images), torch.from_numpy(labels))
        by_label = np.argsort(labels, kind="stable")
        test = np.sort(by_label[::5])
        train = np.setdiff1d(by_label, test)
        return whole.take(train), whole.take(test), tuple("0123456789")
