"""A docstring's parts as data: its summary, its paragraphs, its formulas, and its sections.

A docstring is a line, paragraphs, and sections that begin with `Name:` alone on a line and are indented (Google style),
such as Args, Raises, Cost and Limits; `Reference: ...` stands on a line of its own. A formula is a paragraph that is
indented, or one that begins with a symbol and not with a word of a sentence.
"""

import re
from dataclasses import dataclass

_HEADING = re.compile(r"^([A-Z][A-Za-z]*(?: [a-z]+)?):[ \t]*$")
_REFERENCE = re.compile(r"^References?:[ \t]*(\S.*)?$")
_SENTENCE_START = re.compile(r"^(?:A|I|[A-Z][a-z]+)[ ,]")
_MATHEMATICS = re.compile(r"<-|->|\|\||\bargmin\b|\bmin over\b|\bsum_|\|\w+\||N\(0|\^| [*/=] | = ")
_ITEM = re.compile(r"^(\w+): (.*)$")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class DocParagraph:
    """A paragraph of a docstring.

    Args:
        text: its lines; those of prose are joined, those of a formula or a list stand below each other.
        is_formula: whether it is mathematics.
    """

    text: str
    is_formula: bool = False


@dataclass(frozen=True)
class Docstring:
    """What a docstring says, part by part; a part that it lacks is empty.

    Args:
        summary: its first line.
        paragraphs: what stands between that and the first section, in order.
        sections: text of each section by its heading in lower case, indentation removed.
        reference: the papers.
    """

    summary: str
    paragraphs: tuple[DocParagraph, ...]
    sections: dict[str, str]
    reference: str

    @property
    def formula(self) -> str:
        """Its formulas, one below the other."""
        return "\n\n".join(paragraph.text for paragraph in self.paragraphs if paragraph.is_formula)

    @property
    def arxiv(self) -> tuple[str, ...]:
        """Numbers of the papers that it cites on arXiv."""
        return arxiv_numbers(self.reference)

    def prose(self, heading: str) -> str:
        """A section as one flowing text per paragraph."""
        blocks = re.split(r"\n[ \t]*\n", self.sections.get(heading, ""))
        return "\n\n".join(_joined(block.splitlines()) for block in blocks if block.strip())

    def items(self, heading: str) -> tuple[tuple[str, str], ...]:
        """(name, text) of each entry of a section such as Args or Raises."""
        entries: list[tuple[str, str]] = []
        for line in self.sections.get(heading, "").splitlines():
            start = _ITEM.match(line)
            if start:
                entries.append((start[1], start[2]))
            elif entries and line.strip():
                entries[-1] = entries[-1][0], f"{entries[-1][1]} {line.strip()}"
        return tuple(entries)


def arxiv_numbers(text: str) -> tuple[str, ...]:
    """The arXiv numbers that a text names, each once, in order."""
    return tuple(dict.fromkeys(_ARXIV.findall(text)))


def parse_docstring(text: str) -> Docstring:
    """Take a docstring apart.

    Args:
        text: as `ast.get_docstring` gives it, indentation removed.
    """
    text = text.strip()
    summary, _, rest = ("", "", text) if _HEADING.match(text.partition("\n")[0]) else text.partition("\n")
    body: list[str] = []
    reference: list[str] = []
    sections: dict[str, list[str]] = {}
    part = body
    for line in rest.splitlines():
        if cited := _REFERENCE.match(line):
            part, line = reference, cited[1] or ""
        elif heading := _HEADING.match(line):
            part = sections.setdefault(heading[1].lower(), [])
            continue
        elif line and not line[0].isspace() and part is not body and not (part is reference and reference[-1]):
            part = body  # a paragraph below a section
            part.append("")
        part.append(line)
    return Docstring(
        summary.strip(),
        tuple(_paragraphs(body)),
        {heading: _dedented(lines) for heading, lines in sections.items()},
        _joined(reference),
    )


def _paragraphs(lines: list[str]) -> list[DocParagraph]:
    blocks = [block.rstrip() for block in re.split(r"\n[ \t]*\n", "\n".join(lines)) if block.strip()]
    return [_paragraph(block.strip("\n").splitlines()) for block in blocks]


def _paragraph(lines: list[str]) -> DocParagraph:
    if all(line.startswith("    ") for line in lines):
        return DocParagraph(_dedented(lines), is_formula=True)
    text = "\n".join(lines)
    if re.match(r"\d\. |- ", text):
        return DocParagraph(re.sub(r"\n\s+", " ", text))
    if not _SENTENCE_START.match(text) and not text.startswith(("`", "**")) and _MATHEMATICS.search(text):
        return DocParagraph(text, is_formula=True)
    is_list = all(re.match(r"\w+: |    ", line) for line in lines)
    return DocParagraph(re.sub(r"\n    \s*", " ", text) if is_list else _joined(lines))


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())


def _dedented(lines: list[str]) -> str:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:].rstrip() for line in lines).strip("\n")
