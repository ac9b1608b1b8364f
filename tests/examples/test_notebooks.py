"""The notebooks run, at small size, and show what they are meant to show; they are kept without outputs."""

from pathlib import Path
from typing import Any

import pytest

nbformat: Any = pytest.importorskip("nbformat", reason="notebooks need the packages of the group docs")
nbclient: Any = pytest.importorskip("nbclient", reason="notebooks need the packages of the group docs")

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each notebook shows, all of them played by one kernel, which forgets its names in between."""
    smaller = {"attack_your_model.ipynb": ("ITERATIONS", 5), "read_a_run.ipynb": ("ROUNDS", 1)}
    whole = nbformat.v4.new_notebook()
    cells: dict[str, list[Any]] = {}
    for path in NOTEBOOKS:
        cells[path.name] = nbformat.read(path, as_version=4).cells
        constant, value = smaller[path.name]
        (place,) = (cell for cell in cells[path.name] if f"\n{constant} = " in cell.source)
        place.source += f"\n{constant} = {value}"
        whole.cells += [nbformat.v4.new_code_cell("%reset -f"), *cells[path.name]]
    folder = tmp_path_factory.mktemp("notebooks")
    nbclient.NotebookClient(whole, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    texts = {}
    for name, own in cells.items():
        outputs = [output for cell in own if cell.cell_type == "code" for output in cell.outputs]
        assert any("image/png" in output.get("data", {}) for output in outputs)
        texts[name] = "\n".join(
            output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs
        )
    return texts


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert len("\n".join(cell.source for cell in code).splitlines()) < 60


def test_a_model_of_ones_own_is_attacked(shown: dict[str, str]) -> None:
    assert "Both images are recognizable" in shown["attack_your_model.ipynb"]
    assert "four local steps" in shown["attack_your_model.ipynb"]


def test_a_run_is_read(shown: dict[str, str]) -> None:
    assert "report.html" in shown["read_a_run.ipynb"]
    assert "sign_flip" in shown["read_a_run.ipynb"]
    assert "median" in shown["read_a_run.ipynb"]
