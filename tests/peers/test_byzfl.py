"""Where ByzFL is right we agree with it, and where it is not the kit finds why. It comes with the group `peers`."""

import pytest
import torch

from fedsec.defenses import ARC, NNM, CenteredClipping, Median, MoNNA, StaticClip, TrimmedMean
from fedsec.testing import examine_rule

byzfl = pytest.importorskip("byzfl", reason="ByzFL is not installed; uv sync --group peers")

UPDATES = torch.randn(11, 200, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Median(), byzfl.Median()),
        (TrimmedMean(num_trimmed_per_side=3), byzfl.TrMean(3)),
        (NNM(3), byzfl.NNM(3)),
        (ARC(3), byzfl.ARC(3)),
        (StaticClip(12.0), byzfl.Clipping(12.0)),
        (MoNNA(3, trusted=4), byzfl.MoNNA(3, 4)),
        (CenteredClipping(5.0, num_iterations=3), byzfl.CenteredClipping(L=3, tau=5.0)),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_agreement(ours, theirs) -> None:  # type: ignore[no-untyped-def]
    for _ in range(2):  # what is carried over, too
        torch.testing.assert_close(ours(UPDATES), theirs(UPDATES.clone()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "like", "names"),
    [
        (byzfl.Krum, "krum", {"known_values", "not_finite"}),
        (lambda f: byzfl.GeometricMedian(), "geometric_median", {"known_values", "translation", "not_finite"}),
        (byzfl.SMEA, "smea", {"repeats", "permutation"}),
        (byzfl.CAF, None, {"repeats", "not_finite"}),
        (lambda f: byzfl.Median(), "median", {"not_finite"}),
    ],
    ids=["Krum", "GeometricMedian", "SMEA", "CAF", "Median"],
)
def test_findings(make, like, names) -> None:  # type: ignore[no-untyped-def]
    # CAF does not come to an end where Byzantine rows are far away.
    findings = examine_rule(make, like=like, skip=["rotation", "breakdown"])
    assert names <= {finding.name for finding in findings}
