"""Flat vectors and named parameters are two views of the same numbers."""

import pytest
import torch
from torch import nn

from fedsec.engine.parameters import ParameterLayout
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


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(InputError, match="no trainable"):
        ParameterLayout.of(nn.ReLU())


def test_a_lazy_layer_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"'1\.weight' has no shape yet"):
        ParameterLayout.of(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))
