"""Order statistics of many rows, which are sorted, against the selection network."""

import pytest
import torch

from fedsec.defense import order_statistics
from fedsec.defense.order_statistics import Scratch, middle_mean, middle_share


@pytest.mark.parametrize("trim", [0, 37, 60])
def test_of_many_rows_columns_are_sorted_to_the_same_middle(trim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 122
    chunk = torch.randn(rows, 5, generator=torch.Generator().manual_seed(0)).mul(8).round().div(8)
    mean, share = middle_mean(chunk, trim, Scratch()).clone(), middle_share(chunk, trim, Scratch())
    monkeypatch.setattr(order_statistics, "_MANY_ROWS", rows)
    monkeypatch.setattr(order_statistics, "selection_network", None)
    sorted_mean, sorted_share = middle_mean(chunk, trim, Scratch()), middle_share(chunk, trim, Scratch())
    torch.testing.assert_close(sorted_mean, mean, rtol=1e-5, atol=1e-6)
    if trim == 60:  # two numbers, and no sum of many in another order
        assert torch.equal(sorted_mean, mean)
    assert torch.equal(sorted_share, share)
