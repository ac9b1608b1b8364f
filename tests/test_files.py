"""Files are whole or absent."""

import os
import stat
from pathlib import Path

import pytest

from fedsec.files import read_json, remove_unfinished, write_atomic, write_json


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"x": [1, None]})

    def full(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("fedsec.files.os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"half")
    assert read_json(path) == {"x": [1, None]}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_numbers_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_swept_up(tmp_path: Path) -> None:
    write_atomic(tmp_path / "kept.tmp", b"mine")
    (tmp_path / ".result.json.0badcafe.tmp").write_bytes(b"half")
    remove_unfinished(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept.tmp"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_files_follow_the_users_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_atomic(tmp_path / "atomic", b"")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")}
    assert len(modes) == 1
