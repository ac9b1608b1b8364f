"""Handwritten characters by writer, in the files that LEAF makes of NIST's forms."""

from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import TYPE_CHECKING, Any

from fedsec.data.sources.leaf import leaf_files, read_leaf
from fedsec.data.sources.source import Contents, Location, Place, Source
from fedsec.errors import DataError

if TYPE_CHECKING:
    import torch

_SIDE = 28


class FEMNIST(Source):
    """Handwritten digits and letters by writer (FEMNIST), gray images of 28x28, 62 classes, from LEAF's own files.

    LEAF's preprocessing writes train/*.json and test/*.json; a writer is a client of the partition `by_group`. Pixels
    are LEAF's: 1 is white paper.

    Reference: Cohen, Afshar, Tapson, van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017,
        arXiv:1702.05373; Caldas et al., "LEAF: a benchmark for federated settings", 2018, arXiv:1812.01097.
    """

    name = "femnist"
    layout = "LEAF's train/*.json and test/*.json"
    input_shape = (1, 28, 28)
    num_classes = 62
    has_groups = True
    how_to_get = (
        "LEAF's preprocessing makes it of NIST's Special Database 19; put its train/ and test/ into "
        "$FEDSEC_DATA/femnist, or name their folder in the scenario (dataset.root)"
    )

    def locate(self, place: Place) -> Location | None:
        """See `Source.locate`."""
        return None if place.shared else leaf_files(place.folder)

    def read(self, folder: Path) -> Contents:
        """See `Source.read`."""
        classes = (*digits, *ascii_uppercase, *ascii_lowercase)
        return read_leaf(folder, classes, inputs=_pixels, target=lambda _, label: int(label), stored=_stored)


def _pixels(values: Any) -> list[float]:
    if not isinstance(values, list) or len(values) != _SIDE * _SIDE:
        count = len(values) if isinstance(values, list) else type(values).__name__
        raise DataError(f"femnist: expected {_SIDE * _SIDE} pixels in 0..1 an image, got {count}")
    return values


def _stored(rows: list[Any]) -> "torch.Tensor":
    import torch

    values = torch.tensor(rows, dtype=torch.float32)
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise DataError("femnist: expected pixels in 0..1")
    return (values * 255).round().to(torch.uint8).view(-1, 1, _SIDE, _SIDE)
