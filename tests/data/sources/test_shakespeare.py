"""The shipped plays, LEAF's files in their place, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from fedsec.data import load
from fedsec.data.sources import shakespeare
from fedsec.data.text.characters import PADDING, decode
from fedsec.errors import DataError
from fedsec.tasks import NextToken


def test_the_shipped_plays() -> None:
    data = load("shakespeare")
    assert (data.task, data.num_classes, data.input_shape, len(data.groups)) == ("next_token", 82, (80,), 145)
    assert (len(data.train), len(data.test)) == (5_140, 1_306)
    assert decode(data.train.inputs[0]).startswith("Tush, never tell me; I take it much unkindly\n")
    assert data.train.groups is not None
    assert data.groups[int(data.train.groups[0])] == "OTHELLO, THE MOOR OF VENICE: RODERIGO"
    # What a role says in the test is none of what it says in training: they only share the border's character.
    assert not {decode(row) for row in data.train.inputs} & {decode(row) for row in data.test.inputs}
    assert bool((data.test.targets == PADDING).any())
    assert not bool((data.train.targets == PADDING).any())


def test_length_is_an_option() -> None:
    assert load("shakespeare", options={"length": 20}).input_shape == (20,)
    with pytest.raises(DataError, match="length must be at least 2 characters, got 1"):
        load("shakespeare", options={"length": 1})
    with pytest.raises(DataError, match=r"dataset\.lenght: unknown key for dataset 'shakespeare' \(did you mean"):
        load("shakespeare", options={"lenght": 20})


def test_a_window_may_tell_the_one_character_after_it(tmp_path: Path) -> None:
    """LEAF's own task: what a network says at other places counts nowhere."""
    every, last = (load("shakespeare", options={"length": 20, "targets": name}) for name in ("every", "last"))
    full = every.test.targets[:, -1] != PADDING
    assert 0 < len(last.test) == int(full.sum()) < len(every.test)
    assert len(last.train) == len(every.train)
    assert torch.equal(last.test.targets[:, -1], every.test.targets[full, -1])
    assert not last.test.targets[:, :-1].any()
    assert last.test.groups is not None
    task, logits = NextToken(82), torch.randn(5, 82, 20, generator=torch.Generator().manual_seed(0))
    wanted = last.test.targets[:5]
    losses = torch.nn.functional.cross_entropy(logits[:, :, -1], wanted[:, -1], reduction="none")
    torch.testing.assert_close(task.losses(logits, wanted), losses)
    assert task.measure(logits, wanted)["loss"] == pytest.approx(float(losses.mean()))
    of_leaf = load("shakespeare", leaf(tmp_path / "mine"), options={"length": 4, "targets": "last"})
    assert [row.tolist()[:3] for row in of_leaf.train.targets] == [[0, 0, 0]] * 4
    assert decode(of_leaf.train.targets[:, -1]) == "efef"
    with pytest.raises(DataError, match="targets"):
        load("shakespeare", options={"targets": "first"})


def test_another_file_than_the_shipped_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shakespeare, "_SHA256", "0" * 64)
    with pytest.raises(DataError, match="is not the file that was shipped; install fedsec again"):
        load("shakespeare")


def leaf(folder: Path, length: int = 4) -> Path:
    for split, text in (("train", "abcdefgh"), ("test", "ABCDEFGH")):
        (folder / split).mkdir(parents=True)
        for user in ("MACBETH", "BANQUO"):
            rows = [text[start : start + length] for start in range(2)]
            content = {"x": rows, "y": [text[start + length] for start in range(2)]}
            record = {"users": [user], "num_samples": [2], "user_data": {user: content}}
            (folder / split / f"{user}.json").write_text(json.dumps(record))
    return folder


def test_leaf_s_files_are_read_with_the_input_s_next_characters_as_targets(tmp_path: Path) -> None:
    data = load("shakespeare", leaf(tmp_path / "mine"), options={"length": 4})
    assert data.groups == ("BANQUO", "MACBETH")
    assert data.source == str(tmp_path / "mine")
    assert [decode(row) for row in data.train.inputs] == ["abcd", "bcde"] * 2
    assert [decode(row) for row in data.train.targets] == ["bcde", "cdef"] * 2
    assert [decode(row) for row in data.test.targets[:1]] == ["BCDE"]


def test_leaf_s_files_must_be_what_they_are(tmp_path: Path) -> None:
    folder = leaf(tmp_path / "mine")
    with pytest.raises(DataError, match="expected windows of 80 characters, got 'abcd'"):
        load("shakespeare", folder)
    (folder / "train" / "MACBETH.json").write_text('{"user_data": {"M": {"x": ["abcd"], "y": []}}}')
    with pytest.raises(DataError, match=r"MACBETH\.json: user M: expected lists x and y of one length"):
        load("shakespeare", folder, options={"length": 4})
    (folder / "train" / "MACBETH.json").write_text("[]")
    with pytest.raises(DataError, match=r"MACBETH\.json is none of LEAF's files"):
        load("shakespeare", folder, options={"length": 4})
    (folder / "test" / "MACBETH.json").unlink()
    (folder / "test" / "BANQUO.json").unlink()
    with pytest.raises(DataError, match=r"is incomplete: it lacks test/\*\.json"):
        load("shakespeare", folder, options={"length": 4})
