import io
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.defense.kernels import compiled, package
from fedsec.defense.kernels.compiled import CompiledKernel, compiled_middle_mean
from fedsec.defense.kernels.specification import MiddleMeanKernel
from fedsec.defenses import Median, TrimmedMean

KERNEL = MiddleMeanKernel(5, 2, torch.float32)


class Builder:
    """A process that builds; its end is set by the test."""

    started: list["Builder"]

    def __init__(self, command: Sequence[str], *, stderr: io.BufferedRandom, **options: Any) -> None:
        self.command, self.errors, self.code = command, stderr, None
        self.stdin = io.BytesIO()
        self.started.append(self)

    def poll(self) -> int | None:
        return self.code

    def wait(self) -> int:
        return self.code or 0


@pytest.fixture
def builders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Builder]]:
    """Of all kernels of a test, whose packages lie in an empty folder."""
    started: list[Builder] = []
    monkeypatch.setattr(Builder, "started", started, raising=False)
    monkeypatch.setattr(compiled.subprocess, "Popen", Builder)
    monkeypatch.setattr(compiled.atexit, "register", lambda function: None)
    monkeypatch.setattr(compiled, "packages_folder", lambda: tmp_path)
    yield started
    for builder in started:
        builder.errors.close()


def middle(rows: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(rows)).sort(0).values[2]


def test_rows_go_the_ordinary_way_until_the_kernel_is_there(
    builders: list[Builder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages: list[Any] = []
    monkeypatch.setattr(compiled, "load", lambda kernel, folder: packages[0] if packages else None)
    rows, rule = torch.randn(5, 70_000), Median(compile=True)
    for _ in range(2):
        assert torch.equal(rule(rows), Median()(rows))
        assert compiled_middle_mean(rows, 2) is None
    (builder,) = builders
    assert builder.command[-4:] == ["5", "2", "float32", str(tmp_path)]

    packages.append(middle)
    assert compiled_middle_mean(rows, 2) is None  # still at work: nobody looks at the folder for every chunk
    builder.code = 0
    result = compiled_middle_mean(rows, 2)
    assert result is not None
    assert torch.equal(result, Median()(rows))
    packages[0] = None
    assert torch.equal(rule(rows), Median()(rows))
    assert compiled_middle_mean(rows[:, 9:], 2) is not None
    assert len(builders) == 1


def test_a_kernel_of_the_cache_is_used_at_once(builders: list[Builder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "load", lambda kernel, folder: lambda rows: torch.full_like(rows[0], 7))
    rows = torch.randn(5, 70_000).requires_grad_()
    for rule in (Median(compile=True), TrimmedMean(num_trimmed_per_side=1, compile=True)):
        assert rule(rows).eq(7).all()
    assert not builders


def test_rows_that_no_kernel_takes_go_the_ordinary_way(builders: list[Builder]) -> None:
    assert compiled_middle_mean(torch.randn(6, 5).T, 2) is None
    assert compiled_middle_mean(torch.randn(compiled.MOST_CLIENTS + 1, 8), 2) is None
    assert not builders


def test_why_there_is_no_kernel_is_said_once(
    builders: list[Builder], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kernel, rows = CompiledKernel(KERNEL, tmp_path), torch.randn(5, 8)
    assert kernel(rows) is None
    builders[0].errors.write(b"Traceback\nNo working C++ compiler found\n\n")
    builders[0].code = 1
    with caplog.at_level(logging.WARNING):
        assert [kernel(rows), kernel(rows)] == [None, None]
    (record,) = caplog.records
    assert "no compiled kernel of middle_mean-5-2-float32" in record.message
    assert record.message.endswith(": No working C++ compiler found")
    assert len(builders) == 1
    kernel.close()
    assert builders[0].stdin.closed


def test_one_thread_looks_while_the_others_go_on(
    builders: list[Builder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, go_on = threading.Event(), threading.Event()

    def load(kernel: MiddleMeanKernel, folder: Path) -> Any:
        looking.set()
        go_on.wait(60)
        return middle

    monkeypatch.setattr(compiled, "load", load)
    kernel, rows = CompiledKernel(KERNEL, tmp_path), torch.randn(5, 8)
    thread = threading.Thread(target=kernel, args=(rows,))
    thread.start()
    assert looking.wait(60)
    assert kernel(rows) is None
    go_on.set()
    thread.join()
    assert kernel(rows) is not None


def test_the_process_that_builds_ends_with_its_owner(tmp_path: Path) -> None:
    kernel = CompiledKernel(KERNEL, tmp_path)
    assert kernel(torch.randn(5, 8)) is None
    builder = kernel._builder
    assert builder is not None
    assert builder.poll() is None
    assert os.getpgid(builder.pid) == builder.pid  # its compiler ends with it, and nobody else
    kernel.close()
    assert builder.returncode != 0
    assert not list(tmp_path.glob("*.pt2"))


@pytest.mark.parametrize("change", ["clients", "trim", "dtype", "PyTorch", "processor"])
def test_packages_are_known_by_all_that_they_depend_on(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsec.defense.kernels import specification

    name, other = KERNEL.name, KERNEL
    if change == "PyTorch":
        monkeypatch.setattr(torch, "__version__", "9.9")
    elif change == "processor":
        monkeypatch.setattr(torch.backends, "cpu", SimpleNamespace(get_cpu_capability=lambda: "abacus"))
    else:
        other = KERNEL._replace(**{change: torch.float64 if change == "dtype" else 1})
    specification._environment.cache_clear()
    try:
        assert other.name != name
    finally:
        specification._environment.cache_clear()


@pytest.mark.parametrize("honest_name", [True, False])
def test_a_damaged_package_is_removed(tmp_path: Path, honest_name: bool, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "kernel.pt2"
    path.write_bytes(b"no package")
    digest = package._content_digest(path) if honest_name else "0" * 32
    path = path.rename(tmp_path / f"{KERNEL.name}-{digest}.pt2")
    assert package.load(KERNEL, tmp_path) is None
    assert not path.exists()
    assert f"{path} is damaged and will be built anew" in caplog.text
    assert package.load(KERNEL, tmp_path / "nowhere") is None
