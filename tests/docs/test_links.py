"""Links between the Markdown files of the repository lead somewhere, anchors included. No network."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("examples/*/*.md")]
)
CODE = re.compile(r"^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)|`[^`\n]+`", re.M | re.S)
MADE = {
    "methods": "docs/hooks/methods.py",
    "reference/command_line.md": "docs/hooks/command_reference.py",
    "reference/python": "docs/hooks/python_reference.py",
    "reference/scenario": "docs/hooks/scenario_reference.py",
}
"""Pages that only the site has, and what makes them; mkdocs checks links to them when it builds the site."""


def links(text: str) -> list[tuple[str, str]]:
    """Path and anchor of each link to something here."""
    targets = re.findall(r"\]\(([^)\s]+)", CODE.sub("", text))
    return [(path, anchor) for path, _, anchor in (target.partition("#") for target in targets) if ":" not in path]


def anchors(text: str) -> set[str]:
    """What a page's headings are called by the repository's viewer as well as by the site."""
    headings = re.findall(
        r"^#+ +(.+?)(?: *\{ *#[\w-]+ *\})?$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M
    )
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    viewer = {heading.replace(" ", "-") for heading in plain}
    site = {re.sub(r"[-\s]+", "-", heading) for heading in plain}
    return viewer & site


def problems(page: Path, text: str) -> list[str]:
    """Each link that leads nowhere."""
    lost = []
    for path, anchor in links(text):
        target = (page.parent / path).resolve() if path else page
        made = [place for place in MADE if str(target).startswith(str(ROOT / "docs" / place))]
        if not target.exists() and not made:
            lost.append(f"{path}: there is no such file")
        elif anchor and target.suffix == ".md" and not made and anchor not in anchors(target.read_text()):
            lost.append(f"{path}#{anchor}: there is no such heading")
    return lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not problems(page, page.read_text())


def test_broken_links_are_found() -> None:
    page = ROOT / "docs/peers.md"
    text = "[a](nowhere.md) [b](cluster.md#no-such-heading) `[c](code.md)`\n```\n[d](code.md)\n```\n[e](cluster.md)"
    assert problems(page, text) == [
        "nowhere.md: there is no such file",
        "cluster.md#no-such-heading: there is no such heading",
    ]


def test_pages_that_are_made_have_makers() -> None:
    assert all((ROOT / hook).is_file() for hook in MADE.values())


def test_pictures_are_shown_and_shown_pictures_say_what_is_on_them() -> None:
    shown = set()
    for page in PAGES:
        for alt, path in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text()):
            assert len(alt.split()) >= 3, f"{page.name}: {path} needs words for those who do not see it"
            shown.add((page.parent / path).resolve())
    assert {path.resolve() for path in (ROOT / "docs/images").iterdir() if path.suffix == ".png"} <= shown
