"""What was asked stands there word for word, and resolved: once what cells share, and of each what differs."""

from dataclasses import replace

from fedsec.report.page.parts import Code, DataTable, Folded, Paragraph, Part
from fedsec.report.page.resolved import common, variants
from fedsec.report.page.sections.question import question
from tests.report.page.sections.conftest import AddCell, Look

SCENARIO = "name: hand  # <script>\nmatrix: {defense: [mean, median]}\n"


def codes(parts: list[Part]) -> list[str]:
    inner = [part for outer in parts if isinstance(outer, Folded) for part in outer.parts]
    return [part.text for part in (*parts, *inner) if isinstance(part, Code)]


def test_the_scenario_stands_there_word_for_word(cell: AddCell, view: Look) -> None:
    cell("none", "mean")
    summary = replace(view().summary, scenario=SCENARIO, overrides=("federation.rounds=2",))
    section = question(replace(view(), summary=summary))
    assert section is not None
    assert codes(list(section.parts))[0] == SCENARIO.rstrip("\n")
    assert any("federation.rounds=2" in getattr(part, "text", "") for part in section.parts)


def test_what_cells_share_and_what_differs_are_told_apart(cell: AddCell, view: Look) -> None:
    shared = {"model": {"name": "mlp", "hidden": [8]}}
    cell("none", "mean", config={**shared, "defense": [{"name": "mean"}]})
    cell("flip", "mean", options={"a": 1}, config={**shared, "defense": [{"name": "mean"}]})
    cell("flip", "median", options={"a": 1}, config={**shared, "defense": [{"name": "median"}]})
    records = view().records
    same = common(records)
    assert same["model"] == shared["model"]
    assert same["attack"] == {"label": None, "until": None}
    assert "defense" not in same
    assert variants(records) == [
        ("attack", "{name: none, options: {}, num_byzantine: null}", "none", 1),
        ("attack", "{name: flip, options: {a: 1}, num_byzantine: 1}", "flip", 2),
        ("defense", "[{name: mean}]", "mean", 2),
        ("defense", "[{name: median}]", "median", 1),
    ]
    section = question(view())
    assert section is not None
    (folded,) = (part for part in section.parts if isinstance(part, Folded))
    table = folded.parts[1]
    assert isinstance(table, DataTable)
    assert len(table.rows) == 4
    assert section.parts[0].text.startswith("3 cells: 2 of attack, 2 of defense.")  # type: ignore[union-attr]


def test_a_run_of_which_nothing_is_known_has_no_such_section(view: Look) -> None:
    assert question(view()) is None


def test_a_damaged_description_is_said_and_not_taken_for_an_early_one(cell: AddCell, view: Look) -> None:
    cell("none", "mean")
    texts = []
    for content in (None, "{"):
        if content is not None:
            (view().root / "run.json").write_text(content)
        section = question(view())
        assert section is not None
        texts.append(" ".join(part.text for part in section.parts if isinstance(part, Paragraph)))
    assert "An earlier version" in texts[0]
    assert "run.json is damaged" in texts[1]
