"""What an inversion of texts tells its reader on a terminal: both texts beside each other, and their scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedsec.errors import count_of, printable
from fedsec.inversion.texts.scores import BatchScores
from fedsec.report.console import closing_console, say
from fedsec.report.table_layout import CaptionedTable

__all__ = ["SCORES", "given", "one_line", "show"]

MOST_ROWS = 16
SCORES = {"token_accuracy": "right", "rouge_1": "R-1", "rouge_2": "R-2", "rouge_l": "R-L"}
"""Scores of a text, and what they are called above a narrow column."""
_LEGEND = (
    "right: share of places with the right character; R-1, R-2, R-L: ROUGE (F1) over characters; drawn: what "
    "characters drawn one by one would score; / is a line's end"
)


def given(texts: int, length: int, steps: int | None, lr: float, defense: str) -> str:
    """One line: what the attacker held.

    Args:
        texts: of the client.
        length: of each, in characters.
        steps: of the client; None for a gradient.
        lr: of its steps.
        defense: in words; empty without one.
    """
    data = f"{count_of(texts, 'text')} of {count_of(length, 'character')}"
    what = f"one gradient over {data}"
    if steps is not None:
        what = f"the difference that {count_of(steps, 'local step')} on {data} made (learning rate {lr:g})"
    line = f"the attacker has the model and {what}; no word of them, and no language model"
    return f"{line}. {defense}" if defense else line


def one_line(text: str) -> str:
    """A text on one line: its own line ends become a slash, as where verse is quoted."""
    return printable(text.replace("\n", "/"))


def show(
    console: Console,
    content: Mapping[str, Any],
    batches: Sequence[BatchScores],
    lines: Sequence[str],
) -> None:
    """Print the table, the verdict and where the files are.

    Args:
        console: where to.
        content: of `result.json`.
        batches: the scores.
        lines: what else to say.
    """
    console = closing_console(console)
    console.print(_text_table(batches, content["metrics"]) if batches[0].texts else _token_table(batches))
    say(console, content["verdict"], "bold")
    for line in lines:
        say(console, line)
    if content["out"] is not None:
        say(console, f"results in {content['out']}: {', '.join(content['files'])}", essential=True)


def _text_table(batches: Sequence[BatchScores], metrics: Mapping[str, float]) -> Table:
    table = _table(_LEGEND)
    for name in ("original", "recovered"):
        table.add_column(name, overflow="fold", ratio=1)
    for name in SCORES.values():
        table.add_column(name, justify="right", no_wrap=True)
    texts = [text for batch in batches for text in batch.texts]
    for text in texts[:MOST_ROWS]:
        original, recovered = one_line(text["client"]), one_line(text["recovered"])
        table.add_row(Text(original), _marked(original, recovered), *_scores(text))
    if len(texts) > MOST_ROWS:
        table.add_row(f"and {len(texts) - MOST_ROWS} more", *[""] * 5)
    table.add_section()
    table.add_row("mean", "", *_scores(metrics), style="bold")
    table.add_row("drawn", "", *_scores({name: metrics[f"{name}_null"] for name in SCORES}), style="dim")
    return table


def _token_table(batches: Sequence[BatchScores]) -> Table:
    table = _table("the characters of a batch in the order of their numbers, / is a line's end; agree: Jaccard index")
    for name in ("of the client", "named"):
        table.add_column(name, overflow="fold", ratio=1)
    for name in ("agree", "drawn"):
        table.add_column(name, justify="right", no_wrap=True)
    for batch in batches[:MOST_ROWS]:
        scores = (f"{batch.metrics[name]:.0%}" for name in ("token_set", "token_set_null"))
        table.add_row(Text(one_line(batch.true_tokens)), Text(one_line(batch.named_tokens)), *scores)
    if len(batches) > MOST_ROWS:
        table.add_row(f"and {len(batches) - MOST_ROWS} more", "", "", "")
    return table


def _table(legend: str) -> Table:
    table = CaptionedTable(caption=legend, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, expand=True)
    table.caption_justify = "left"
    return table


def _scores(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{row[name]:.0%}" if name == "token_accuracy" else f"{row[name]:.2f}" for name in SCORES)


def _marked(original: str, recovered: str) -> Text:
    """What was recovered, characters in wrong places in red."""
    text = Text(recovered)
    for place, character in enumerate(recovered):
        if original[place : place + 1] != character:
            text.stylize("red", place, place + 1)
    return text
