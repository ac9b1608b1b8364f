"""The reference of the Python interface: a page for each public package, with the names of its `__all__`.

Names are read from the source; mkdocstrings fills in what the docstrings say, from the source as well.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGES = {
    "fedsec": "fedsec/__init__.py",
    "fedsec.attacks": "attacks/__init__.py",
    "fedsec.defenses": "defenses/__init__.py",
    "fedsec.threat": "fedsec/threat/__init__.py",
    "fedsec.defense": "fedsec/defense/__init__.py",
    "fedsec.auditing": "fedsec/auditing/__init__.py",
    "fedsec.testing": "fedsec/testing/__init__.py",
}
PACKAGE_NAMES = {"attacks", "auditing", "defense", "defenses", "testing", "threat", "__version__"}
BRIEF = {"fedsec.attacks", "fedsec.defenses"}
"""Packages whose classes share an interface, which `fedsec.threat` and `fedsec.defense` describe."""

WHOLE = {"InversionResult", "TextInversionResult"}
"""Classes that share what they have with a base that nobody imports."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each package under `reference/python/`."""
    root = Path(config.docs_dir).parent
    for package, source in PACKAGES.items():
        content = _page(package, (root / source).read_text())
        files.append(File.generated(config, f"reference/python/{package}.md", content=content))
    return files


def _page(package: str, source: str) -> str:
    docstring = re.match(r'"""(.*?)"""', source, re.S)
    lines = [f"# {package}", "", docstring[1].strip() if docstring else "", ""]
    listed = re.search(r"^__all__ = \[\n(.*?)^\]", source, re.M | re.S)
    for line in (listed[1] if listed else "").splitlines():
        word = line.strip().strip('",')
        if word.startswith("# "):
            lines += [f"## {word[2:]}", ""]
        elif word not in PACKAGE_NAMES:
            option = "members: false" if package in BRIEF else "inherited_members: true" if word in WHOLE else ""
            lines += [f"::: {package}.{word}", *(["    options:", f"      {option}"] if option else []), ""]
    return "\n".join(lines)
