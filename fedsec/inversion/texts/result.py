"""What an inversion of texts came to, as an object and as the files it leaves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsec.inversion.outcome import InversionOutcome, finish
from fedsec.inversion.texts.page import text_page
from fedsec.inversion.written import RESULT, clear
from fedsec.threat.texts import TextReconstruction

__all__ = ["TextInversionResult", "write"]


@dataclass(frozen=True, eq=False, repr=False)
class TextInversionResult(InversionOutcome):
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

    def _repr_html_(self) -> str:
        """The verdict and the texts, for notebooks."""
        from fedsec.report.notebook import inversion_html

        pairs = [
            f"{original!r} was read as {text!r}" for original, text in zip(self.originals, self.texts, strict=True)
        ]
        return inversion_html(self.verdict, [*pairs, self.content["given"], *self.notes], [])


def write(result: TextInversionResult) -> None:
    """Write the page and `result.json`, which comes last and lists both."""
    assert result.root is not None
    clear(result.root)
    finish(result.root, result.content, [RESULT], lambda: text_page(result.content))
