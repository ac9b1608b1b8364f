"""CIFAR-10 and CIFAR-100 in the layout that their authors publish for Python."""

import hashlib
import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsec.data.download import Progress, download
from fedsec.data.sources.source import Contents, Location, Place, Source
from fedsec.errors import DataError

if TYPE_CHECKING:
    from fedsec.data.dataset import Split


class CifarSource(Source):
    """Pickled batches as published; each file's hash is checked before a byte of it is interpreted."""

    input_shape = (3, 32, 32)
    downloadable = True
    torchvision_class: ClassVar[str]
    """Name of the class in torchvision.datasets, which knows the address and the hashes."""
    base_folder: ClassVar[str]
    train_files: ClassVar[tuple[str, ...]]
    test_files: ClassVar[tuple[str, ...]]
    meta_file: ClassVar[str]
    labels_key: str
    classes_key: str
    superclasses_key: ClassVar[str] = ""
    """Of the coarse labels, where classes have any."""

    def locate(self, place: Place) -> Location | None:
        """See `Source.locate`."""
        names = (*self.train_files, *self.test_files, self.meta_file)
        for folder in (place.folder / self.base_folder, place.folder):
            lacks = tuple(name for name in names if not (folder / name).is_file())
            if len(lacks) < len(names) and not (lacks and place.shared):
                return Location(folder, lacks=lacks)
        return None

    def read(self, folder: Path) -> Contents:
        """See `Source.read`."""
        classes = tuple(self._unpickle(folder / self.meta_file)[self.classes_key])
        train, test = self._split(folder, self.train_files), self._split(folder, self.test_files)
        return Contents(train, test, classes, self._superclasses(folder, len(classes)))

    def _superclasses(self, folder: Path, num_classes: int) -> tuple[int, ...]:
        """The coarse class of each class, as the training files have them; none where labels are coarse already."""
        if not self.superclasses_key or self.labels_key == self.superclasses_key:
            return ()
        coarse = [0] * num_classes
        for name in self.train_files:
            batch = self._unpickle(folder / name)
            for label, group in zip(batch[self.labels_key], batch[self.superclasses_key], strict=True):
                coarse[label] = group
        return tuple(coarse)

    def own_files(self, folder: Path) -> list[Path]:
        """See `Source.own_files`."""
        return [folder / name for name in (*self.train_files, *self.test_files, self.meta_file)]

    def fetch(self, folder: Path, progress: Progress | None) -> None:
        """See `Source.fetch`."""
        publisher = _publisher(self.torchvision_class)
        archive = folder / publisher.filename
        download([publisher.url], archive, publisher.tgz_md5, progress)
        wanted = {f"{self.base_folder}/{name}" for name in (*self.train_files, *self.test_files, self.meta_file)}
        (folder / self.base_folder).mkdir()
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.name in wanted else None
                    if content is not None:
                        (folder / member.name).write_bytes(content.read())
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(f"{publisher.filename} is corrupt ({error})") from error
        archive.unlink()

    def _split(self, folder: Path, names: tuple[str, ...]) -> "Split":
        import numpy as np
        import torch

        from fedsec.data.dataset import Split

        batches = [self._unpickle(folder / name) for name in names]
        pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = [label for batch in batches for label in batch[self.labels_key]]
        return Split(torch.from_numpy(pixels), torch.tensor(labels))

    def _unpickle(self, path: Path) -> dict[str, Any]:
        """The content of a published file.

        The bytes that are hashed are the bytes that are interpreted, and even those may name nothing but arrays.

        Raises:
            DataError: the file is not the published one.
        """
        publisher = _publisher(self.torchvision_class)
        known = dict([*publisher.train_list, *publisher.test_list, (publisher.meta["filename"], publisher.meta["md5"])])
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} is unreadable ({error})") from error
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if md5 != known[path.name]:
            raise DataError(
                f"{path} is truncated, corrupt or not the published file (MD5 {md5}, expected {known[path.name]}); "
                "delete it and get it again"
            )
        batch: dict[str, Any] = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        return batch


class CIFAR10(CifarSource):
    """Small photographs, 50,000 + 10,000 color images of 32x32, 10 classes.

    Reference: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """

    name = "cifar10"
    num_classes = 10
    layout = "cifar-10-batches-py/ (data_batch_1 to data_batch_5, test_batch, batches.meta)"
    torchvision_class = "CIFAR10"
    base_folder = "cifar-10-batches-py"
    train_files = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
    test_files = ("test_batch",)
    meta_file = "batches.meta"
    labels_key = "labels"
    classes_key = "label_names"
    how_to_get = (
        "`fedsec data fetch cifar10` on a machine with a network, or put cifar-10-batches-py/ or an image folder into "
        "$FEDSEC_DATA/cifar10, or name its folder in the scenario (dataset.root)"
    )


class CIFAR100(CifarSource):
    """Small photographs, 50,000 + 10,000 color images of 32x32, 100 classes, or 20 coarse ones.

    Each of 20 coarse classes (aquatic mammals, fish, flowers, ...) has five fine ones. With fine labels the dataset
    knows the coarse class of each, which the partition `pachinko` needs; an image folder tells none.

    Args:
        labels: `fine` (100 classes) or `coarse` (20).

    Reference: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """

    name = "cifar100"
    num_classes = 100
    layout = "cifar-100-python/ (train, test, meta)"
    torchvision_class = "CIFAR100"
    base_folder = "cifar-100-python"
    train_files = ("train",)
    test_files = ("test",)
    meta_file = "meta"
    labels_key = "fine_labels"
    classes_key = "fine_label_names"
    superclasses_key = "coarse_labels"
    has_superclasses = True
    how_to_get = (
        "`fedsec data fetch cifar100` on a machine with a network, or put cifar-100-python/ or an image folder into "
        "$FEDSEC_DATA/cifar100, or name its folder in the scenario (dataset.root)"
    )

    def __init__(self, labels: Literal["fine", "coarse"] = "fine") -> None:
        self.labels = labels
        if labels == "coarse":
            self.num_classes, self.labels_key, self.classes_key = 20, "coarse_labels", "coarse_label_names"


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers; refuses to look up anything else."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy as np

        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}:
            return np.empty(0).__reduce__()[0]
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            # The files were written in 2009 with integers where today's NumPy wants booleans.
            return lambda kind, align=False, copy=False: np.dtype(kind, align=bool(align), copy=bool(copy))
        raise DataError(f"a data file names {module}.{name}; only arrays are allowed")


def _publisher(name: str) -> Any:
    """What torchvision knows about a dataset: address and hashes."""
    from torchvision import datasets

    return getattr(datasets, name)
