"""Every kind of run has a page, and names stay text in all of its sections."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fedsec.report import remarks
from fedsec.report.page import RunSummary, RunView, render, run_page
from fedsec.report.page.run_summary import ExpectationVerdict

HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}$x$"


class Elements(HTMLParser):
    """Counts elements, and keeps the text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")], f"{tag} has a handler"

    def handle_data(self, data: str) -> None:
        self.text += data


def make_run(root: Path, records: list[dict[str, Any]], **summary: Any) -> RunView:
    whole = []
    for number, record in enumerate(records):
        known = {"id": f"{number:012x}", "status": "done", "error": None, "seconds": 1.0, "metrics": {}}
        whole.append({**known, **record})
    for record in whole:
        folder = root / record["id"]
        folder.mkdir()
        rounds = [{"round": 1, **record["metrics"]}, {"round": 2, **record["metrics"]}]
        (folder / "rounds.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in rounds))
        partition = {"counts": [[1, 2], [3, 4]], "classes": ["a", HOSTILE]}
        (folder / "partition.json").write_text(json.dumps(partition))
    return RunView(root, whole, RunSummary("by hand", **summary))


def cell(attack: str = "none", defense: str = "mean", **metrics: float | None) -> dict[str, Any]:
    return {"cell": {"attack": attack, "defense": defense}, "metrics": metrics}


CLAIM = {"unit": "example", "delta": 1e-5, "accountant": "rdp", "note": ""}
LEAK: dict[str, float | None] = {
    "psnr": 20.0,
    "psnr_gray": 10.0,
    "ssim": 0.5,
    "ssim_gray": 0.1,
    "recovered": 0.5,
    "label_accuracy": 1.0,
    "rounds_reconstructed": 1,
}
KINDS: dict[str, list[dict[str, Any]]] = {
    "nothing but training": [{"cell": {}, "metrics": {"accuracy": 0.9}}],
    "attack and defense": [cell(accuracy=0.9), cell("flip", accuracy=0.1), cell("flip", "median", accuracy=0.8)],
    "attack without a baseline": [cell("flip", accuracy=0.1), cell("flip", "median", accuracy=0.8)],
    "regression": [
        {**cell(mean_squared_error=0.5), "primary_metric": "mean_squared_error"},
        {**cell("shift", mean_squared_error=2.5), "primary_metric": "mean_squared_error"},
    ],
    "a model that was never finite": [cell(accuracy=None, diverged_in_round=1)],
    "privacy": [{**cell(accuracy=0.8, epsilon=2.0), "privacy": [CLAIM]}, {**cell("none", "no", accuracy=0.9)}],
    "privacy without a bound": [{**cell(accuracy=0.8, epsilon=None), "privacy": [CLAIM]}],
    "inversion": [{"cell": {"inversion": "dlg"}, "metrics": {"accuracy": 0.9, **LEAK}}],
    "labels alone": [{"cell": {}, "metrics": {**LEAK, "psnr": None, "ssim": None, "recovered": None}}],
    "distillation": [
        {
            **cell(accuracy=0.9, accuracy_worst_client=0.7),
            "config": {"attack": {"name": "none"}, "federation": {"algorithm": "fedgkt"}},
        }
    ],
    "one training": [
        {**cell(accuracy=0.9), "config": {"attack": {"name": "none"}, "federation": {"algorithm": "centralized"}}}
    ],
    "a backdoor": [cell(accuracy=0.9), cell("door", accuracy=0.9, attack_success_rate=0.9)],
    "all failed": [{"cell": {}, "status": "failed", "error": "it broke"}],
    "a refused one": [cell(accuracy=0.9), {**cell("flip", "krum"), "status": "refused", "error": "too many"}],
    "interrupted": [cell(accuracy=0.9), {**cell("flip"), "status": "pending"}],
    "of an earlier version": [{"cell": {"defense": "mean", "seed": 0}, "metrics": {"accuracy": 0.9, "loss": 0.1}}],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_has_a_page(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remarks, "lpips_advice", str)  # which imports torch
    elements = Elements(render(run_page(make_run(tmp_path, KINDS[kind], interrupted=kind == "interrupted"))))
    assert "The answer" in elements.text
    assert "None" not in elements.text
    assert "nan" not in elements.text.split()
    if kind == "all failed":
        assert "No cell has numbers: of 1 cell every one failed." in elements.text


def test_names_stay_text_in_every_section(tmp_path: Path) -> None:
    section = {"name": HOSTILE, "label": HOSTILE, "options": {HOSTILE: HOSTILE}, "num_byzantine": 1}
    records = [
        {
            "cell": {"attack": HOSTILE, "defense": f"{HOSTILE} {number % 2}", HOSTILE: HOSTILE, "seed": number // 2},
            "metrics": {"accuracy": 0.5 + 0.1 * number, "accuracy_min_last5": 0.1},
            "config": {"attack": section, "partition": {"clients": 2}},
            "environment": {HOSTILE: HOSTILE},
            "made_with": {HOSTILE: HOSTILE},
        }
        for number in range(4)
    ]
    records.append({"cell": {"attack": HOSTILE}, "status": "failed", "error": HOSTILE})
    summary = {
        "question": HOSTILE,
        "given": HOSTILE,
        "scenario": f"name: '{HOSTILE}'",
        "overrides": [HOSTILE],
        "expectations": [ExpectationVerdict(HOSTILE, None, False)],
        "set_aside": [HOSTILE],
    }
    elements = Elements(render(run_page(make_run(tmp_path, records, **summary))))
    assert elements.names.count("script") == 1, "the page's own"
    assert elements.text.count("alert(1)") > 20
    assert "{{ 7*7 }}" in elements.text
    assert "49}}" not in elements.text


def test_a_long_run_of_many_clients_stays_small(tmp_path: Path) -> None:
    records = [cell("flip", f"rule {number}", accuracy=0.5) for number in range(45)]
    view = make_run(tmp_path, records[:1])
    counts = [[number % 7, number % 11] for number in range(1_000)]
    partition = {"counts": counts, "classes": ["a", "b"]}
    (tmp_path / view.records[0]["id"] / "partition.json").write_text(json.dumps(partition))
    more = [{**view.records[0], **record, "id": f"x{number}"} for number, record in enumerate(records)]
    html = render(run_page(RunView(tmp_path, [view.records[0], *more], view.summary)))
    assert len(html) < 400_000
    assert "1,000 clients" in html
