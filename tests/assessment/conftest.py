"""Audits whose run draws nothing: its own page is tested elsewhere, and takes longer than all that an audit trains."""

from collections.abc import Iterator

import pytest

from fedsec.report import run_report
from fedsec.report.page import Page
from fedsec.runs import closing


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    """The run in an audit's folder has no pictures, and its page a title only; `audit.html` is whole."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_curves", "draw_partitions", "draw_tradeoff"):
            patch.setattr(run_report, name, lambda *_: [])
        patch.setattr(closing, "run_page", lambda view: Page(view.summary.name, "", []))
        yield
