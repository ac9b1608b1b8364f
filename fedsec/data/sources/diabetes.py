"""A regression on ten measurements, which comes with scikit-learn: nothing to download."""

from pathlib import Path
from typing import TYPE_CHECKING

from fedsec.data.sources.source import Source

if TYPE_CHECKING:
    from fedsec.data.dataset import Split

_TEST = 88  # of 442


class Diabetes(Source):
    """Progression of diabetes, 354 + 88 patients of 10 measurements, target a number, embedded in scikit-learn.

    Measurements and target are standardized over all 442 patients (mean 0, variance 1), which the publisher's scaling
    of the measurements amounts to; a target t stands for 152.133 + 77.006 t. The split is fixed: the first 88 of a
    random order are test examples.

    Reference: Efron, Hastie, Johnstone, Tibshirani, "Least angle regression", Annals of Statistics 32 (2004).
    """

    name = "diabetes"
    layout = ""
    input_shape = (10,)
    num_classes = 0
    task = "regression"
    embedded_in = "sklearn"
    how_to_get = "`pip install scikit-learn`; it is embedded there"

    def read(self, folder: Path) -> "tuple[Split, Split, tuple[str, ...]]":
        """See `Source.read`."""
        import numpy as np
        import torch
        from sklearn.datasets import load_diabetes

        from fedsec.data.dataset import Split
        from fedsec.seeds import Streams

        measurements, progression = load_diabetes(return_X_y=True, scaled=False)
        columns = np.column_stack([measurements, progression])
        columns = ((columns - columns.mean(axis=0)) / columns.std(axis=0)).astype(np.float32)
        whole = Split(torch.from_numpy(columns[:, :-1].copy()), torch.from_numpy(columns[:, -1].copy()))
        order = Streams(0).numpy("diabetes", "split").permutation(len(whole))
        return whole.take(np.sort(order[_TEST:])), whole.take(np.sort(order[:_TEST])), ()
