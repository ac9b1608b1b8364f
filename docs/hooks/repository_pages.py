"""Pages of the site for files outside docs/: a link such as `../scenarios/quickstart.yaml` works in both places.

In the repository's viewer the link opens the file. In the site it opens a page made here: Markdown as it is, a folder
as a list, anything else as a listing. Pages are made for what is linked, and for what those pages link to in turn.
"""

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ADDRESSES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "readme.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Where pages stand that the navigation names; all others stand under `repository/`."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".json": "json", ".sh": "bash"}
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=[)\s])")
CODE = re.compile(r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)|`[^`\n]+`", re.M | re.S)

_sources: dict[str, Path] = {}
"""Address of each page made here -> the file that it shows."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file of the repository that a page links to."""
    docs, root = Path(config.docs_dir), Path(config.docs_dir).parent
    _sources.clear()
    waiting = [root / name for name in ADDRESSES]
    for file in files.documentation_pages():
        waiting += _outside(file.content_string, Path(docs / file.src_uri).parent, docs)
    while waiting:
        path = waiting.pop()
        if _address(path, root) in _sources:
            continue
        content = _content(path, root)
        _sources[_address(path, root)] = path
        files.append(File.generated(config, _address(path, root), content=content))
        waiting += _outside(content, path if path.is_dir() else path.parent, docs)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/, or that stand on a page from outside of it, at pages of the site."""
    docs, root = Path(config.docs_dir), Path(config.docs_dir).parent
    own = page.file.src_uri
    source = _sources.get(own, docs / own)
    folder = source if source.is_dir() else source.parent

    def target(link: re.Match[str]) -> str:
        path = _local(link[1], folder)
        if path is None:
            return link[0]
        inside = path.is_relative_to(docs) and not path.is_dir()
        address = path.relative_to(docs).as_posix() if inside else _address(path, root)
        return posixpath.relpath(address, posixpath.dirname(own) or ".") + (link[2] or "")

    return _outside_of_code(markdown, lambda text: LINK.sub(target, text))


def _outside(markdown: str, folder: Path, docs: Path) -> list[Path]:
    """What the links of a page lead to that is no page of docs/."""
    links = LINK.finditer(CODE.sub("", markdown))
    paths = [path for link in links if (path := _local(link[1], folder)) is not None]
    return [path for path in paths if path.is_dir() or not path.is_relative_to(docs)]


def _local(link: str, folder: Path) -> Path | None:
    """The file that a link names; None for other links, and for broken ones, which mkdocs reports."""
    if re.match(r"[a-z]+:|/", link):
        return None
    path = Path(posixpath.normpath(folder / link))
    return path if path.exists() else None


def _address(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    return ADDRESSES.get(name) or f"repository/{name.removesuffix('.md')}.md"


def _content(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(("_", ".")))
        return f"# {name}/\n\n" + "".join(f"- [{entry}]({entry})\n" for entry in names if "egg-info" not in entry)
    text = path.read_text()
    if path.suffix == ".md":
        return text
    if path.suffix == ".ipynb":
        return _notebook(json.loads(text), path.name)
    return f"# {name}\n\n`````{LANGUAGES.get(path.suffix, 'text')}\n{text}\n`````\n"


def _notebook(notebook: dict[str, Any], name: str) -> str:
    """A notebook's words and code; it is kept without outputs."""
    parts = [f"*The notebook `{name}`, as it is before it is run.*"]
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
    return "\n\n".join([*parts[1:2], parts[0], *parts[2:]])


def _outside_of_code(markdown: str, change: Callable[[str], str]) -> str:
    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])
