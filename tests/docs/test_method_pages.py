"""The site's page of each method: all of its parts, and what was measured of it, from committed rows alone."""

import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="the documentation's packages are not installed (group docs)")

from fedsec.plugins.registry import entries, entry

ROOT = Path(__file__).parents[2]
NAMES = [
    (kind, name) for kind in ("attack", "inversion", "inference", "defense") for name in entries(kind, plugins=False)
]


@pytest.fixture(scope="module")
def hook() -> Iterator[Any]:
    """Imports a hook as mkdocs does."""
    sys.path.insert(0, str(ROOT / "docs/hooks"))
    yield import_module
    sys.path.remove(str(ROOT / "docs/hooks"))
    for name in [name for name, module in sys.modules.items() if "docs/hooks" in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def test_every_method_has_one_page(hook: Any) -> None:
    methods = hook("methods")
    pages = [(page.kind, page.name) for heading in methods.GROUPS for page in methods.group(heading)]
    assert sorted(pages) == sorted(NAMES)
    assert methods.GUIDES.keys() == methods.GROUPS.keys()
    index = methods.index()
    assert all(f"[`{name}`]({methods.FOLDERS[kind]}/{name}.md)" in index for kind, name in NAMES)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, name in NAMES if entry(kind, name).role != "property"]
)
def test_something_was_measured_of_every_method(hook: Any, kind: str, name: str) -> None:
    pictures = hook("measured").measurements(kind, name)
    assert pictures, f"no row in docs/results is of {name}; add some and say in docs/hooks/measured what they show"
    for picture in pictures:
        assert (ROOT / "docs/results" / picture.source).is_file()
        assert len(picture.setting) > 40
        assert all(bar.values for bar in picture.bars)
        assert bool(picture.other) == any(bar.others for bar in picture.bars)


def test_numbers_are_those_of_rows(hook: Any) -> None:
    first = hook("measured").measurements("defense", "krum")[0]
    bars = {bar.label: bar for bar in first.bars}
    row = next(line for line in (ROOT / "docs/results" / first.source).read_text().splitlines() if ",ipm,krum," in line)
    assert bars["ipm"].values == (pytest.approx(100 * float(row.split(",")[4])),)
    assert bars["infinity"].values


def test_a_page_has_every_part(hook: Any) -> None:
    methods = hook("methods")
    page = methods.method(methods.method_page("defense", "norm_bound"), "Aggregation rules")
    headings = re.findall(r"^## (.*)$", page, re.M)
    assert headings == ["What it needs and gives", "Options", "Cost", "Limits", "Measured", "Example", "Paper"]
    assert ".formula }\nsum_i w_i x_i" in page
    assert "| `bound` | `float \\| median` | required |" in page or "| `bound` |" in page
    assert "```yaml" in page
    assert "(../../../defenses/norm_bound.py)" in page
    assert "https://arxiv.org/abs/1911.07963" in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        assert "\n\n" not in svg
        ET.fromstring(svg.replace('xlink:href="', 'href="'))


def test_the_index_says_who_knows_what_and_how_many_a_rule_withstands(hook: Any) -> None:
    methods = hook("methods")
    lines = methods.index().splitlines()
    cells = {name: next(line for line in lines if line.startswith(f"| [`{name}`]")).split(" | ") for _, name in NAMES}
    assert cells["sign_flip"][2] == "own updates"
    assert cells["mimic"][2] == "all honest updates"
    assert cells["alie"][2].startswith("own or all honest updates")
    assert cells["krum"][2:4] == ["n &gt;= 2f + 3", "yes"]
    assert "yes" not in cells["mean"]


@pytest.mark.parametrize(("kind", "name"), [("defense", "krum"), ("attack", "alie"), ("inversion", "dlg")])
def test_cost_and_limits_follow_their_headings(hook: Any, kind: str, name: str) -> None:
    methods = hook("methods")
    page = methods.method_page(kind, name)
    heading = next(heading for heading in methods.GROUPS if name in [member.name for member in methods.group(heading)])
    text = methods.method(page, heading)
    assert f"## Cost\n\n{methods.prose(page.cost)}\n\n" in text
    assert f"## Limits\n\n{methods.prose(page.limits)}\n\n" in text


def test_signs_of_mathematics_stay_what_they_are(hook: Any) -> None:
    prose = hook("methods").prose
    assert prose("<v, x_i - mean>^2 & `a < b` * c") == "&lt;v, x_i - mean&gt;^2 &amp; `a < b` \\* c"
    assert prose("(docs/results/x.csv)") == "([docs/results/x.csv](../../results/x.csv))"
