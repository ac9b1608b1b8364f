"""What any inversion came to, whatever it recovers, and the last files that it leaves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fedsec.files import write_atomic, write_json
from fedsec.inversion.written import RESULT
from fedsec.report.page import Page, render

__all__ = ["PAGE", "InversionOutcome", "finish"]

PAGE = "report.html"


class InversionOutcome:
    """What stands in every result of an inversion.

    Attributes:
        content: of `result.json`, as plain data.
        root: folder of the files; None if none were written.
    """

    content: dict[str, Any]
    root: Path | None

    @property
    def metrics(self) -> dict[str, Any]:
        """Means over all that was attacked, by name: psnr, ssim, label_accuracy; of texts token_accuracy, rouge_l, each
        with `_null`, and so on. None where there is no such number."""
        metrics: dict[str, Any] = self.content["metrics"]
        return metrics

    @property
    def verdict(self) -> str:
        """How much can be seen or read, in a sentence or two."""
        return str(self.content["verdict"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What else its reader should know, one line each."""
        return tuple(self.content["notes"])

    @property
    def files(self) -> tuple[Path, ...]:
        """The files written, the most interesting first; none without a folder to write to."""
        return () if self.root is None else tuple(self.root / name for name in self.content["files"])

    def __repr__(self) -> str:
        """The verdict, and what was inverted how."""
        where = "" if self.root is None else f"; files in {self.root}"
        return f"{type(self).__name__}({self.content['inversion']} on {self.content['model']}: {self.verdict}{where})"


def finish(root: Path, content: dict[str, Any], files: Sequence[str], page: Callable[[], Page]) -> list[str]:
    """Write the page and `result.json`, which comes last: where it is, the rest is, and it lists the rest.

    Args:
        root: the folder.
        content: of `result.json`; takes a note where no page can be made, and the files.
        files: that are there, or will be, the most interesting first.
        page: makes the page.

    Returns:
        The files' names, the page first.
    """
    written = list(files)
    try:
        write_atomic(root / PAGE, render(page()))
        written.insert(0, PAGE)
    except Exception as error:  # whatever it is, an attack of hours must not end in it
        about = f"{type(error).__name__}: {error}"
        content["notes"].append(f"no page was made ({about}); fedsec report {root} tries again")
    content["files"] = written
    write_json(root / RESULT, content)
    return written
