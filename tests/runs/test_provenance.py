"""Results of other code, data or versions are said and made again, or kept if one asks for it."""

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedsec.runs import provenance
from fedsec.runs.provenance import code_of, differences
from fedsec.scenario import CellConfig

pytestmark = pytest.mark.usefixtures("no_pictures")


def again(root: Path, tiny: Any, **options: Any) -> tuple[bool, str]:
    """Whether a second run in an earlier one's folder ran its cell again, and what it said."""
    (result,) = root.glob("*/result.json")
    before = result.stat().st_mtime_ns
    console = Console(record=True, file=io.StringIO(), width=300)
    assert tiny.run(root.parent, *tiny.one, console=console, **options).failures == 0
    return result.stat().st_mtime_ns != before, console.export_text()


@pytest.fixture
def copied(long_cell: Path, tmp_path: Path) -> Path:
    """A finished run of one cell."""
    return shutil.copytree(long_cell, tmp_path / "tiny")


def test_the_same_code_and_versions_run_nothing_again(copied: Path, tiny: Any) -> None:
    ran, shown = again(copied, tiny)
    assert not ran
    assert "run again" not in shown


@pytest.mark.parametrize(
    ("function", "said"),
    [("_fedsec", "other fedsec than now"), ("_code", "other code of"), ("_device", "other device than now")],
)
@pytest.mark.parametrize("keep", [False, True])
def test_other_code_or_another_device_is_said_and_run_again(
    copied: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch, function: str, said: str, keep: bool
) -> None:
    monkeypatch.setattr(provenance, function, lambda *_: "another")
    ran, shown = again(copied, tiny, keep=keep)
    assert ran is not keep
    assert (said in shown) is not keep
    assert ("--keep" in shown) is not keep


def test_another_version_is_said_and_run_again(copied: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    version = provenance.metadata.version
    monkeypatch.setattr(provenance.metadata, "version", lambda name: "9.9" if name == "torch" else version(name))
    ran, shown = again(copied, tiny)
    assert ran
    assert "other torch than now" in shown


def test_a_result_says_what_it_was_made_with(long_cell: Path) -> None:
    (path,) = long_cell.glob("*/result.json")
    made_with = json.loads(path.read_text())["made_with"]
    assert {"fedsec", "torch", "device", "code of mean", "code of mlp", "code of fedavg"} < made_with.keys()


def test_an_interrupted_cell_of_other_code_begins_anew(
    copied: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A finished cell without its result is one that was interrupted after its last round.
    (result,) = copied.glob("*/result.json")
    result.unlink()
    monkeypatch.setattr(provenance, "_code", lambda *_: "another")
    console = Console(record=True, file=io.StringIO(), width=300)
    tiny.run(copied.parent, *tiny.one, console=console)
    assert "begins anew, since it was begun with other code of" in console.export_text()


BASE = "class Base:\n    pass\n"
METHOD = "from {package}.base import Base\nfrom {package} import helper\nclass Method(Base):\n    pass\n"


@pytest.mark.parametrize("changed", ["base.py", "helper.py", "method.py"])
def test_the_code_of_a_plugin_is_its_whole_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    package = f"plugin_of_{changed.removesuffix('.py')}"
    folder = tmp_path / package
    folder.mkdir()
    files = {"__init__.py": "", "base.py": BASE, "helper.py": "", "method.py": METHOD.format(package=package)}
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    __import__(f"{package}.method")
    method = sys.modules[f"{package}.method"].Method
    before = code_of(method)
    assert code_of(method) == before
    (folder / changed).write_text(files[changed] + "# changed\n")
    assert code_of(method) != before


def test_every_named_part_counts() -> None:
    config = CellConfig.model_validate(
        {
            "dataset": "digits",
            "federation": {"algorithm": "fedsgd", "rounds": 2},
            "attack": {"name": "sign_flip", "num_byzantine": 1},
            "inversion": {"name": "dlg", "target": {"rounds": [1]}},
            "defense": [{"name": "clip", "max_norm": 1.0}, "median"],
            "metrics": ["balanced_accuracy"],
        }
    )
    codes = {name for name in provenance.provenance(config, "cpu") if name.startswith("code of ")}
    names = ("digits", "iid", "mlp", "fedsgd", "sign_flip", "dlg", "clip", "median", "balanced_accuracy")
    assert codes == {f"code of {name}" for name in (*names, "classification")}
    made_with = dict.fromkeys(codes, "")
    training = provenance.of_training(config, made_with, poisoned=False)
    assert training.keys() == {f"code of {name}" for name in ("digits", "iid", "mlp", "fedsgd", "classification")}


def test_differences_are_named_once() -> None:
    assert differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ["b", "c"]
    assert differences({"a": "1", "d": "5"}, {"a": "1"}) == ["d"]
