"""Regression: its loss, its metrics by hand, its one output, and what it refuses."""

import pytest
import torch
from torch.func import vmap

from fedsec.errors import InputError
from fedsec.tasks import Regression


@pytest.mark.parametrize("batch", [1, 5])
def test_losses_are_squared_errors_also_under_vmap(batch: int) -> None:
    outputs = torch.randn(3, batch, 1, generator=torch.Generator().manual_seed(0))
    targets = torch.randn(3, batch, generator=torch.Generator().manual_seed(1))
    expected = [
        [(float(o[0]) - float(t)) ** 2 for o, t in zip(*rows, strict=True)]
        for rows in zip(outputs, targets, strict=True)
    ]
    torch.testing.assert_close(vmap(Regression().losses)(outputs, targets), torch.tensor(expected))


def test_metrics_by_hand() -> None:
    measured = Regression().measure(torch.tensor([[1.0], [2.0], [-4.0]]), torch.tensor([0.0, 4.0, -4.0]))
    assert tuple(measured) == Regression.metrics == ("mean_squared_error", "mean_absolute_error")
    assert measured == {"mean_squared_error": pytest.approx(5 / 3), "mean_absolute_error": pytest.approx(1.0)}


def test_it_has_one_output_and_no_groups() -> None:
    task = Regression.of_data(0)
    assert (Regression().constant_outputs(torch.tensor([1.0, 4.0]))).tolist() == [[2.5], [2.5]]
    assert (task.outputs, task.strata(torch.zeros(3)), task.strata_metrics) == (1, None, ())
    task.check_outputs((4, 1), 4)
    with pytest.raises(
        InputError, match=r"shape \(4,\) for a batch of 4; expected \(4, 1\): regression needs 1 outputs"
    ):
        task.check_outputs((4,), 4)


def test_what_is_no_number_is_refused() -> None:
    task = Regression()
    task.check_targets(torch.tensor([0.5, -3.0]))
    for wrong, message in (
        (torch.tensor([1]), "expected targets of torch.float32, got torch.int64"),
        (torch.zeros(2, 2), "one finite number for each example"),
        (torch.tensor([float("nan")]), "one finite number for each example"),
    ):
        with pytest.raises(InputError, match=message):
            task.check_targets(wrong)
