"""What fedsec left is found by name and by place, and told apart from everything else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import fedsec
from fedsec.errors import InputError
from fedsec.runs.folders.folder import LeftFolder
from fedsec.runs.folders.search import folder_at, folders_in, named, usual_folders, without_repetitions


@pytest.fixture
def places(tmp_path: Path, one_cell: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run, an inversion, a recording, and things of others."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(one_cell, "runs/tiny")
    Path("inversions/dlg-lenet").mkdir(parents=True)
    content: dict[str, Any] = {"inversion": "dlg", "model": "lenet", "verdict": "nothing is recognizable."}
    content |= {"files": ["loss.png", "result.json", "../../mine.txt"], "interrupted": True}
    Path("inversions/dlg-lenet/result.json").write_text(json.dumps(content))
    Path("inversions/dlg-lenet/loss.png").write_text("picture")
    Path("inversions/dlg-lenet/mine.png").write_text("mine")
    with fedsec.record("seen/0123", num_clients=2) as recording:
        sent = {"weight": torch.zeros(3)}
        recording.round(1, sent=sent, received={1: {"weight": torch.ones(3)}, 2: {"weight": torch.ones(3)}})
    Path("runs/others").mkdir()
    Path("runs/others/manifest.json").write_text('{"mine": 1}')
    Path("mine.txt").write_text("mine")
    return tmp_path


def facts(folders: list[LeftFolder]) -> list[tuple[str, str, str]]:
    return [(str(folder.path), folder.kind, str(folder.state())) for folder in folders]


@pytest.mark.usefixtures("places")
def test_what_lies_where_it_usually_does_is_found() -> None:
    expected = [("runs/tiny", "run", "done"), ("inversions/dlg-lenet", "inversion", "interrupted")]
    assert facts(usual_folders()) == expected


@pytest.mark.usefixtures("places")
def test_names_and_paths_are_the_same() -> None:
    assert facts(named(["tiny", "runs/tiny", "runs"])) == [("runs/tiny", "run", "done")]
    assert facts(named(["seen"])) == [("seen/0123", "recording", "done")]
    (recording,) = folders_in(Path("seen/0123"))
    assert recording.about() == "states of 2 clients in 1 round"
    with pytest.raises(InputError, match=r"tniy: is nothing that fedsec left \(did you mean 'tiny'\?\)"):
        named(["tniy"])
    for name in ("runs/others", "mine.txt"):
        with pytest.raises(InputError, match=rf"^{name}: is nothing that fedsec left; fedsec runs lists"):
            named([name])


@pytest.mark.usefixtures("places")
def test_places_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="nowhere: there is no such folder"):
        folders_in(Path("nowhere"))
    with pytest.raises(InputError, match=r"mine\.txt: is a file"):
        folders_in(Path("mine.txt"))


@pytest.mark.usefixtures("places")
def test_an_inversion_goes_with_the_files_that_it_lists() -> None:
    (left,) = named(["dlg-lenet"])
    assert left.about() == "dlg on lenet: nothing is recognizable."
    assert left.owned("checkpoints") == []
    assert left.remove("all") > 0
    assert [path.name for path in Path("inversions/dlg-lenet").iterdir()] == ["mine.png"]
    assert Path("mine.txt").exists()


@pytest.mark.usefixtures("places")
def test_a_recording_goes_with_its_rounds_and_is_busy_while_somebody_writes() -> None:
    left = folder_at(Path("seen/0123"))
    assert left is not None
    with fedsec.record("seen/0123", go_on=True):
        assert left.is_busy()
        assert left.state().word == "running"
    assert left.owned("models") == []
    left.remove("all")
    assert not Path("seen/0123").exists()
    assert Path("seen").exists()


def test_what_a_link_leads_to_again_is_cleaned_once(places: Path) -> None:
    Path("runs/again").symlink_to("tiny")
    assert [str(folder.path) for folder in named(["again", "runs", "tiny"])] == ["runs/tiny"]
    assert [str(folder.path) for folder in named(["again"])] == ["runs/again"]
    assert [str(folder.path) for folder in without_repetitions(usual_folders())] == [
        "runs/tiny",
        "inversions/dlg-lenet",
    ]
