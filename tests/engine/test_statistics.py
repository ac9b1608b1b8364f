"""What training changes beside parameters, as flat vectors: by hand."""

import torch
from torch import nn

from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.statistics import StatisticsLayout


def test_running_statistics_have_a_layout_of_their_own() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm1d(2, affine=False)))
    assert ParameterLayout.of(module).shapes.keys() == {"0.weight", "0.bias", "1.weight", "1.bias"}
    layout = StatisticsLayout.of(module)
    assert layout.channels == {"1": 2, "2.0": 2}
    assert layout.flatten(module).tolist() == layout.fresh(torch.empty(8)).tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    layout.load(module, torch.arange(8.0))
    assert module[1].running_var.tolist() == [2, 3]
    assert module[2][0].running_mean.tolist() == [4, 5]
    assert layout.flatten(module).tolist() == list(range(8))
    assert layout.views(torch.zeros(3, 8))["2.0"][1].shape == (3, 2)


def test_a_model_without_running_statistics_has_an_empty_layout() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False))
    layout = StatisticsLayout.of(module)
    assert layout.size == 0
    assert layout.flatten(module).shape == (0,)
    layout.load(module, torch.zeros(0))


def test_layers_that_stay_in_evaluation_mode_learn_nothing() -> None:
    class Frozen(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> "Frozen":
            super().train(False)
            return self

    module = nn.Sequential(nn.Linear(3, 2), Frozen(2), nn.BatchNorm1d(2)).eval()
    assert StatisticsLayout.of(module).channels == {"2": 2}
    assert not module[2].training


class Counts(nn.Module):
    """A buffer of its own, and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("center", torch.arange(6.0).reshape(2, 3))
        self.register_buffer("count", torch.tensor(3))


def test_other_buffers_follow_batch_normalization_s() -> None:
    module = Counts()
    layout = StatisticsLayout({"norm": 2}, {"center": torch.Size([2, 3]), "count": torch.Size([])})
    assert (layout.norm_size, layout.size) == (4, 11)
    flat = layout.flatten(module)
    assert flat.tolist() == [0, 0, 1, 1, *range(6), 3]
    rows = torch.stack([flat, 10 * flat])
    named = layout.named(rows)
    assert named.keys() == {"norm.running_mean", "norm.running_var", "center", "count"}
    assert named["center"].shape == (2, 2, 3)
    assert named["count"].tolist() == [3, 30]
    layout.load(module, torch.arange(11.0) + 0.6)
    assert module.norm.running_var.tolist() == [torch.tensor(2.6).item(), torch.tensor(3.6).item()]
    assert module.count.item() == 11  # a counter is a whole number
    assert module.count.dtype == torch.int64
    module.center.zero_()
    layout.read_buffers(module, flat)
    assert flat.tolist() == [0, 0, 1, 1, *[0] * 6, 11]
    fresh = layout.fresh(torch.full((11,), 7.0))
    assert fresh.tolist() == [0, 0, 1, 1, *[7] * 7]
