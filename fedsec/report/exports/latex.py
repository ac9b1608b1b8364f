"""Tables in LaTeX, in the style of booktabs."""

import re
import unicodedata
from collections.abc import Sequence

from fedsec.report.exports.paper_table import PaperCell, PaperTable

__all__ = ["escaped", "to_latex"]

_LONGEST = 40
"""A table of more rows goes over pages."""
_WIDEST = 6
"""A table of more columns is made as small as the text is wide."""
_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",
    "*": "{*}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_LIGATURES = re.compile(r"([-'`,])(?=\1)|[?!](?=`)")
"""Signs that LaTeX would join into others, as two hyphens into a dash."""

_CAPITALS = ["Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"]
_SMALL = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu "
    "nu xi pi rho sigma tau upsilon phi chi psi omega"
)


def to_latex(tables: Sequence[PaperTable], name: str) -> str:
    """Tables that any document with booktabs (and longtable, for long ones) takes in by `\\input`.

    Args:
        tables: from top to bottom.
        name: of the run, for labels.
    """
    packages = ["booktabs"]
    packages += ["longtable"] if any(map(_is_long, tables)) else []
    packages += ["graphicx"] if any(_is_wide(table) and not _is_long(table) for table in tables) else []
    head = f"% Written by fedsec export. In the preamble: \\usepackage{{{','.join(packages)}}}\n"
    return head + "\n" + "\n".join(_table(table, name) for table in tables)


def escaped(text: str) -> str:
    """Text as LaTeX prints it: its signs escaped, Greek letters as mathematics, of other scripts what Latin has."""
    # Brackets and asterisks stand in braces: at the beginning of a row, the row end before would take them for its own.
    written = "".join(_SIGNS.get(character) or _letter(character) for character in text)
    return _LIGATURES.sub(r"\g<0>{}", written)


def _letter(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else " "
    name = unicodedata.name(character, "")
    if name.startswith("GREEK") and " WITH " not in name:
        letter = name.rpartition(" ")[2].lower().replace("lamda", "lambda").replace("final", "")
        if "SMALL" in name and letter in _SMALL.split():
            return f"\\ensuremath{{\\{letter}}}"
        if letter.title() in _CAPITALS:
            return f"\\ensuremath{{\\{letter.title()}}}"
    if "\u00c0" <= character <= "\u00ff" and character not in "\u00d0\u00f0\u00de\u00fe\u00d7\u00f7":
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    if plain.strip():
        return "".join(_SIGNS.get(letter, letter) for letter in plain)
    return " " if character.isspace() or not character.isprintable() else f"U+{ord(character):04X}"


def _is_long(table: PaperTable) -> bool:
    return len(table.rows) > _LONGEST


def _is_wide(table: PaperTable) -> bool:
    return len(table.keys) + len(table.headers) > _WIDEST


def _table(table: PaperTable, name: str) -> str:
    columns = "l" * len(table.keys) + "r" * len(table.headers)
    sentences = [*table.caption, *table.notes]
    caption = f"\\caption{{{escaped('; '.join(sentences))}.}}"
    label = f"\\label{{tab:{_label(name)}-{_label(table.name)}}}"
    head = " & ".join(_header(header) for header in (*table.keys, *table.headers)) + r" \\"
    body = list(_rows(table))
    if _is_long(table):
        lines = [f"\\begin{{longtable}}{{{columns}}}", f"{caption}{label} \\\\", r"\toprule", head, r"\midrule"]
        lines += [r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
        return "\n".join([*lines, *body, r"\end{longtable}", ""])
    tabular = [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    tabular.append(r"\end{tabular}")
    if _is_wide(table):
        tabular = [r"\resizebox{\textwidth}{!}{%", *tabular, "}"]
    above = [r"\begin{table}[tbp]", r"\centering", r"\setlength{\belowcaptionskip}{6pt}", caption, label]
    return "\n".join([*above, *tabular, r"\end{table}", ""])


def _header(text: str) -> str:
    """A name above its options, where it has any."""
    name, parenthesis, options = text.partition("(")
    if not (name and parenthesis) or len(text) < 16:
        return escaped(text)
    return f"\\shortstack{{{escaped(name.strip())}\\\\{escaped(parenthesis + options)}}}"


def _rows(table: PaperTable) -> list[str]:
    lines: list[str] = []
    above: Sequence[str] = ()
    for key, entries in table.rows:
        # A name that stands above already is left out, and a new one to the left of the last starts a block.
        same = next((place for place in range(len(key)) if key[: place + 1] != above[: place + 1]), len(key))
        if above and same < len(key) - 1:
            lines.append(r"\midrule")
        names = ["" if place < same else escaped(text) for place, text in enumerate(key)]
        lines.append(" & ".join([*names, *map(_cell, entries)]) + r" \\")
        above = key
    return lines


def _cell(entry: PaperCell) -> str:
    value = _number(entry.value)
    value = f"\\textbf{{{value}}}" if entry.best else value
    if entry.interval is None:
        return value
    low, high = map(_number, entry.interval)
    return f"{value} {{\\scriptsize [{low}, {high}]}}"


def _number(text: str) -> str:
    return re.sub(r"^-(?=.)", "$-$", escaped(text))


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "run"
