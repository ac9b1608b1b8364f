"""Files of earlier runs that are not what was written: noticed, said, and done anew."""

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedsec.runs import cell
from fedsec.runs.cell_files import CellFiles

Damage = Callable[[Path, random.Random], None]


def flip(path: Path, rng: random.Random) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, rng: random.Random) -> None:
    """Lose the end."""
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def replace(path: Path, rng: random.Random) -> None:
    """Something else altogether."""
    contents = [b"", b"\xff\xfe\x00", b"[]", b"{}", b"null", b'{"status": "done", "metrics": {}}', b"[" * 10_000]
    path.write_bytes(rng.choice([*contents, b"threads: 1000000\n"]))


def make_a_folder(path: Path, rng: random.Random) -> None:
    """A folder in the file's place, with something of somebody's in it."""
    path.unlink()
    path.mkdir()
    (path / "mine").write_text("mine")


def remove(path: Path, rng: random.Random) -> None:
    """Nothing any more."""
    path.unlink()


DAMAGES: list[Damage] = [flip, truncate, replace, make_a_folder, remove]


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    """The folder of a run that was interrupted after its second checkpoint; nobody changes it."""
    folder, saved = tmp_path_factory.mktemp("begun"), []

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 2:
            raise KeyboardInterrupt

    save = CellFiles.save_checkpoint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell, "CHECKPOINT_SHARE", 0)
        patch.setattr(CellFiles, "save_checkpoint", save_and_stop)
        root: Path = tiny.run(folder, *tiny.one).root
    return root


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_happens_to_a_file_the_numbers_are_the_same(
    long_cell: Path, begun: Path, tmp_path: Path, tiny: Any, damage: Damage
) -> None:
    """Of a finished and of an interrupted run, any file of any folder."""
    place = DAMAGES.index(damage)
    expected = tiny.numbers(long_cell)
    for name, before in (("finished", long_cell), ("interrupted", begun)):
        files = sorted(path.relative_to(before) for path in before.rglob("[!.]*") if path.is_file())
        # Each file meets two of the five kinds of damage.
        for number, file in enumerate(files):
            if (number - place) % len(DAMAGES) > 1:
                continue
            root = shutil.copytree(before, tmp_path / name / str(number) / "tiny")
            damage(root / file, random.Random(1_000 * place + number))
            result = tiny.run(root.parent, *tiny.one)
            assert result.failures == 0, file
            assert tiny.numbers(root) == expected, file
            shutil.rmtree(root)


def shown(root: Path, tiny: Any) -> str:
    """What a run on an earlier one's folder says."""
    console = Console(record=True, quiet=False, width=300, file=io.StringIO())
    assert tiny.run(root.parent, *tiny.one, console=console).failures == 0
    return console.export_text()


def test_damage_is_said(long_cell: Path, begun: Path, tmp_path: Path, tiny: Any) -> None:
    root = shutil.copytree(long_cell, tmp_path / "finished" / "tiny")
    (log,) = root.glob("*/rounds.jsonl")
    log.write_bytes(b"\xff" + log.read_bytes())
    assert "run again: none, mean: rounds.jsonl changed" in shown(root, tiny)
    root = shutil.copytree(begun, tmp_path / "interrupted" / "tiny")
    (log,) = root.glob("*/rounds.jsonl")
    flip(log, random.Random(0))
    assert "begins anew: rounds.jsonl changed since the checkpoint was written" in shown(root, tiny)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_is_not_waited_for(begun: Path, long_cell: Path, tmp_path: Path, tiny: Any) -> None:
    for before, name in ((long_cell, "result.json"), (begun, "rounds.jsonl"), (begun, "checkpoint.safetensors")):
        root = shutil.copytree(before, tmp_path / name / "tiny")
        (path,) = root.glob(f"*/{name}")
        path.unlink()
        os.mkfifo(path)
        assert tiny.run(root.parent, *tiny.one).failures == 0
        assert tiny.numbers(root) == tiny.numbers(long_cell)


def test_a_result_of_another_version_of_fedsec_is_run_again(long_cell: Path, tmp_path: Path, tiny: Any) -> None:
    root = shutil.copytree(long_cell, tmp_path / "tiny")
    (result,) = root.glob("*/result.json")
    content = json.loads(result.read_text())
    for key in ("checksum", "files", "made_with"):
        del content[key]
    result.write_text(json.dumps(content))
    assert "result.json is damaged, or was written by another version" in shown(root, tiny)
    assert tiny.numbers(root) == tiny.numbers(long_cell)


@pytest.mark.parametrize("damage", [flip, truncate, replace, make_a_folder])
def test_a_damaged_shared_row_is_trained_again(
    tmp_path: Path, tiny: Any, one_cell: Path, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedsec.runs.store import Store

    with monkeypatch.context() as patch:
        patch.setattr(CellFiles, "begin", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        root = tiny.run(tmp_path, *tiny.one_round).root
    rows = sorted(Store(root).shared.glob("*.safetensors"))
    assert len(rows) == 6
    damage(rows[2], random.Random(1))
    assert tiny.run(tmp_path, *tiny.one_round).failures == 0
    assert tiny.numbers(root) == tiny.numbers(one_cell)
