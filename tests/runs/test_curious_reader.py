"""What a curious server's reading of texts is seen against: characters drawn by their shares, padding never."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from fedsec.data.dataset import Dataset, Split
from fedsec.engine.parameters import ParameterLayout
from fedsec.metrics.texts import token_shares
from fedsec.models import build
from fedsec.runs.texts.curious_reader import read_texts
from fedsec.seeds import Streams
from fedsec.threat.texts import TextInversion, TextObservation, TextReconstruction


class Nothing(TextInversion):
    """Reads padding alone."""

    def recover(self, observation: TextObservation, *, generator: torch.Generator) -> TextReconstruction:
        return TextReconstruction((), torch.zeros(observation.batch_size, observation.length, dtype=torch.int64))


def test_padding_is_never_drawn(tmp_path: Path) -> None:
    """Nine of ten places are padding and the rest one character: whoever draws by the language is always right."""
    targets = torch.zeros(4, 10, dtype=torch.int64)
    targets[:, 0] = 1
    split = Split(targets.float(), targets)
    dataset = Dataset("words", split, split, ("<pad>", "a", "b"), "here")
    assert token_shares(targets, 3).tolist() == [0, 1, 0]
    model = build("char_transformer", (10,), 3, width=4, layers=1, heads=1)
    layout = ParameterLayout.of(model)
    federation: Any = SimpleNamespace(module=model, trainer=SimpleNamespace(layout=layout))
    row = torch.ones(sum(parameter.numel() for parameter in model.parameters()))
    read = read_texts(Nothing(), federation, row, targets[:2].float(), dataset, Streams(0), 1, tmp_path)
    assert read["metrics"]["token_accuracy_null"] == read["metrics"]["rouge_1_null"] == 1
    assert read["metrics"]["token_accuracy"] == 0
    (pair, _) = json.loads((tmp_path / "leakage" / "round-0001" / "texts.json").read_text())["texts"]
    assert pair == {"client": "a", "recovered": ""}
