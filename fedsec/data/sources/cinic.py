"""CINIC-10 in the layout of its published archive."""

import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from fedsec.data import decoded, folders
from fedsec.data.download import Progress, download
from fedsec.data.sources.source import Location, Place, Source
from fedsec.errors import DataError

if TYPE_CHECKING:
    from fedsec.data.dataset import Split

_URLS = [
    f"https://{host}/bitstream/handle/10283/3192/CINIC-10.tar.gz"
    for host in ("datashare.ed.ac.uk", "datashare.is.ed.ac.uk")
]
_MD5 = "6ee4d0c996905fe93221de577967a372"


class CINIC10(Source):
    """Small photographs, 90,000 + 90,000 color images of 32x32, 10 classes, of CIFAR-10 and downsampled ImageNet.

    The published archive has train/, valid/ and test/ with an image folder for each class, 90,000 images in each of the
    three; valid/ is not used, as by the papers that federate it with CIFAR-10's two splits.

    Reference: Darlow, Crowley, Antoniou, Storkey, "CINIC-10 is not ImageNet or CIFAR-10", 2018, arXiv:1810.03505.
    """

    name = "cinic10"
    layout = ""
    input_shape = (3, 32, 32)
    num_classes = 10
    downloadable = True
    how_to_get = (
        "`fedsec data fetch cinic10` on a machine with a network, or unpack CINIC-10.tar.gz into $FEDSEC_DATA/cinic10, "
        "or name its folder in the scenario (dataset.root)"
    )

    def locate(self, place: Place) -> Location | None:
        """See `Source.locate`; the archive may have been unpacked with or without a folder of its name."""
        inner = place.folder / "CINIC-10"
        there = folders.split_folders(inner)
        lacks = tuple(f"{split}/" for split in folders.SPLITS if split not in there)
        return Location(inner, "images", lacks) if there else None

    def _recognizes(self, folder: Path) -> bool:
        # CIFAR-10 has the same classes and shape, but no third split.
        return (folder / "valid").is_dir() and super()._recognizes(folder)

    def read(self, folder: Path) -> "tuple[Split, Split, tuple[str, ...]]":
        """See `Source.read`."""
        train, test, classes, _ = decoded.read_splits(folder)
        return train, test, classes

    def fetch(self, folder: Path, progress: Progress | None) -> None:
        """See `Source.fetch`."""
        archive = folder / "CINIC-10.tar.gz"
        download(_URLS, archive, _MD5, progress)
        unpack(archive, folder)
        archive.unlink()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack what an archive holds of the three splits; nothing may lie outside of the folder.

    Raises:
        DataError: the archive is corrupt, or names something else than plain files in the folder.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive.name} is corrupt ({error})") from error
