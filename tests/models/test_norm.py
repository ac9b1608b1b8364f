"""The one specification of normalization: what it makes, what it refuses, and how the registry checks it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedsec.errors import InputError
from fedsec.models import build
from fedsec.models.norm import normalization
from fedsec.plugins import registry


@pytest.mark.parametrize("spec", ["bn", {"name": "bn"}])
def test_batch_normalization(spec: Any) -> None:
    (layer,) = normalization("m", spec, [6]).layers(6)
    assert isinstance(layer, nn.BatchNorm2d)
    assert layer.num_features == 6


@pytest.mark.parametrize("spec", ["none", {"name": "none"}])
def test_no_normalization(spec: Any) -> None:
    assert normalization("m", spec, [3]).layers(3) == []


@given(groups=st.integers(1, 12), channels=st.lists(st.integers(1, 48), min_size=1, max_size=4))
def test_groups_divide_every_layer_s_channels(groups: int, channels: list[int]) -> None:
    spec = {"name": "gn", "groups": groups}
    uneven = [count for count in channels if count / groups != count // groups]
    if uneven:
        with pytest.raises(
            InputError, match=rf"^m: norm.groups must divide the {uneven[0]} channels .*, got {groups}$"
        ):
            normalization("m", spec, channels)
        return
    for count in channels:
        (layer,) = normalization("m", spec, channels).layers(count)
        assert isinstance(layer, nn.GroupNorm)
        assert (layer.num_groups, layer.num_channels) == (groups, count)


def test_two_groups_unless_said_otherwise() -> None:
    for spec in ("gn", {"name": "gn"}):
        assert normalization("m", spec, [4]).groups == 2  # type: ignore[arg-type]


def test_a_model_s_layers_have_the_groups_asked_for() -> None:
    model = build("resnet8", (1, 8, 8), 3, norm={"name": "gn", "groups": 8})
    found = [module.num_groups for module in model.modules() if isinstance(module, nn.GroupNorm)]
    assert found == [8] * 8


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ln", "m: unknown norm 'ln'; known: bn, gn, none"),
        (None, "m: unknown norm None; known: bn, gn, none"),
        ({}, "m: norm.name is required; expected one of bn, gn, none"),
        ({"groups": 2}, "m: norm.name is required; expected one of bn, gn, none"),
        ({"name": ["gn"]}, r"m: unknown norm \['gn'\]"),
        ({"name": "bn", "groups": 2}, "m: norm.groups belongs to gn only, got it with bn"),
        ({"name": "gn", "group": 2}, "m: norm.group: unknown key; known keys: name, groups"),
        ({"name": "gn", "groups": 0}, "m: norm.groups: expected an integer of at least 1, got 0"),
        ({"name": "gn", "groups": True}, "m: norm.groups: expected an integer of at least 1, got True"),
        ({"name": "gn", "groups": "2"}, "m: norm.groups: expected an integer of at least 1, got '2'"),
    ],
)
def test_what_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        normalization("m", spec, [8])


@pytest.mark.parametrize("name", ["resnet18", "resnet56", "resnet8", "resnet55", "convnet64"])
def test_the_registry_reads_the_specification_from_source(name: str) -> None:
    assert registry.check("model", name, {})["norm"] == "bn"
    spec = {"name": "gn", "groups": 4}
    assert registry.check("model", name, {"norm": spec})["norm"] == spec
    with pytest.raises(InputError, match="norm: expected one of bn, gn, none or a mapping, got 3"):
        registry.check("model", name, {"norm": 3})
    with pytest.raises(InputError, match="groups: unknown key"):
        registry.check("model", name, {"norm": "gn", "groups": 2})
