"""What a shell offers: names and files of every kind, at once, in a real shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedsec.cli.completion import left_folders, run_folders, scenario_names
from fedsec.cli.options import names_of
from fedsec.errors import InputError
from fedsec.plugins import registry

TRIES = """
eval "$(fedsec --show-completion bash)"
offer() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    _fedsec_completion fedsec
    echo "${COMPREPLY[*]}"
}
offer fedsec cl
offer fedsec run mi
offer fedsec show mult
offer fedsec report ru
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/mine", "runs/.hidden", "inversions/dlg"):
        Path(name).mkdir(parents=True)
    for name in ("mine.yaml", "runs/file"):
        Path(name).touch()


def test_scenarios_are_folders_files_and_shipped_names() -> None:
    assert scenario_names("")[:3] == ["inversions/", "mine.yaml", "runs/"]
    assert scenario_names("quickst") == ["quickstart"]
    assert scenario_names("nowhere/") == []


def test_folders_that_fedsec_left() -> None:
    assert left_folders("") == ["mine", "dlg"]
    assert left_folders("runs/m") == ["runs/mine"]
    assert run_folders("") == ["runs/mine", "inversions/dlg"]
    assert run_folders("ru") == ["runs/mine"]
    assert run_folders("elsewhere/") == []


@pytest.mark.parametrize("kind", registry.KINDS)
def test_names_are_those_of_the_entries(kind: str) -> None:
    assert registry.names(kind) == list(registry.entries(kind))
    assert names_of(kind)("") == registry.names(kind)


def test_names_of_one_role() -> None:
    assert "feature_inversion" not in names_of("inversion", "updates")("")
    assert names_of("attack", "updates")("ali") == ["alie"]


def test_a_broken_plugin_breaks_no_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kind: str) -> dict[str, object]:
        raise InputError("plugin x calls its attack 'alie', which is a built-in name")

    monkeypatch.setattr(registry, "_plugins", broken)
    assert names_of("attack")("ali") == ["alie"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_real_shell_completes(tmp_path: Path) -> None:
    """`fedsec` here is the module, and tells if anything heavy was loaded."""
    program = tmp_path / "bin" / "fedsec"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport atexit, sys\n"
        "heavy = ('torch', 'numpy', 'pydantic', 'rich.table', 'yaml')\n"
        "atexit.register(lambda: [print(f'heavy: {m}', file=sys.stderr) for m in heavy if m in sys.modules])\n"
        "sys.argv[0] = 'fedsec'\nfrom fedsec.cli import main\nmain()\n"
    )
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
    done = subprocess.run(
        ["bash", "--norc", "-c", TRIES], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert done.stdout.splitlines() == ["clean", "mine.yaml", "multi_krum", "runs/mine"]
    assert "heavy: torch" not in done.stderr
    assert not done.stderr, done.stderr
