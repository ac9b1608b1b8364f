"""The wheel has all that fedsec needs, and runs where there is no repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import fedsec

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the environment's own setuptools, without the network."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    # setuptools builds below the sources unless told otherwise.
    settings = f"--config-setting=--build-option=build --config-setting=--build-option=--build-base={out / 'build'}"
    subprocess.run([*command, *settings.split()], check=True, capture_output=True, timeout=120)
    (path,) = out.glob("*.whl")
    return path


def test_it_holds_what_the_tree_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    folders = {"attacks": "fedsec/attacks", "defenses": "fedsec/defenses", "scenarios": "fedsec/scenarios"}
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "fedsec").rglob("*.py")}
    for folder, place in folders.items():
        wanted |= {f"{place}/{path.name}" for path in (ROOT / folder).glob("*.py")}
    wanted |= {f"fedsec/scenarios/{path.name}" for path in (ROOT / "scenarios").glob("*.yaml")}
    wanted |= {
        f"fedsec/report/page/templates/{path.name}" for path in (ROOT / "fedsec/report/page/templates").iterdir()
    }
    wanted |= {"fedsec/py.typed", "fedsec/scenarios/schema.json"}
    assert wanted <= names, sorted(wanted - names)
    foreign = {name.partition("/")[0] for name in names} - {"fedsec", f"fedsec-{fedsec.__version__}.dist-info"}
    assert not foreign, foreign


def test_it_runs_outside_of_the_repository(wheel: Path, tmp_path: Path) -> None:
    place, here = tmp_path / "site", tmp_path / "empty"
    here.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)

    def output(*command: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(place)}
        return subprocess.run(
            [sys.executable, *command], cwd=here, env=environment, text=True, check=True, capture_output=True
        ).stdout

    assert output("-c", "import fedsec; print(fedsec.__file__)").startswith(str(place))
    assert output("-m", "fedsec", "--version").strip() == f"fedsec {fedsec.__version__}"
    # `.ci/wheel` runs it, on every Python.
    assert "quickstart" in output("-m", "fedsec", "run", "quickstart", "--dry-run")


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == fedsec.__version__
    assert citation["cff-version"] == "1.2.0"
