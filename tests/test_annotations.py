"""The shapes in the signatures of attacks and defenses are true: beartype checks them at every call."""

import subprocess
import sys
from pathlib import Path

CHECKED = """
from jaxtyping import TypeCheckError, install_import_hook

with install_import_hook("fedsec", "beartype.beartype"):
    import torch
    from fedsec.attacks import LabelFlip, SignFlip
    from fedsec.defenses import Mean, Median, TrimmedMean
    from fedsec.threat import AttackerView

generator = torch.Generator().manual_seed(0)
for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
    for rows, columns in ((1, 1), (2, 70), (9, 100_000)):
        updates = torch.randn(rows, columns, generator=generator).to(dtype)
        for rule in (Mean(), Median(), TrimmedMean(trim_per_side=0.3), TrimmedMean(num_trimmed_per_side=0)):
            for matrix in (updates, updates.round()):
                rule(matrix)
                rule.aggregate(matrix, torch.ones(rows))
own, honest = torch.ones(2, 5), torch.ones(4, 5)
SignFlip().craft(AttackerView(own, honest, torch.zeros(5), 6, 2, 1, generator, Median()))
for attack in (LabelFlip(), LabelFlip("pair", 0, 1), LabelFlip("random")):
    attack.poison(torch.ones(4, 1, 2, 2), torch.tensor([0, 1, 2, 0]), num_classes=3, generator=generator)
try:
    Median()(torch.zeros(3))
except TypeCheckError:
    print("checked")
"""


def test_annotations_of_attacks_and_defenses(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", CHECKED], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "checked\n"
