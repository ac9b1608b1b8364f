"""The pages of attacks, inversions and defenses: one for each name in the tables, and an index by who does what.

Each is made of the method's docstring (`fedsec.plugins.method_page`) and of what was measured of it (`measured`).
"""

import re
from collections.abc import Iterator
from typing import Any

from dot_plot import dot_plot
from markdown_tables import table
from measured import measurements
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from fedsec.plugins import registry
from fedsec.plugins.method_page import MethodPage, method_page
from fedsec.plugins.registry import REQUIRED, Parameter
from fedsec.plugins.signatures import as_yaml

FOLDERS = {"attack": "attacks", "inversion": "inversions", "inference": "inferences", "defense": "defenses"}
GROUPS = {
    "Attacks on data": ("attack", ("DataPoisoning",)),
    "Attacks on updates": ("attack", ("UpdatePoisoning",)),
    "Attacks on FedGKT": ("attack", ("KnowledgePoisoning",)),
    "Attacks at the cut of a network": ("attack", ("ActivationPoisoning",)),
    "Inversions": (
        "inversion",
        ("Inversion", "MaliciousServer", "FeatureInversion", "HijackingServer", "TextInversion"),
    ),
    "Inferences": ("inference", ("MembershipInference", "PropertyInference", "LabelInference")),
    "Aggregation rules": ("defense", ("Aggregator", "RuleWrapper", "PrivateAggregator")),
    "Pre-aggregators": ("defense", ("PreAggregator",)),
    "Defenses by clients": ("defense", ("ModelInspector", "UpdateTransform", "LocalDefense")),
    "Defenses of FedGKT": ("defense", ("KnowledgeDefense",)),
    "Defenses of cut networks": ("defense", ("ActivationDefense",)),
}
"""Heading -> kind and interfaces of the methods that stand below it."""
GUIDES = {
    "Attacks on data": (("Backdoors", "backdoors.md"), ("Robust rules", "byzantine.md")),
    "Attacks on updates": (("Attacks on updates", "attacks.md"), ("The worst case of a rule", "worst_case.md")),
    "Attacks on FedGKT": (("Federations", "federation.md"),),
    "Attacks at the cut of a network": (("Split learning", "split_learning.md"),),
    "Inversions": (("Gradient inversion", "inversion.md"), ("Privacy", "privacy.md")),
    "Inferences": (("Audits", "audit.md"), ("Privacy", "privacy.md")),
    "Aggregation rules": (("Robust rules", "byzantine.md"), ("The worst case of a rule", "worst_case.md")),
    "Pre-aggregators": (("Robust rules", "byzantine.md"),),
    "Defenses by clients": (("Privacy", "privacy.md"), ("Malicious servers", "malicious_server.md")),
    "Defenses of FedGKT": (("Federations", "federation.md"),),
    "Defenses of cut networks": (("Split learning", "split_learning.md"),),
}
_TRAITS = {
    "attack": "What it knows",
    "inversion": "What it is for",
    "inference": "What it needs",
    "defense": "What it needs and gives",
}
INTRODUCTION = """# Methods

Every attack, inversion, inference and defense that comes with fedsec: its formula, what it assumes, its options, what
it costs and what stops it, what was measured of it, and an example. `fedsec list` names them on the command line, and
`fedsec show NAME` tells of one what stands here. In what follows n are the clients of a round, f or m the Byzantine
ones among them, and d the parameters of the model.
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation, below `Methods`."""
    for section in config.nav or []:
        if isinstance(section, dict) and "Methods" in section:
            section["Methods"] = ["methods/index.md", *({heading: paths} for heading, paths in _navigation())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add `methods/index.md` and a page for each method."""
    files.append(File.generated(config, "methods/index.md", content=index()))
    for heading in GROUPS:
        for page in group(heading):
            files.append(File.generated(config, address(page), content=method(page, heading)))
    return files


def address(page: MethodPage) -> str:
    """Where a method's page stands."""
    return f"methods/{FOLDERS[page.kind]}/{page.name}.md"


def group(heading: str) -> list[MethodPage]:
    """The methods below a heading, in the order of their table."""
    kind, interfaces = GROUPS[heading]
    known = registry.entries(kind, plugins=False).values()
    return [method_page(kind, entry.name) for entry in known if entry.interface in interfaces]


def index() -> str:
    """The page of all methods, a table for each heading."""
    lines = [INTRODUCTION]
    for heading in GROUPS:
        head = ("name", "what it is", "knows", "withstands", "names suspects", "cost")
        lines += [f"## {heading}", "", *table(head, map(_index_row, group(heading))), ""]
    return "\n".join(lines)


def _index_row(page: MethodPage) -> tuple[str, ...]:
    link = f"[`{page.name}`]({FOLDERS[page.kind]}/{page.name}.md)"
    cost = re.split(r"(?<=[.;])\s", page.cost)[0].rstrip(".;")
    detects = "yes" if page.entry.traits.get("detects") is True else ""
    cost = prose(re.sub(r" \(?(?:in )?docs/\S+", "", cost))
    return link, prose(page.summary), _knows(page), prose(_withstands(page)), detects, cost


def _withstands(page: MethodPage) -> str:
    """How many Byzantine clients, of how many, or else the words of the docstring."""
    sentences = [re.split(r"^Withstands |^Claims to withstand ", sentence) for sentence in page.assumptions]
    words = next((parts[1] for parts in sentences if len(parts) == 2), "")
    return page.condition or re.split(r"[:.;](?: |$)", words)[0]


def _knows(page: MethodPage) -> str:
    """What an attack knows, in a few words."""
    traits, options = page.entry.traits, [parameter.name for parameter in page.parameters]
    if page.kind != "attack":
        return ""
    own = "own data and updates" if page.entry.role == "data" else "own updates"
    known = {"own": own, "omniscient": "all honest updates"}.get(traits.get("knowledge", ""), "own data")
    words = ["own or all honest updates" if "knowledge" in options else known]
    words += ["the defense"] if traits.get("knows_defense") else []
    words += ["the last aggregate"] if traits.get("needs_last_aggregate") else []
    return ", ".join([*words, *(["trains"] if traits.get("trains") else [])])


def method(page: MethodPage, heading: str) -> str:
    """A method's page."""
    guides = ", ".join(f"[{title}](../../{path})" for title, path in GUIDES[heading])
    parts = [
        f"# {page.name}",
        f"**{prose(page.summary)}**",
        f"*{prose(f'Done by {page.place}')}*" if page.place else "",
        *_body(page),
        f"## {_TRAITS[page.kind]}" if page.traits else "",
        "\n".join(f"- {prose(sentence)}" for sentence in page.traits),
        *_options(page),
        "## Cost" if page.cost else "",
        prose(page.cost),
        "## Limits" if page.limits else "",
        prose(page.limits),
        *_pictures(page),
        *_examples(page),
        *_paper(page),
        f"Guides: {guides}. Source: [`{_source(page)}`](../../../{_source(page)}).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _body(page: MethodPage) -> Iterator[str]:
    for paragraph in page.paragraphs:
        yield formula(paragraph.text) if paragraph.is_formula else _prose_or_list(paragraph.text)


def formula(text: str) -> str:
    """A formula as a block of its own, whose lines may be broken."""
    return f"``` {{ .text .formula }}\n{text}\n```"


def _prose_or_list(text: str) -> str:
    lines = text.split("\n")
    if len(lines) == 1:
        return prose(text)
    return "\n".join(prose(line) if re.match(r"\d\. |- ", line) else f"- {prose(line)}" for line in lines)


def _options(page: MethodPage) -> Iterator[str]:
    if page.parameters:
        rows = [_option(parameter) for parameter in page.parameters]
        yield "## Options"
        yield "\n".join(table(("name", "type", "default", "what it is"), rows))
    if page.attributes:
        rows = [(f"`{name}`", prose(about)) for name, about in page.attributes]
        yield "\n".join(table(("attribute", "what it is"), rows))
    if page.errors:
        yield "\n".join(f"Raises `{error}`: {prose(when)}" for error, when in page.errors)


def _option(parameter: Parameter) -> tuple[str, ...]:
    default = "required" if parameter.default is REQUIRED else f"`{as_yaml(parameter.default)}`"
    kind = re.sub(r"\bNone\b", "null", parameter.annotation.replace("Literal", ""))
    kind = re.sub(r"\['([^\]]*)'\]", lambda words: words[1].replace("', '", ", "), kind)
    return f"`{parameter.name}`", f"`{kind}`", default, prose(parameter.about)


def _pictures(page: MethodPage) -> Iterator[str]:
    pictures = measurements(page.kind, page.name)
    yield "## Measured"
    if not pictures:
        yield "Nothing was measured of it yet."
    for number, picture in enumerate(pictures):
        yield f"### {picture.title}"
        yield dot_plot(picture, f"{page.kind}-{page.name}-{number}")
        yield f"{prose(picture.setting)} Rows: [{picture.source}](../../results/{picture.source})."


def _examples(page: MethodPage) -> Iterator[str]:
    yield "## Example"
    if page.scenario:
        yield f"In a scenario:\n\n```yaml\n{page.scenario.strip()}\n```"
    if page.python:
        yield f"In Python:\n\n```python\n{page.python.strip()}\n```"


def _paper(page: MethodPage) -> Iterator[str]:
    yield "## Paper"
    yield f"{prose(page.paper)}."
    for paragraph in page.background:
        text = re.sub(r"^References?: ", "In full: ", paragraph.text)
        yield formula(text) if paragraph.is_formula else _prose_or_list(text)


def _source(page: MethodPage) -> str:
    """The file, as the repository has it."""
    return f"{page.source.removeprefix('fedsec.').replace('.', '/')}.py"


def prose(text: str) -> str:
    """Text of a docstring as Markdown: signs of mathematics stay what they are, and papers are links."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"(?<!\w)_|\[|\](?!\()", lambda sign: "\\" + sign[0], text)
    text = re.sub(r"(?<!\*)\*(?= |$)", r"\\*", text)
    text = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"(?<![\w/])docs/((?:results/)?[\w.]+\.(?:md|csv))", r"[docs/\1](../../\1)", text)


def _navigation() -> Iterator[tuple[str, list[Any]]]:
    for heading in GROUPS:
        yield heading, [{page.name: address(page)} for page in group(heading)]
