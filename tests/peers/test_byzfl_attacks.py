"""ByzFL's attacks beside ours: the same rows where theirs are the paper's, and a bounded search where they are not."""

import pytest
import torch

from fedsec.attacks import ALIE, IPM
from fedsec.testing import crafting

byzfl = pytest.importorskip("byzfl", reason="ByzFL is not installed; uv sync --group peers")

HONEST = torch.randn(8, 50, generator=torch.Generator().manual_seed(0)) + 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ALIE(-1.5), byzfl.ALittleIsEnough(tau=1.5)),  # they go upwards
        (IPM(0.5), byzfl.InnerProductManipulation(tau=0.5)),
        (IPM(1.0), byzfl.SignFlipping()),  # of the honest mean, where ours is of the attacker's own row
    ],
    ids=["ALIE", "IPM", "SignFlipping"],
)
def test_agreement(ours, theirs) -> None:  # type: ignore[no-untyped-def]
    torch.testing.assert_close(crafting(ours)(HONEST, 2)[0], theirs(HONEST), rtol=1e-5, atol=1e-5)


def test_mimic_copies_whom_it_is_told_to() -> None:
    """Without a warm-up: the client is an option of theirs, 0 unless it is set."""
    assert torch.equal(byzfl.Mimic()(HONEST), HONEST[0])
