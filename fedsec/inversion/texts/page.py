"""The page of an inversion of texts: the answer, both texts, what was granted and asked, in one HTML file."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fedsec.errors import count_of
from fedsec.inversion.texts.report import one_line
from fedsec.report.page import Code, DataTable, Folded, Page, PageSection, Paragraph
from fedsec.report.page.parts import Part, TableCell, TableColumn

__all__ = ["text_page"]

_MOST_TEXTS = 64
_SCORES = {
    "token_accuracy": "right places",
    "exact_match": "exact",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
}


def text_page(content: Mapping[str, Any]) -> Page:
    """The page of an inversion of texts.

    Args:
        content: of `result.json`.
    """
    texts = content["texts"]
    sections = [
        _answer(content),
        _texts(texts) if texts else _tokens(content["tokens"]),
        *([_means(content["metrics"])] if texts else []),
        _question(content),
        _environment(content),
    ]
    title = f"{content['inversion']} on {content['model']}"
    subtitle = f"What a server reads of {count_of(content['batch_size'], 'text')} of a client, from its update"
    return Page(title, subtitle, sections)


def _answer(content: Mapping[str, Any]) -> PageSection:
    parts: list[Part] = [
        Paragraph(content["verdict"]),
        Paragraph(f"{content['given'][:1].upper()}{content['given'][1:]}."),
    ]
    return PageSection("answer", "The answer", [*parts, *(Paragraph(note, "note") for note in content["notes"])])


def _texts(texts: Sequence[Mapping[str, Any]]) -> PageSection:
    ranked = sorted(texts, key=lambda text: -text["token_accuracy"])
    rows = [
        [
            TableCell(one_line(text["client"])),
            TableCell(one_line(text["recovered"]), tone="good" if text["exact_match"] == 1 else "plain"),
            _number(text["token_accuracy"]),
            *(_number(text[name]) for name in ("rouge_1", "rouge_2", "rouge_l")),
        ]
        for text in ranked[:_MOST_TEXTS]
    ]
    columns = [TableColumn("the client's"), TableColumn("recovered")]
    columns += [TableColumn(title, numeric=True) for name, title in _SCORES.items() if name != "exact_match"]
    more = f" {_MOST_TEXTS} of {len(ranked)} are shown." if len(ranked) > _MOST_TEXTS else ""
    caption = f"The best first; a slash is the end of a line.{more} Whoever has this page has these texts."
    return PageSection("texts", "Texts and what was recovered", [DataTable(columns, rows, caption)])


def _tokens(batches: Sequence[Mapping[str, Any]]) -> PageSection:
    rows = [
        [
            TableCell(one_line(batch["client"])),
            TableCell(one_line(batch["named"]), tone="good" if batch["token_set"] == 1 else "plain"),
            _number(batch["token_set"]),
            _number(batch["token_set_null"]),
        ]
        for batch in batches[:_MOST_TEXTS]
    ]
    columns = [TableColumn("the client's"), TableColumn("named")]
    columns += [TableColumn(title, numeric=True) for title in ("Jaccard index", "drawn")]
    caption = (
        "Characters of a batch in the order of their numbers, a slash is the end of a line; drawn: as many, by lot."
    )
    return PageSection("tokens", "Characters and those that were named", [DataTable(columns, rows, caption)])


def _means(metrics: Mapping[str, float]) -> PageSection:
    rows = [
        [TableCell(title), _number(metrics[name]), _number(metrics[f"{name}_null"])]
        for name, title in {**_SCORES, "token_set": "set of characters (Jaccard index)"}.items()
    ]
    columns = [TableColumn("score"), TableColumn("mean", numeric=True), TableColumn("drawn", numeric=True)]
    caption = "Means over all texts; drawn: of characters drawn one by one by their shares, which need no update."
    return PageSection("scores", "Scores beside a guess", [DataTable(columns, rows, caption)])


def _question(content: Mapping[str, Any]) -> PageSection:
    parts: list[Part] = []
    if content["command"]:
        parts.append(Code(content["command"], "The command that reproduces this"))
    settings = yaml.safe_dump(content["config"], sort_keys=False, allow_unicode=True)
    return PageSection("question", "What was asked", [*parts, Folded("All settings", [Code(settings, copied=False)])])


def _environment(content: Mapping[str, Any]) -> PageSection:
    values = {
        "texts": content["source"],
        "seconds": f"{content['seconds']:,.1f}",
        "device": content["device"],
        "threads": content["threads"],
        **content["versions"],
    }
    rows = [[TableCell(name), TableCell(str(value))] for name, value in values.items()]
    table = DataTable([TableColumn("what"), TableColumn("value")], rows, "What the numbers come from.")
    return PageSection("environment", "Environment and versions", [table])


def _number(value: float) -> TableCell:
    return TableCell(f"{value:.2f}", value)
