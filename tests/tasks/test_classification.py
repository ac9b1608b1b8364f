"""Classification: its loss, its metrics by hand, its strata, and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import vmap

from fedsec.errors import InputError
from fedsec.tasks import TASKS, Classification, Task


def test_losses_are_cross_entropy_also_under_vmap() -> None:
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1, 2, 3, 0], [1, 1, 1, 1, 1], [3, 2, 1, 0, 3]])
    losses = vmap(Classification(4).losses)(logits, labels)
    by_hand = -torch.log_softmax(logits, -1).gather(-1, labels[..., None])[..., 0]
    torch.testing.assert_close(losses, by_hand)
    assert torch.equal(losses[0].mean(), F.cross_entropy(logits[0], labels[0]))


def test_metrics_by_hand() -> None:
    task = Classification(4)
    outputs = torch.tensor([[9.0, 0, 0, 0], [9, 0, 0, 0], [0, 0, 9, 0], [0, 9, 0, 0]])
    targets = torch.tensor([0, 1, 2, 1])
    measured = task.measure(outputs, targets)
    assert tuple(measured) == task.metrics == ("accuracy", "loss")
    assert measured["accuracy"] == 0.75
    assert measured["loss"] == pytest.approx(math.log(1 + 3 * math.exp(-9)) + 9 / 4, rel=1e-6)
    strata = task.measure_strata(outputs, targets)
    assert tuple(strata) == task.strata_metrics
    recall = strata["per_class_accuracy"]
    assert recall[:3] == (1.0, 0.5, 1.0)
    assert math.isnan(recall[3])


def test_a_large_test_set_s_loss_is_summed_in_float64() -> None:
    outputs = torch.randn(2_300, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(2_300) % 3
    expected = F.cross_entropy(outputs.double(), targets).item()
    assert Classification(3).measure(outputs, targets)["loss"] == pytest.approx(expected, rel=1e-6)


def test_strata_are_the_classes() -> None:
    strata = Classification(5).strata(torch.tensor([3, 1, 1]))
    assert (strata.of.tolist(), strata.count) == ([3, 1, 1], 5)
    assert Classification().strata(torch.tensor([3, 1, 1])).count == 4


def test_what_does_not_fit_is_refused_in_words() -> None:
    task = Classification(8)
    task.check_outputs((2, 8), 2)
    with pytest.raises(
        InputError, match=r"shape \(2, 10\) for a batch of 2; expected \(2, 8\): classification needs 8"
    ):
        task.check_outputs((2, 10), 2)
    Classification().check_outputs((2, 10), 2)
    with pytest.raises(InputError, match=r"shape \(2, 3, 4\) .* expected \(2, logits\)"):
        Classification().check_outputs((2, 3, 4), 2)
    task.check_targets(torch.tensor([0, 7]))
    for wrong, message in (([0, 8], r"run from 0 to 8; expected 0\.\.7"), ([0.5], "expected targets of torch.int64")):
        with pytest.raises(InputError, match=message):
            task.check_targets(torch.tensor(wrong))
    with pytest.raises(InputError, match="run from -1 to 0; expected 0 or more"):
        Classification().check_targets(torch.tensor([-1, 0]))
    with pytest.raises(InputError, match="at least two classes"):
        Classification(1)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_says_what_it_is(name: str) -> None:
    kind = TASKS[name]
    assert issubclass(kind, Task)
    assert kind.name == name
    assert kind.metrics
    assert (kind.__doc__ or "").strip()
