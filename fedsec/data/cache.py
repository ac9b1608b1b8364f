"""The user's cache: datasets that appear in it whole or not at all."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from fedsec.errors import DataError


def cache_folder() -> Path:
    """The user's cache folder for fedsec; it need not exist."""
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("fedsec", appauthor=False))


def install(name: str, fill: Callable[[Path], None], complete: Callable[[Path], bool]) -> Path:
    """Fill the cache's folder called `name` and make it appear in one step.

    Whatever happens meanwhile (an exception, a killed process, a second process that wants the same), the folder
    is either absent or as `fill` left it.

    Args:
        name: of the folder in the cache.
        fill: writes the files into the empty folder it is given.
        complete: whether a folder of that name is there already and needs nothing.

    Returns:
        The folder.

    Raises:
        DataError: the cache cannot be written.
    """
    from filelock import FileLock

    cache = cache_folder()
    target = cache / name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{name}.lock"):
            # Under the lock nobody else is filling: what lies here was left by a process that was killed.
            for leftover in cache.glob(f".{name}.partial-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            if complete(target):
                return target
            partial = Path(tempfile.mkdtemp(dir=cache, prefix=f".{name}.partial-"))
            try:
                (partial / "new").mkdir()
                fill(partial / "new")
                if target.exists():
                    target.rename(partial / "old")
                (partial / "new").rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(f"cannot write {name} into the cache {cache}: {error}") from error
    return target
