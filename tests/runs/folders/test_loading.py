"""A finished run opened again is what the run gave back."""

from pathlib import Path
from typing import Any

import pytest

import fedsec
from fedsec.errors import InputError
from fedsec.runs import InProcess


def test_a_run_opened_again_is_what_it_gave_back(tmp_path: Path, tiny: Any) -> None:
    text = tiny.file(tmp_path).read_text() + 'expect:\n  - {defense: mean, accuracy: ">= 1.0"}\n'
    tiny.file(tmp_path, text)
    first = fedsec.run(
        tmp_path / "tiny.yaml",
        overrides=tiny.one_round,
        out=tmp_path / "runs",
        device="cpu",
        executor=InProcess(),
    )
    again = fedsec.load_run(first.root)
    assert again.unmet == first.unmet != []
    assert again.expectations == first.expectations
    assert again.as_json() == first.as_json()
    assert (again.failures, again.interrupted) == (0, False)
    assert [record["metrics"] for record in again.records] == [record["metrics"] for record in first.records]


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the folder of a run"):
        fedsec.load_run(tmp_path)
