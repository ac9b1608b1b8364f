"""What an inversion of texts came to, as an object and as the files it leaves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsec.files import write_atomic, write_json
from fedsec.inversion.texts.page import text_page
from fedsec.inversion.written import RESULT, clear
from fedsec.report.page import render
from fedsec.threat.texts import TextReconstruction

__all__ = ["TextInversionResult", "write"]

PAGE = "report.html"


@dataclass(frozen=True, eq=False)
class TextInversionResult:
    """What an inversion of texts came to: what `fedsec invert --dataset shakespeare` writes, as an object.

    Attributes:
        content: of `result.json`, as plain data: settings, texts, scores, versions and all.
        reconstructions: one for each batch, as the inversion returned it.
        root: folder of the files; None if none were written.
    """

    content: dict[str, Any]
    reconstructions: tuple[TextReconstruction, ...]
    root: Path | None

    @property
    def originals(self) -> tuple[str, ...]:
        """The client's texts, batch after batch; none where only tokens were named."""
        return tuple(text["client"] for text in self.content["texts"])

    @property
    def texts(self) -> tuple[str, ...]:
        """What was recovered, each in the place of the original it was compared with."""
        return tuple(text["recovered"] for text in self.content["texts"])

    @property
    def metrics(self) -> dict[str, float]:
        """Means over batches: token_accuracy, exact_match, rouge_1, rouge_2, rouge_l, token_set, each with `_null`."""
        metrics: dict[str, float] = self.content["metrics"]
        return metrics

    @property
    def verdict(self) -> str:
        """How much of the texts can be read, in a sentence or two."""
        return str(self.content["verdict"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What else its reader should know, one line each."""
        return tuple(self.content["notes"])

    @property
    def files(self) -> tuple[Path, ...]:
        """The files written, the most interesting first; none without a folder to write to."""
        return () if self.root is None else tuple(self.root / name for name in self.content["files"])

    def _repr_html_(self) -> str:
        """The verdict and the texts, for notebooks."""
        from fedsec.report.notebook import inversion_html

        pairs = [
            f"{original!r} was read as {text!r}" for original, text in zip(self.originals, self.texts, strict=True)
        ]
        return inversion_html(self.verdict, [*pairs, self.content["given"], *self.notes], [])

    def __repr__(self) -> str:
        """The verdict, and what was inverted how."""
        where = "" if self.root is None else f"; files in {self.root}"
        return f"TextInversionResult({self.content['inversion']} on {self.content['model']}: {self.verdict}{where})"


def write(result: TextInversionResult) -> None:
    """Write the page and `result.json`, which comes last and lists both."""
    assert result.root is not None
    clear(result.root)
    files = [RESULT]
    try:
        write_atomic(result.root / PAGE, render(text_page(result.content)))
        files.insert(0, PAGE)
    except Exception as error:  # whatever it is, the result must not end in it
        about = f"{type(error).__name__}: {error}"
        result.content["notes"].append(f"no page was made ({about}); fedsec report {result.root} tries again")
    result.content["files"] = files
    write_json(result.root / RESULT, result.content)
