"""The pages of attacks, inversions and defenses: one for each name in the tables, and an index."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from fedsec.plugins import registry

KINDS = {"attack": "Attacks by clients", "inversion": "Inversions by a curious server", "defense": "Defenses"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add `methods/index.md`."""
    lines = ["# Methods", ""]
    for kind, title in KINDS.items():
        lines += [f"## {title}", "", "| name | |", "|---|---|"]
        entries = registry.entries(kind, plugins=False).values()
        lines += [f"| `{entry.name}` | {entry.summary.replace('|', chr(92) + '|')} |" for entry in entries]
        lines += [""]
    files.append(File.generated(config, "methods/index.md", content="\n".join(lines)))
    return files
