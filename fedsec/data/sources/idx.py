"""MNIST and the datasets published in its file format."""

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from fedsec.data.download import Progress, download
from fedsec.data.sources.source import Location, Place, Source
from fedsec.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from fedsec.data.dataset import Split

_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_MNIST_STARTS = bytes((5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6, 1, 7))
_FASHION_STARTS = bytes((9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9, 5, 5, 7, 9))
_LARGEST = 1 << 30  # bytes; the largest set in this format, EMNIST, has half as many
_BLOCK = 1 << 22


def read_idx(path: Path, ndim: int) -> "np.ndarray":
    """Read an IDX file of unsigned bytes, compressed if its name ends in .gz.

    The format: two zero bytes, the type (8 is uint8), the number of dimensions, each dimension as a
    big-endian 32-bit integer, the bytes.

    Args:
        path: the file.
        ndim: number of dimensions it must have.

    Returns:
        Writable uint8 array.

    Raises:
        DataError: unreadable, truncated, corrupt, or of another type or number of dimensions.
    """
    import numpy as np

    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * ndim)
            if len(header) < 4 + 4 * ndim or header[:4] != bytes((0, 0, 8, ndim)):
                raise DataError(f"{path} is not an IDX file of unsigned bytes with {ndim} dimension(s); get it again")
            shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4))
            size = 1
            for length in shape:
                size *= length
            # One byte more than expected: it finds surplus bytes, and makes gzip check its checksum.
            if size > _LARGEST:
                raise DataError(
                    f"{path} is corrupt: its header promises {'x'.join(map(str, shape))} bytes; expected at most "
                    f"{_LARGEST:,}; delete it and get it again"
                )
            content = _read(file, size + 1)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise DataError(f"{path} is unreadable, truncated or corrupt ({error}); delete it and get it again") from error
    if len(content) != size:
        raise DataError(
            f"{path} is truncated or corrupt: its header promises {'x'.join(map(str, shape))} bytes, it holds "
            f"{'more' if len(content) > size else len(content)}; delete it and get it again"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read(file: BinaryIO | gzip.GzipFile, size: int) -> bytearray:
    """At most `size` bytes. Read in blocks: memory is taken for what is there, not for what is claimed."""
    content = bytearray()
    while len(content) < size and (block := file.read(min(_BLOCK, size - len(content)))):
        content += block
    return content


class IdxSource(Source):
    """Four IDX files, lying flat or as torchvision keeps them, compressed or not."""

    layout = ", ".join((*_TRAIN, *_TEST)) + " (.gz or not)"
    input_shape = (1, 28, 28)
    num_classes = 10
    downloadable = True
    torchvision_class: ClassVar[str]
    """Name of the class in torchvision.datasets, which knows addresses and hashes and names the folder."""
    classes: ClassVar[tuple[str, ...]]
    foreign_labels: ClassVar[tuple[bytes, ...]]
    """The first training labels of other datasets whose files have the same names."""

    def locate(self, place: Place) -> Location | None:
        """See `Source.locate`."""
        own = place.folder / self.torchvision_class / "raw"
        for folder in (own, place.folder):
            paths = [_present(folder, name) for name in _TRAIN + _TEST]
            lacks = tuple(name for name, path in zip(_TRAIN + _TEST, paths, strict=True) if path is None)
            if len(lacks) == len(paths):
                continue
            labels = paths[1]
            if folder != own and place.shared and (lacks or labels is None or self._is_foreign(labels)):
                continue
            return Location(folder, lacks=lacks)
        return None

    def read(self, folder: Path) -> "tuple[Split, Split, tuple[str, ...]]":
        """See `Source.read`."""
        labels = _present(folder, _TRAIN[1])
        if labels is not None and self._is_foreign(labels):
            raise DataError(f"{labels} belongs to another dataset whose files have the same names, not to {self.name}")
        return self._split(folder, _TRAIN), self._split(folder, _TEST), self.classes

    def own_files(self, folder: Path) -> list[Path]:
        """See `Source.own_files`."""
        return [path for name in _TRAIN + _TEST if (path := _present(folder, name)) is not None]

    def fetch(self, folder: Path, progress: Progress | None) -> None:
        """See `Source.fetch`."""
        from torchvision import datasets

        publisher = getattr(datasets, self.torchvision_class)
        for file, md5 in publisher.resources:
            download([mirror + file for mirror in publisher.mirrors], folder / file, md5, progress)

    def _split(self, folder: Path, names: tuple[str, str]) -> "Split":
        import torch

        from fedsec.data.dataset import Split

        paths = [_present(folder, name) or folder / name for name in names]
        images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
        if len(images) != len(labels):
            raise DataError(f"{paths[0]} holds {len(images)} images, but {paths[1]} holds {len(labels)} labels")
        return Split(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels).to(torch.int64))

    def _is_foreign(self, labels: Path) -> bool:
        """Whether a file of training labels is another dataset's (their hashes differ from packager to packager)."""
        try:
            with gzip.open(labels) if labels.suffix == ".gz" else labels.open("rb") as file:
                return file.read(8 + len(_MNIST_STARTS))[8:] in self.foreign_labels
        except (OSError, EOFError, zlib.error):
            return False


class MNIST(IdxSource):
    """Handwritten digits, 60,000 + 10,000 gray images of 28x28, 10 classes.

    Reference: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.
    """

    name = "mnist"
    torchvision_class = "MNIST"
    classes = tuple("0123456789")
    foreign_labels = (_FASHION_STARTS,)
    how_to_get = (
        "`fedsec data fetch mnist` on a machine with a network, or put the four files into $FEDSEC_DATA/mnist, "
        "or name their folder in the scenario (dataset.root)"
    )


class FashionMNIST(IdxSource):
    """Articles of clothing, 60,000 + 10,000 gray images of 28x28, 10 classes.

    Reference: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking", 2017, arXiv:1708.07747.
    """

    name = "fashion_mnist"
    torchvision_class = "FashionMNIST"
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    foreign_labels = (_MNIST_STARTS,)
    system_folders = ("/usr/share/datasets/fashion-mnist",)
    how_to_get = (
        "`apt-get install dataset-fashion-mnist` (Debian, Ubuntu), or `fedsec data fetch fashion_mnist` on a machine "
        "with a network, or put the four files into $FEDSEC_DATA/fashion_mnist, or name their folder in the scenario "
        "(dataset.root)"
    )


def _present(folder: Path, name: str) -> Path | None:
    """The file of this name, uncompressed or else compressed, if it is there."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
