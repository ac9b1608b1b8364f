"""The example of a plugin package installs as it says, passes the kit, and runs beside the built-ins."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"


def ran(command: list[str], folder: Path, site: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Its folder, and the one that it is installed into."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed, which installs the package")
    folder = tmp_path_factory.mktemp("copied") / "plugin"
    shutil.copytree(EXAMPLE, folder)
    site = tmp_path_factory.mktemp("site")
    command = [uv, "pip", "install", "--no-deps", "--python", sys.executable, "--target", str(site), str(folder)]
    ran(command, folder, site)
    return folder, site


def test_it_is_listed_with_the_package_that_brings_it(package: tuple[Path, Path]) -> None:
    content = json.loads(ran([sys.executable, "-m", "fedsec", "list", "--json"], *package))
    for kind, name in (("defenses", "medoid"), ("attacks", "drift")):
        (entry,) = [entry for entry in content[kind] if entry["name"] == name]
        assert entry["plugin"] == "fedsec-medoid"


def test_the_kit_passes(package: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    assert "4 passed" in ran(command, *package)


def test_its_scenario_runs(package: tuple[Path, Path], tmp_path: Path) -> None:
    folder, site = package
    command = [
        sys.executable,
        "-m",
        "fedsec",
        "run",
        str(folder / "medoid.yaml"),
        "--out",
        str(tmp_path / "run"),
        "--workers",
        "1",
    ]
    ran([*command, "--set", "federation.rounds=2", "--set", "matrix.defense=[medoid]"], tmp_path, site)
    (record,) = tmp_path.rglob("results.json")
    results = json.loads(record.read_text())
    cells = results if isinstance(results, list) else results["cells"]
    assert len(cells) == 3
    assert {cell["status"] for cell in cells} == {"done"}
