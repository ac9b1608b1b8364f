"""Tests run in about as many processes as there are cores, each with one thread: more would be in each other's way."""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
# Many tests start processes; where bytecode is not kept, each compiles all of PyTorch anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Thirty examples of a property find what a hundred find, on nearly every day.
settings.register_profile("suite", max_examples=30, deadline=None)
settings.load_profile("suite")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: tests of Ray and Flower mostly wait for processes of theirs."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a cluster come first: one worker starts it, for all of them, and others take over its other tests.

    Wherever they stand last, each worker takes some of them, starts a cluster of its own, and all wait for these.
    """
    items.sort(key=lambda item: "cluster" not in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Ten thousand tests, and all that they import, stay to the end: nobody looks for garbage among them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries that count at the end what is left may have it."""
    gc.unfreeze()


def pytest_make_parametrize_id(val: Any) -> str | None:
    """The class's name for objects that only know their address: all processes must agree about the tests' names."""
    return type(val).__name__ if " at 0x" in repr(val) else None


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Child processes hear of Ctrl-C, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def quick_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the test need no other process and draw nothing; each takes longer than all that small cells compute."""
    from fedsec.report import run_report
    from fedsec.report.page import Page
    from fedsec.runs import InProcess, closing, runner

    monkeypatch.setattr(runner, "LocalPool", lambda workers, threads: InProcess())
    for name in ("draw_curves", "draw_partitions", "draw_tradeoff"):
        monkeypatch.setattr(run_report, name, lambda *_: [])
    monkeypatch.setattr(closing, "run_page", lambda view: Page(view.summary.name, "", []))
