"""Slopes against NumPy's least squares."""

from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedsec.attacks import Trajectory
from fedsec.errors import InputError
from fedsec.threat import MembershipView


@pytest.mark.parametrize("signal", ["loss", "confidence", "rescaled_logit"])
@pytest.mark.parametrize("rounds", [(1, 2, 3, 4), (1, 5, 20, 21)])
def test_scores_are_slopes(signal: Literal["loss", "confidence", "rescaled_logit"], rounds: tuple[int, ...]) -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(1)) * 3
    rows = {"loss": -F.softplus(-logits), "confidence": logits.sigmoid(), "rescaled_logit": logits}[signal]
    slopes = np.polyfit(rounds, rows.double().numpy(), 1)[0]
    assert np.allclose(Trajectory(signal).infer(MembershipView(logits, rounds)).numpy(), slopes, atol=1e-6)


def test_one_round_and_other_signals_are_refused() -> None:
    with pytest.raises(InputError, match="Trajectory: needs several_rounds"):
        Trajectory().infer(MembershipView(torch.zeros(1, 2)))
    with pytest.raises(InputError, match="signal must be"):
        Trajectory("logit")  # type: ignore[arg-type]
