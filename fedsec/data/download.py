"""Downloads whose content is checked before anybody uses it."""

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fedsec.errors import DataError

Progress = Callable[[str, int, int | None], None]

_BLOCK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 5  # connections for one file from one mirror


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
            content = copy(url, target, "md5", progress, timeout)
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
            failures.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
        else:
            if content == md5:
                return
            failures.append(f"{url}: the content is not the expected one (MD5 {content}, expected {md5})")
        target.unlink(missing_ok=True)
    raise DataError("download failed: " + "; ".join(failures))


def copy(url: str, target: Path, algorithm: str, progress: Progress | None, timeout: float) -> str:
    """Copy a URL's content to a file; the rest is up to the caller.

    A connection that breaks is taken up where it broke, as long as it brings something.

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
        http.client.HTTPException: the answer makes no sense, or ends too early.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    done = 0
    with target.open("wb") as file:
        for attempt in range(1, _ATTEMPTS + 1):
            before = done
            try:
                with urllib.request.urlopen(_request(url, done), timeout=timeout) as response:
                    if done and not _continues(response, done):
                        file.seek(0)
                        file.truncate()
                        digest, done, before = hashlib.new(algorithm, usedforsecurity=False), 0, 0
                    length = response.headers.get("Content-Length", "")
                    total = done + int(length) if length.isdigit() else None
                    while block := response.read(_BLOCK):
                        file.write(block)
                        digest.update(block)
                        done += len(block)
                        if progress is not None:
                            progress(target.name, done, total)
                if total is None or done >= total:
                    break
                raise http.client.IncompleteRead(b"", total - done)
            except (http.client.HTTPException, TimeoutError, ConnectionError):
                if done == before or attempt == _ATTEMPTS:
                    raise
    return digest.hexdigest()


def _request(url: str, begin: int) -> urllib.request.Request:
    """Ask for what follows the first `begin` bytes."""
    headers = {"User-Agent": "fedsec"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    return urllib.request.Request(url, headers=headers)


def _continues(response: Any, begin: int) -> bool:
    """Whether an answer is what was asked for; some servers send everything again."""
    span: str = response.headers.get("Content-Range", "")
    return bool(response.status == 206) and span.startswith(f"bytes {begin}-")
