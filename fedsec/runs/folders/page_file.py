"""The page in a run's folder: written anew, of others' files none."""

import os
from contextlib import nullcontext
from pathlib import Path

from fedsec.files import set_aside, write_atomic
from fedsec.inversion.written import enlist, listed
from fedsec.report.page import RunView, render, run_page
from fedsec.runs.folders.stored_run import StoredRun, open_run
from fedsec.runs.store import Store

__all__ = ["PAGE", "is_page", "page_html", "run_html", "write_page"]

PAGE = "report.html"
_SIGN = 'name="generator" content="fedsec'
_HEAD = 2_000


def page_html(folder: Path) -> str:
    """The page of what lies in a folder: a run, or an inversion.

    Raises:
        InputError: it holds neither, or its files cannot be read.
    """
    if listed(folder):
        from fedsec.inversion.page import inversion_html

        return inversion_html(folder)
    return run_html(open_run(folder))


def run_html(stored: StoredRun) -> str:
    """The page of a run that lies in a folder."""
    return render(run_page(RunView(stored.root, stored.records, stored.summary, stored.damaged)))


def write_page(root: Path, html: str) -> Path | None:
    """Write the page of a run or of an inversion into its folder.

    Args:
        root: the folder.
        html: the page.

    Returns:
        What a file that is no page of fedsec's and had its name is called now; None where there was none.

    Raises:
        BusyError: a process is running the scenario there.
        InputError: the folder cannot be written.
    """
    store, path, aside, inverted = Store(root), root / PAGE, None, bool(listed(root))
    with nullcontext() if inverted else store.locked():
        if os.path.lexists(path) and not is_page(path):
            aside = set_aside(path)
        write_atomic(path, html)
        if inverted:
            enlist(root, PAGE)
        else:
            store.adopt(PAGE)
    return aside


def is_page(path: Path) -> bool:
    """Whether fedsec made this file."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open(encoding="utf-8", errors="replace") as file:
            return _SIGN in file.read(_HEAD)
    except OSError:
        return False
