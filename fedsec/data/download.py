"""Downloads whose content is checked before anybody uses it."""

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from fedsec.errors import DataError

Progress = Callable[[str, int, int | None], None]

_BLOCK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


def download(
    urls: Sequence[str], target: Path, md5: str, progress: Progress | None = None, timeout: float = _TIMEOUT
) -> None:
    """Download a file from the first mirror that gives it as it should be.

    Args:
        urls: mirrors, tried in this order.
        target: file to write; it exists afterwards only if its hash is right.
        md5: hexadecimal hash of the whole file, as its publisher states it.
        progress: called with the file's name, the bytes so far and the bytes in all (None if the server does not say).
        timeout: seconds to wait for a connection or for the next bytes.

    Raises:
        DataError: no mirror gave the file; the text says what each did instead.
    """
    failures = []
    for url in urls:
        try:
            found = copy(url, target, "md5", progress, timeout)
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
            failures.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
        else:
            if found == md5:
                return
            failures.append(f"{url}: the content is not the expected one (MD5 {found}, expected {md5})")
        target.unlink(missing_ok=True)
    raise DataError("download failed: " + "; ".join(failures))


def copy(url: str, target: Path, algorithm: str, progress: Progress | None, timeout: float) -> str:
    """Copy a URL's content to a file; the rest is up to the caller.

    Args:
        url: where from.
        target: file to write, whatever becomes of it.
        algorithm: of the hash, as `hashlib` calls it.
        progress: see `download`.
        timeout: see `download`.

    Returns:
        The content's hash, hexadecimal.

    Raises:
        OSError: the connection failed, or the file cannot be written.
        http.client.HTTPException: the answer makes no sense.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    request = urllib.request.Request(url, headers={"User-Agent": "fedsec"})
    with urllib.request.urlopen(request, timeout=timeout) as response, target.open("wb") as file:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        done = 0
        while block := response.read(_BLOCK):
            file.write(block)
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(target.name, done, total)
    return digest.hexdigest()
