"""All that source text tells about one method, part by part, for `fedsec show` and the documentation's pages.

Nothing is imported: `fedsec.plugins.sources` finds the class, `docstrings` takes its docstring apart. A part that a
docstring lacks is empty, never made up.
"""

import ast
import re
from dataclasses import dataclass

from fedsec.plugins import registry
from fedsec.plugins.docstrings import DocParagraph, Docstring, arxiv_numbers, parse_docstring
from fedsec.plugins.example_code import example_code
from fedsec.plugins.example_scenarios import example_scenario
from fedsec.plugins.method_traits import place, trait_sentences, with_all_traits
from fedsec.plugins.registry import Entry
from fedsec.plugins.signatures import Parameter
from fedsec.plugins.sources import define

__all__ = ["MethodPage", "kinds_of", "method_page"]

_CONDITION = re.compile(r"\bn >=? \d?f(?: \+ \d)?")
_WITHSTANDS = re.compile(r"^(?:Withstands|Claims to withstand|No client moves|For n\b|For f\b|Meant against)")
_REPORTS = re.compile(r"^(?:Reports|It takes|A client is suspected)\b")


@dataclass(frozen=True)
class MethodPage:
    """One method, as its source describes it.

    Args:
        entry: its name, kind, role, plugin and options.
        class_name: of its class or function.
        import_from: the module to import it from.
        source: the module that it is written in, dotted.
        paragraphs: of its docstring, prose and formulas in order.
        errors: (error, when) of what it raises.
        attributes: (name, meaning) of what it shows.
        background: the paragraphs of its module's docstring: the papers in full, and where it deviates from them.
        cost: what it takes, in clients n and parameters d.
        limits: what is known to break or to stop it.
        traits: sentences on what its class attributes mean.
        place: who carries it out, on what, and where it is named.
        scenario: a small scenario in YAML that uses it, or nothing.
        python: a few lines of Python that use it, or nothing.
    """

    entry: Entry
    class_name: str
    import_from: str
    source: str
    paragraphs: tuple[DocParagraph, ...]
    errors: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, str], ...]
    background: tuple[DocParagraph, ...]
    cost: str
    limits: str
    traits: tuple[str, ...]
    place: str
    scenario: str
    python: str

    @property
    def name(self) -> str:
        """In YAML."""
        return self.entry.name

    @property
    def kind(self) -> str:
        """A key of `registry.KINDS`."""
        return self.entry.kind

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        return self.entry.summary

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Its options, those of its bases included."""
        return self.entry.parameters

    @property
    def formula(self) -> str:
        """Its formulas, one below the other."""
        return "\n\n".join(paragraph.text for paragraph in self.paragraphs if paragraph.is_formula)

    @property
    def explanation(self) -> tuple[str, ...]:
        """Its paragraphs of prose."""
        return tuple(paragraph.text for paragraph in self.paragraphs if not paragraph.is_formula)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """The sentences that say what it withstands, and under which condition."""
        return tuple(sentence for sentence in self._sentences() if _WITHSTANDS.match(sentence))

    @property
    def reports(self) -> tuple[str, ...]:
        """The sentences that say what it reports of a round."""
        return tuple(sentence for sentence in self._sentences() if _REPORTS.match(sentence))

    @property
    def condition(self) -> str:
        """How many Byzantine clients f of n it withstands, such as `n >= 2f + 3`, where its text says so."""
        for text in (self.summary, *(paragraph.text for paragraph in self.paragraphs)):
            if match := _CONDITION.search(text):
                return match[0]
        return ""

    @property
    def paper(self) -> str:
        """Its paper in short."""
        return self.entry.paper

    @property
    def arxiv(self) -> tuple[str, ...]:
        """Numbers of its papers on arXiv."""
        return arxiv_numbers(self.paper)

    def _sentences(self) -> list[str]:
        return [sentence for text in self.explanation for sentence in re.split(r"(?<=[.:])\s+(?=[A-Z])", text)]


def method_page(kind: str, name: str) -> MethodPage:
    """Read one method's source.

    Args:
        kind: a key of `registry.KINDS`.
        name: in YAML.

    Raises:
        InputError: no such method; the text lists the known names and the nearest match.
    """
    entry = registry.entry(kind, name)
    written = define(*entry.path)
    text = docstring(written.node)
    module = docstring(written.source.tree)
    ready, example = with_all_traits(entry), text.sections.get("example", "")
    import_from, class_name = entry.path if entry.plugin else (registry.KINDS[kind].module, written.node.name)
    return MethodPage(
        entry=entry,
        class_name=class_name,
        import_from=import_from,
        source=written.source.module,
        paragraphs=text.paragraphs,
        errors=text.items("raises"),
        attributes=text.items("attributes"),
        background=_background(module),
        cost=text.prose("cost"),
        limits=text.prose("limits"),
        traits=trait_sentences(entry),
        place=place(entry),
        scenario=example_scenario(ready, example),
        python=example_code(ready, import_from, class_name, example),
    )


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds that have something of this name, such as `attack`; none where nothing is called so."""
    return tuple(kind for kind in registry.KINDS if name in registry.entries(kind))


def docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> Docstring:
    """What a module, class or function says about itself; empty where it has no docstring."""
    return parse_docstring(ast.get_docstring(node) or "")


def _background(module: Docstring) -> tuple[DocParagraph, ...]:
    """A module's paragraphs and papers; its first line says the same as its class's."""
    papers = (DocParagraph(f"Reference: {module.reference}"),) if module.reference else ()
    return (*module.paragraphs, *papers)
