"""What `fedsec run` says of places and files that it cannot use: one clear line, exit code 2, nothing lost."""

import errno
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedsec.cli import app


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["run", *arguments])
    assert result.exit_code == 2
    assert not result.stdout
    return str(result.stderr)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected a scenario, at least `dataset: digits`"),
        (b"# only words\n", "is empty; expected a scenario"),
        (b"- digits\n", "expected a mapping of keys"),
        (b"dataset: digits\r\nfederation:\r\n  rounds: 0\r\n", "x.yaml:3: federation.rounds: expected an integer"),
        (b"dataset: digits\rfederation: {rounds: 0}\r", "x.yaml:2: federation.rounds: expected an integer"),
        (b"\xff\xfed\x00", "x.yaml:1: is not UTF-8 text"),
    ],
)
def test_files_that_are_no_scenarios(content: bytes, message: str) -> None:
    Path("x.yaml").write_bytes(content)
    assert message in refused("x.yaml")


def test_a_folder_names_the_scenarios_in_it() -> None:
    Path("mine").mkdir()
    assert refused("mine") == "error: mine: is a folder; expected a scenario in YAML\n"
    for name in ("one.yaml", "two.yml", "three.txt"):
        (Path("mine") / name).touch()
    assert refused("mine").endswith("such as mine/one.yaml or mine/two.yml\n")


def test_one_scenario_at_a_time() -> None:
    message = refused("quickstart", "quickstart", "--dry-run")
    assert "fedsec run takes one scenario, got 2: quickstart and quickstart" in message


def test_the_place_of_the_results_must_be_a_folder_that_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    assert refused("quickstart", "--out", "file") == "error: --out file: is not a folder\n"
    assert "file/x/quickstart: cannot be used as a run folder (Not a directory)" in refused(
        "quickstart", "--out", "file/x"
    )

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fedsec.runs.store.write_atomic", full)
    assert refused("quickstart") == (
        "error: runs/quickstart: cannot be used as a run folder (No space left on device)\n"
    )

    def forbidden(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    assert "cannot be used as a run folder (Read-only file system)" in refused("quickstart", "--out", "there")


def test_a_full_disk_leaves_the_folder_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is given back, and nothing half-written stays."""
    from fedsec.errors import InputError
    from fedsec.runs.store import Store

    with monkeypatch.context() as patch:
        patch.setattr("fedsec.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(InputError, match="full"), Store(Path("run")).locked():
            pass
    with Store(Path("run")).locked():
        assert [path.name for path in Path("run").iterdir()] == [".lock"]
