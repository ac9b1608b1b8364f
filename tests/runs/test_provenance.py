"""Results of other code, data or versions are said and made again, or kept if one asks for it."""

import ast
import importlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedsec.attacks import Auto, SignFlip
from fedsec.plugins import registry
from fedsec.runs import InProcess, provenance
from fedsec.runs.provenance import code_of, differences
from fedsec.runs.store import Store
from fedsec.scenario import CellConfig


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
    assert said in shown
    assert ("kept as they are" in shown) is keep
    assert ("--keep" in shown) is not keep


class Elsewhere(InProcess):
    """Stands for processes that read the sources themselves."""


def test_code_that_changed_since_this_process_read_it_is_noticed_where_others_compute(
    copied: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    again(copied, tiny)
    monkeypatch.setattr(provenance, "_hash", lambda *_: "another")
    assert "run again" not in again(copied, tiny)[1], "this process computes with what it has imported"
    try:
        ran, shown = again(copied, tiny, executor=Elsewhere())
    finally:
        provenance.forget()
    assert ran
    assert "other fedsec, code of" in shown


def test_another_version_is_said_and_run_again(copied: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    version = provenance.metadata.version
    monkeypatch.setattr(provenance.metadata, "version", lambda name: "9.9" if name == "torch" else version(name))
    ran, shown = again(copied, tiny)
    assert ran
    assert "other torch than now" in shown


def test_a_result_says_what_it_was_made_with(long_cell: Path) -> None:
    (path,) = long_cell.glob("*/result.json")
    made_with = json.loads(path.read_text())["made_with"]
    assert {
        "fedsec",
        "torch",
        "device",
        "code of defense mean",
        "code of model mlp",
        "code of algorithm fedavg",
    } < made_with.keys()


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


def test_a_plugin_that_is_installed_between_two_runs_of_a_process_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_installed_late.py").write_text("class Method:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    method = importlib.import_module("plugin_installed_late").Method
    provenance.forget()
    before = code_of(method)
    with monkeypatch.context() as later:
        later.setattr(provenance.metadata, "packages_distributions", lambda: {"plugin_installed_late": ["rich"]})
        assert code_of(method) == before  # the lists of files are read once a run
        provenance.forget()
        assert code_of(method) != before
    provenance.forget()


def test_the_code_of_an_ensemble_is_that_of_its_members_too(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(provenance, "_hash", lambda files, *more: hashed.extend(files))
    code_of(Auto)
    members = {"adaptive", "auto", "mimic", "min_max", "min_sum", "rop", "sign_flip"}
    assert {path.stem for path in hashed if path.parent.name == "attacks"} == members
    hashed.clear()
    code_of(SignFlip)
    assert [path.stem for path in hashed if path.parent.name == "attacks"] == ["sign_flip"]


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
    trained_by = ("dataset digits", "partition iid", "model mlp", "algorithm fedsgd", "task classification")
    others = ("attack sign_flip", "inversion dlg", "defense clip", "defense median", "metric balanced_accuracy")
    assert codes == {f"code of {name}" for name in (*trained_by, *others)}
    made_with = dict.fromkeys(codes, "")
    training = provenance.of_training(config, made_with, poisoned=False)
    assert training.keys() == {f"code of {name}" for name in trained_by}


def test_the_code_of_a_package_without_init_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "spacious_plugin"
    folder.mkdir()
    (folder / "method.py").write_text("class Method:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    method = importlib.import_module("spacious_plugin.method").Method
    before = code_of(method)
    (folder / "method.py").write_text("class Method:\n    scale = 2\n")
    assert code_of(method) != before


NO_NUMBERS = {
    "fedsec.environment",
    "fedsec.errors",
    "fedsec.files",
    "fedsec.plugins",
    "fedsec.report.evidence.image_tiles",
    "fedsec.runs.cell_files",
    "fedsec.runs.provenance",
    "fedsec.runs.store",
    "fedsec.runs.tasks",
    "fedsec.runs.recorded",
    "fedsec.runs.tensor_files",
    "fedsec.scenario",
}
"""What a running cell imports directly though its numbers do not come from there."""


def test_whatever_a_cell_computes_with_is_hashed() -> None:
    fedsec = Path(sys.modules["fedsec"].__file__ or "").parent
    hashed = {
        (fedsec / part).with_suffix("") for part in (*provenance._ENGINE, *provenance._INVERSION, *provenance._AUDIT)
    }
    assert all(path.exists() or path.with_suffix(".py").exists() for path in hashed)
    unhashed = set()
    for part in ("runs/cell.py", "runs/experiment.py", "runs/shared_updates.py", "runs/curious_server.py"):
        for node in ast.walk(ast.parse((fedsec / part).read_text())):
            if isinstance(node, ast.ImportFrom) and (module := node.module or "").startswith("fedsec."):
                path = fedsec.joinpath(*module.split(".")[1:])
                if not hashed & {path, *path.parents}:
                    unhashed.add(module)
    assert unhashed <= NO_NUMBERS


def test_what_inferences_of_labels_compute_with_is_hashed_without_an_inversion() -> None:
    fedsec = Path(sys.modules["fedsec"].__file__ or "").parent
    hashed = {fedsec / part for part in (*provenance._ENGINE, *provenance._AUDIT)}
    methods = {name for name, entry in registry.entries("inference").items() if entry.interface == "LabelInference"}
    files = [fedsec / "attacks" / f"{name}.py" for name in sorted(methods)]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fedsec.matching"):
                path = fedsec.joinpath(*(node.module or "").split(".")[1:]).with_suffix(".py")
                assert hashed & {path, *path.parents}, f"{file.name} imports {node.module}"
                files += [path] if path not in files else []
    assert len(files) > len(methods)


def test_what_was_kept_once_is_not_taken_for_new_later(
    copied: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Kept rounds, or kept rows of shared training, are part of a result: it is of the old code as a whole.
    (result,) = copied.glob("*/result.json")
    result.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "_code", lambda *_: "another")
        assert "run again" not in again_from_checkpoint(copied, tiny, keep=True)
        ran, shown = again(copied, tiny)
    assert ran
    assert "other code of" in shown


def again_from_checkpoint(root: Path, tiny: Any, **options: Any) -> str:
    """What a run says that goes on where an interrupted one ended."""
    console = Console(record=True, file=io.StringIO(), width=300)
    tiny.run(root.parent, *tiny.one, console=console, **options)
    assert "continues after round 3" in console.export_text()
    return console.export_text()


def test_rows_that_were_kept_make_a_result_of_the_old_code(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Store, "give_back", lambda self: 0)
        tiny.run(tmp_path, *tiny.one_round)
    (result,) = tmp_path.glob("tiny/*/result.json")
    result.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "_code", lambda *_: "another")
        tiny.run(tmp_path, *tiny.one_round, keep=True)
        made_with = json.loads(result.read_text())["made_with"]
        assert made_with["code of model mlp"] != "another"
        assert made_with["code of defense mean"] == "another"


def test_differences_are_named_once() -> None:
    assert differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ["b", "c"]
    assert differences({"a": "1", "d": "5"}, {"a": "1"}) == ["d"]
