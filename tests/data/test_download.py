"""Downloads into the cache: checked, whole or absent, and never twice."""

import gzip
import hashlib
import http.client
import http.server
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torchvision import datasets

from fedsec.data import load
from fedsec.data.cache import install
from fedsec.data.download import download
from fedsec.data.sources.cifar import CIFAR10
from fedsec.errors import DataError

Write = Callable[..., Path]
URLOPEN = urllib.request.urlopen  # before any test hides it
MIRRORS = ["https://one.example/", "https://two.example/"]


@pytest.fixture
def mnist_online(web: Any, write_idx: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A small MNIST on the second of two mirrors, with the hashes that torchvision is made to expect."""
    files = {path.name: path.read_bytes() for path in sorted(write_idx(tmp_path / "published").iterdir())}
    hashes = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(datasets.MNIST, "resources", hashes)
    monkeypatch.setattr(datasets.MNIST, "mirrors", MIRRORS)
    web.pages.update({MIRRORS[1] + name: (content, None) for name, content in files.items()})
    return files


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock")) if cache.exists() else []


def test_download_then_from_the_cache(mnist_online: dict[str, bytes], web: Any, empty_world: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    dataset = load("mnist", progress=lambda *call: calls.append(call))
    assert dataset.source == str(empty_world / "mnist")
    assert len(dataset.train) == 30
    assert leftovers(empty_world) == ["mnist"]
    for name, content in mnist_online.items():
        assert (name, len(content), len(content)) in calls
        assert (empty_world / "mnist" / name).read_bytes() == content
    asked = len(web.asked)
    assert asked == 8  # both mirrors for each file
    assert load("mnist").source == dataset.source
    assert len(web.asked) == asked


def test_download_false_stays_off_the_network(mnist_online: dict[str, bytes], web: Any) -> None:
    with pytest.raises(DataError, match="Downloads are switched off"):
        load("mnist", download=False)
    assert web.asked == []


def test_offline(web: Any, tmp_path: Path, empty_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSEC_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError) as caught:
        load("cifar10")
    message = str(caught.value)
    for part in (
        "cifar10 was not found",
        "cifar-10-batches-py/",
        "{train,test}/<class>/<image> with 10 classes of 3x32x32 images",
        f"{tmp_path / 'data' / 'cifar10'} ($FEDSEC_DATA/cifar10)",
        f"{empty_world / 'cifar10'} (cache)",
        "download failed: https://",
        "Name or service not known",
        "fedsec data fetch cifar10",
    ):
        assert part in message
    assert leftovers(empty_world) == []


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (ConnectionResetError("reset by peer"), "reset by peer"),
        (http.client.IncompleteRead(b"", 7), "IncompleteRead"),
        (TimeoutError("timed out"), "timed out"),
        (urllib.error.URLError(OSError("no route")), "no route"),
        (None, "the content is not the expected one"),
    ],
)
def test_download_cut_off_leaves_nothing(
    mnist_online: dict[str, bytes], web: Any, empty_world: Path, failure: BaseException | None, says: str
) -> None:
    url = MIRRORS[1] + "train-images-idx3-ubyte.gz"
    web.pages[url] = (web.pages[url][0][:-100], failure)
    with pytest.raises(DataError, match=says):
        load("mnist")
    assert leftovers(empty_world) == []


def test_wrong_content_is_never_used(mnist_online: dict[str, bytes], web: Any, empty_world: Path) -> None:
    name = "t10k-labels-idx1-ubyte.gz"
    web.pages[MIRRORS[0] + name] = (gzip.compress(b"<html>Please log in</html>"), None)
    assert len(load("mnist").test) == 20  # the other mirror's
    assert (empty_world / "mnist" / name).read_bytes() == mnist_online[name]


def test_interrupted_download_leaves_nothing(mnist_online: dict[str, bytes], empty_world: Path) -> None:
    def interrupt(name: str, done: int, total: int | None) -> None:
        if name.startswith("train-images"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load("mnist", progress=interrupt)
    assert leftovers(empty_world) == []
    assert len(load("mnist").train) == 30


def test_killed_download_leaves_no_dataset_and_is_cleaned_up(mnist_online: dict[str, bytes], empty_world: Path) -> None:
    code = """
import os, signal
from fedsec.data.cache import install
def fill(folder):
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
install("mnist", fill, lambda folder: False)
"""
    run = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False)
    assert run.returncode == -signal.SIGKILL
    assert [name for name in leftovers(empty_world) if not name.startswith(".mnist.partial-")] == []
    assert len(leftovers(empty_world)) == 1
    assert len(load("mnist").train) == 30
    assert leftovers(empty_world) == ["mnist"]


def test_incomplete_folder_in_the_cache_is_replaced(mnist_online: dict[str, bytes], empty_world: Path) -> None:
    (empty_world / "mnist").mkdir(parents=True)
    (empty_world / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"half")
    assert len(load("mnist").train) == 30
    assert leftovers(empty_world) == ["mnist"]


def test_two_at_a_time_download_once(empty_world: Path) -> None:
    filled = []
    barrier = threading.Barrier(4)

    def fill(folder: Path) -> None:
        filled.append(folder)
        (folder / "file").write_text("whole")

    def want() -> None:
        barrier.wait()
        assert (install("set", fill, lambda folder: (folder / "file").exists()) / "file").read_text() == "whole"

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(filled) == 1


def test_disk_full_and_unwritable_cache(empty_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match=r"cannot write mnist into the cache .*No space left on device"):
        install("mnist", full, lambda folder: False)
    assert leftovers(empty_world) == []
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot write mnist into the cache"):
        install("mnist", full, lambda folder: False)


def test_cifar_archive_yields_its_files_and_nothing_else(
    web: Any, empty_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    wanted = (*CIFAR10.train_files, *CIFAR10.test_files, CIFAR10.meta_file)
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in (*(f"{CIFAR10.base_folder}/{file}" for file in wanted), "../evil", "/tmp/evil", "readme.html"):
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            tar.addfile(entry, io.BytesIO(name.encode()))
    content = buffer.getvalue()
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
    web.pages[datasets.CIFAR10.url] = (content, None)
    with pytest.raises(
        DataError, match="not the published file"
    ):  # such they are; how they are read is tested elsewhere
        load("cifar10")
    files = sorted(path.relative_to(empty_world).as_posix() for path in (empty_world / "cifar10").rglob("*"))
    assert files == sorted(["cifar10/cifar-10-batches-py", *(f"cifar10/cifar-10-batches-py/{name}" for name in wanted)])
    assert leftovers(empty_world) == ["cifar10"]


def test_damaged_archive_is_an_error(web: Any, empty_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(b"not an archive").hexdigest())
    web.pages[datasets.CIFAR10.url] = (b"not an archive", None)
    with pytest.raises(DataError, match="cifar10"):
        load("cifar10")
    assert leftovers(empty_world) == []


def test_file_only_exists_if_it_is_right(web: Any, tmp_path: Path) -> None:
    target = tmp_path / "file"
    web.pages["https://one.example/file"] = (b"content", None)
    download(["https://one.example/file"], target, hashlib.md5(b"content").hexdigest())
    assert target.read_bytes() == b"content"
    with pytest.raises(DataError, match=r"https://one\.example/file: the content is not the expected one \(MD5"):
        download(["https://one.example/file"], target, "0" * 32)
    assert not target.exists()


class Flaky(http.server.BaseHTTPRequestHandler):
    """Breaks the first connections off; goes on where it is asked to, if it knows how."""

    content = random.Random(0).randbytes(300_000)
    breaks: ClassVar[int]
    ranges: ClassVar[bool]
    asked: ClassVar[list[str | None]]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.asked.append(asked)
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(self.content) - begin))
        self.end_headers()
        broken = len(self.asked) <= self.breaks
        self.wfile.write(self.content[begin : begin + 70_000 if broken else None])

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize(("ranges", "breaks"), [(True, 0), (True, 3), (False, 2), (True, 99)])
def test_a_broken_connection_is_taken_up_where_it_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool, breaks: int
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", URLOPEN)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Handler", (Flaky,), {"ranges": ranges, "breaks": breaks, "asked": []})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    seen: list[tuple[int, int | None]] = []
    url, target = f"http://127.0.0.1:{server.server_port}/file", tmp_path / "file"
    md5 = hashlib.md5(Flaky.content).hexdigest()
    try:
        if breaks == 99:  # 5 x 70,000 bytes would be enough, but the last of them ends too early as well
            monkeypatch.setattr("fedsec.data.download._ATTEMPTS", 4)
            with pytest.raises(DataError, match="IncompleteRead"):
                download([url], target, md5)
            assert not target.exists()
            return
        download([url], target, md5, lambda name, done, total: seen.append((done, total)))
    finally:
        server.shutdown()
        server.server_close()
    assert target.read_bytes() == Flaky.content
    assert seen[-1] == (300_000, 300_000)
    begins = [None, *(f"bytes={70_000 * number if ranges else 70_000}-" for number in range(1, breaks + 1))]
    assert handler.asked == begins  # type: ignore[attr-defined]
