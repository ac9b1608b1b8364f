"""Which kept rows of shared training a run takes as they are."""

import json
from pathlib import Path

import torch

from fedsec.runs.provenance import of_training
from fedsec.runs.shared_updates import is_kept, row_path
from fedsec.runs.tensor_files import save_tensors
from fedsec.scenario import CellConfig
from fedsec.scenario.shared_training import shared_work

ONCE = CellConfig.model_validate(
    {"dataset": "digits", "federation": {"rounds": 1, "local": {"steps": 1}}, "partition": {"clients": 2}}
)
NOW = {"fedsec": "today", "torch": "today", "data": "today"}


def test_a_row_that_other_code_trained_is_trained_again_once_and_not_by_every_cell(tmp_path: Path) -> None:
    first, second = shared_work([ONCE])
    before = of_training(ONCE, {**NOW, "torch": "yesterday"}, poisoned=False)
    save_tensors(row_path(tmp_path, first.key), {"update": torch.zeros(1)}, {"made_with": json.dumps(before)})
    assert not is_kept(tmp_path, first, ONCE, NOW)
    assert is_kept(tmp_path, first, ONCE, NOW, keep=True)
    assert not is_kept(tmp_path, second, ONCE, NOW, keep=True)
    now = of_training(ONCE, NOW, poisoned=False)
    save_tensors(row_path(tmp_path, first.key), {"update": torch.zeros(1)}, {"made_with": json.dumps(now)})
    assert is_kept(tmp_path, first, ONCE, NOW)
    row_path(tmp_path, first.key).write_bytes(b"damaged")
    assert not is_kept(tmp_path, first, ONCE, NOW, keep=True)
