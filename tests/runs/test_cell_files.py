"""Pictures of audits belong to a cell: they travel with it, and go with it."""

from pathlib import Path

import pytest

from fedsec.runs.cell_files import CellFiles


def test_pictures_of_an_audit_are_the_cell_s(tmp_path: Path) -> None:
    first, second = CellFiles(tmp_path / "first"), CellFiles(tmp_path / "second")
    first.take({"audit/membership_roc.png": b"picture"})
    assert [path.name for path in first.pictures()] == ["membership_roc.png"]
    second.adopt_pictures(first)
    assert (second.folder / "audit" / "membership_roc.png").read_bytes() == b"picture"
    (second.folder / "audit" / "notes.txt").write_text("of others")
    (first.folder / "audit" / ".membership_roc.png.0123abcd.tmp").write_text("half")
    first.remove()
    assert not first.folder.exists()
    second.remove()
    assert [path.name for path in second.folder.rglob("*.*")] == ["notes.txt"]


@pytest.mark.parametrize("name", ["audit/../x.png", "audit/x.svg", "audit/a/b.png", "other/x.png"])
def test_nothing_else_is_taken(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no file of a cell"):
        CellFiles(tmp_path / "cell").take({name: b""})
