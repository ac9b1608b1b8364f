"""Results that show themselves in a notebook: a tiny one is executed by its kernel."""

from pathlib import Path
from typing import Any

import pytest

from fedsec.report.notebook import run_html, text_html
from fedsec.report.progress_lines import NotebookLines

SCENARIO = {
    "name": "tiny",
    "dataset": {"name": "digits", "train_size": 100, "test_size": 50},
    "partition": {"clients": 2},
    "model": "logistic",
    "federation": {"rounds": 1, "local": {"steps": 1, "batch_size": 10, "lr": 0.1}},
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def record(accuracy: float, **axes: str) -> dict[str, Any]:
    return {"id": "a", "cell": axes, "status": "done", "metrics": {"accuracy": accuracy}, "error": None, "seconds": 1.0}


def test_a_run_shows_its_table_and_pictures_and_text_stays_text(tmp_path: Path) -> None:
    picture = tmp_path / "accuracy.png"
    picture.write_bytes(PNG)
    records = [record(0.5, attack="none", defense="<script>"), record(0.25, attack="sign_flip", defense="<script>")]
    records.append({**record(0.0, attack="none", defense="krum"), "status": "failed", "error": "out of <memory>"})
    shown = run_html(tmp_path, records, ["accuracy >= 0.9, measured 0.5"], "1 cell failed", [picture])
    assert "<script>" not in shown
    assert "out of &lt;memory&gt;" in shown
    assert "not met: accuracy &gt;= 0.9" in shown
    assert "50.0" in shown
    assert "25.0 (-25.0)" in shown
    assert f"{tmp_path.name}: 2 of 3 cells done, 1 cell failed. Everything is in {tmp_path}." in shown
    assert 'src="data:image/png;base64,' in shown


def test_a_replay_shows_what_a_terminal_does() -> None:
    assert text_html("a < b") == "<pre>a &lt; b</pre>"


def test_a_notebook_shows_one_line_of_progress_and_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    code = f"from fedsec.runs import InProcess, run\nrun({SCENARIO!r}, executor=InProcess(), device='cpu')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = notebook.cells[0].outputs
    line, *said, result = outputs
    printed = "".join(one.text for one in said)
    assert printed.startswith("report: runs/tiny/report.html\nresults in runs/tiny: results.csv, ")
    assert line.output_type == "display_data"
    assert line.data["text/html"].startswith('<div><progress value="1" max="1"')
    assert "1 of 1 cell" in line.data["text/html"]
    assert result.output_type == "execute_result"
    assert "<table" in result.data["text/html"]
    assert "data:image/png;base64" in result.data["text/html"]
    assert "RunResult" in result.data["text/plain"]


def test_the_line_is_updated_rarely_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedsec.report import progress_lines
    from fedsec.report.progress_lines import Line

    shown: list[str] = []

    class Handle:
        def update(self, text: str) -> None:
            shown.append(text)

    class Display:
        HTML = str

        @staticmethod
        def display(text: str, display_id: bool) -> Handle:
            shown.append(text)
            return Handle()

    monkeypatch.setattr(progress_lines, "import_module", lambda name: Display)
    now = [0.0]
    lines = NotebookLines(lambda: now[0])
    lines.start()
    for step in range(100):
        now[0] += 0.01
        lines.show([Line((f"<step> {step}",), step, 100)])
    lines.stop()
    assert len(shown) == 1 + 5 + 1
    assert shown[-1].endswith("</progress> &lt;step&gt; 99, 0:00:01</div>")
