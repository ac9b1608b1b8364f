"""Flat vectors and named parameters are two views of the same numbers."""

import pytest
import torch
from torch import nn

from fedsec.engine.parameters import ParameterLayout, StatisticsLayout
from fedsec.errors import InputError


def test_flatten_load_and_views_agree() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    layout = ParameterLayout.of(module)
    assert layout.size == 3 * 4 + 4 + 4 * 2
    flat = layout.flatten(module)
    views = layout.views(flat)
    assert all(torch.equal(views[name], p) for name, p in module.named_parameters())
    layout.load(module, flat + 1)
    assert torch.equal(layout.flatten(module), flat + 1)


def test_rows_of_a_matrix_are_stacked_models() -> None:
    layout = ParameterLayout.of(nn.Linear(3, 2))
    matrix = torch.arange(16.0).view(2, 8)
    views = layout.views(matrix)
    assert views["weight"].shape == (2, 2, 3)
    assert views["bias"].tolist() == [[6, 7], [14, 15]]
    views["bias"].zero_()
    assert matrix[:, 6:].abs().sum() == 0


def test_frozen_parameters_are_left_out() -> None:
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    assert ParameterLayout.of(module).shapes.keys() == {"weight"}


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


def test_other_layers_with_running_statistics_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"'0' \(InstanceNorm1d\)"):
        StatisticsLayout.of(nn.Sequential(nn.InstanceNorm1d(2, track_running_stats=True)))


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(InputError, match="no trainable"):
        ParameterLayout.of(nn.ReLU())
