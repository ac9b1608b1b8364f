"""Tables of papers: which cells are bold, and that LaTeX and Markdown take them whatever names are in them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fedsec.report.exports import latex, markdown
from fedsec.report.exports.paper_table import PaperCell, PaperTable, paper_tables

HOSTILE = r"a_b & 100% $x^2$ #1 {~} \input{/etc/passwd} <script>|`*[x](y)* ε µ é 字"


def records(values: dict[tuple[str, str], list[float]], **more: float) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{attack}-{defense}-{seed}",
            "cell": {"attack": attack, "defense": defense, "seed": str(seed)},
            "status": "done",
            "metrics": {"accuracy": value, **more},
        }
        for (attack, defense), accuracies in values.items()
        for seed, value in enumerate(accuracies)
    ]


SEEDS = {
    ("none", "mean"): [0.90, 0.91, 0.92],
    ("none", "median"): [0.90, 0.91, 0.93],
    ("alie", "mean"): [0.10, 0.12, 0.14],
    ("alie", "median"): [0.80, 0.81, 0.82],
}


def test_bold_is_what_seeds_do_not_tell_from_the_best() -> None:
    (table,) = paper_tables(records(SEEDS))
    assert table.headers == ["mean", "median"]
    (none, plain), (alie, attacked) = table.rows
    assert (*none, *alie) == ("none", "alie")
    assert [entry.best for entry in plain] == [False, False]
    assert [entry.best for entry in attacked] == [False, True]
    assert [(entry.value, entry.interval) for entry in attacked] == [
        ("12.0", ("10.0", "14.0")),
        ("81.0", ("80.0", "82.0")),
    ]
    assert "not told from the best" in table.caption[-1]


def test_one_seed_prints_the_highest_bold_and_says_on_what_it_rests() -> None:
    (table,) = paper_tables(records({key: values[:1] for key, values in SEEDS.items()}))
    assert [[entry.best for entry in entries] for _, entries in table.rows] == [[False, False], [False, True]]
    assert "too few seeds" in table.caption[-1]


def test_where_less_is_better_the_lowest_is_bold() -> None:
    cells = records({key: values[:1] for key, values in SEEDS.items()})
    for cell in cells:
        cell["primary_metric"] = "mean_squared_error"
        cell["metrics"] = {"mean_squared_error": cell["metrics"]["accuracy"]}
    (table,) = paper_tables(cells)
    assert [[entry.best for entry in entries] for _, entries in table.rows] == [[False, False], [True, False]]


def test_long_tables_have_a_row_for_each_pair_and_a_column_for_each_metric() -> None:
    both = records(SEEDS, accuracy_min_last5=0.05)
    (table,) = paper_tables(both, long=True)
    assert list(table.keys) == ["attack", "defense"]
    assert table.headers == ["accuracy (%)", "accuracy_min_last5 (%)"]
    assert [tuple(key) for key, _ in table.rows] == list(SEEDS)
    assert [entry.value for entry in table.rows[3][1]] == ["81.0", "5.0"]
    assert [table.name for table in paper_tables(both)] == ["accuracy", "accuracy_min_last5"]


def test_what_failed_is_said() -> None:
    cells = records(SEEDS)
    cells[0] |= {"status": "failed", "metrics": {}}
    (table,) = paper_tables(cells)
    assert table.rows[0][1][0].note == "1 of 3 failed"
    assert "1 of 3 failed" in markdown.to_markdown([table])


def hostile() -> list[dict[str, Any]]:
    return records({(HOSTILE, f"{HOSTILE}(k={n})"): [0.5 + n / 100] for n in range(7)})


def beginnings() -> list[dict[str, Any]]:
    """Rows whose first letters the end of the row before, or the rule, would take for its own."""
    return records({(name, "mean"): [0.5] for name in ("[1, 2]", "*x", "[3]", "a--b, ``c''")})


def test_latex_escapes_every_sign_that_means_something() -> None:
    text = latex.to_latex(paper_tables(hostile(), run=HOSTILE), HOSTILE)
    assert r"a\_b \& 100\% \$x\textasciicircum{}2\$ \#1 \{\textasciitilde{}\}" in text
    assert r"\textbackslash{}input\{/etc/passwd\}" in text
    assert r"\ensuremath{\epsilon}" in text
    assert r"\input" not in text.replace(r"\textbackslash{}input", "")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\toprule") == 1
    assert r"\caption{" in text
    assert r"\label{tab:a-b-100-x-2" in text
    assert text.count(r"\textbf{") == 1
    body = text.partition(r"\midrule")[2]
    assert body.replace(r"\&", "").count("&") == 7  # an attack and seven defenses
    assert "{[}x](y){*}" in body


def test_latex_keeps_what_begins_a_row_and_joins_no_signs() -> None:
    rows = latex.to_latex(paper_tables(beginnings()), "run").partition(r"\midrule")[2].splitlines()
    assert [row.partition(" &")[0] for row in rows[1:5]] == ["{[}1, 2]", "{*}x", "{[}3]", "a-{}-b, `{}`c'{}'"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex here")
def test_latex_compiles(tmp_path: Path) -> None:
    many = records({("alie", f"d{n}(k={n})"): [-n, n + 0.5, n] for n in range(45)}, accuracy_min_last5=-0.5)
    parts = [
        paper_tables(hostile(), run=HOSTILE),
        paper_tables(beginnings()),
        paper_tables(many, ["accuracy"], long=True),
    ]
    tables = latex.to_latex([table for several in parts for table in several], "run")
    assert r"\begin{longtable}" in tables
    packages = tables.splitlines()[0].partition(": ")[2]
    document = f"\\documentclass{{article}}\n{packages}\n\\begin{{document}}\n{tables}\\end{{document}}\n"
    (tmp_path / "paper.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


def test_what_seeds_span_stands_in_brackets_in_markdown_as_captions_say() -> None:
    entries = [PaperCell("97.6", ("97.2", "98.3"), best=True), PaperCell("96.1")]
    text = markdown.to_markdown(
        [PaperTable("accuracy", ["accuracy"], ["attack"], ["mean", "median"], [(["none"], entries)])]
    )
    assert "| none | **97.6** [97.2 to 98.3] | 96.1 |" in text


def test_markdown_has_as_many_columns_everywhere_and_no_sign_means_anything() -> None:
    text = markdown.to_markdown(paper_tables(hostile(), run=HOSTILE))
    rows = [line.replace(r"\|", "").count("|") for line in text.splitlines() if line.startswith("|")]
    assert rows == [9, 9, 9]
    assert r"\<script\>" in text
    assert r"\`\*\[x\](y)\*" in text
    assert text.count("**") == 2
