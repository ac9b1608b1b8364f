"""Who asks what updates say of clients: how inferences are written, what they are called, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest

from fedsec.errors import ScenarioError
from fedsec.plugins import registry
from fedsec.scenario import CellConfig, load_scenario

BASE: dict[str, Any] = {
    "dataset": "digits",
    "partition": {"clients": 3},
    "model": "mlp",
    "federation": {"rounds": 7, "local": {"epochs": 1, "batch_size": 20}},
}


def cell(properties: dict[str, Any], **more: Any) -> CellConfig:
    (only,) = load_scenario({**BASE, **more, "audit": {"properties": properties}}).cells()
    return only.config


def test_a_name_and_a_list_of_names_are_the_same_cell() -> None:
    """Names without options stand in configurations as before there were any, so that ids of cells stay."""
    written = ["class_mix", ["class_mix"], {"name": "class_mix"}]
    configs = [cell({"inferences": one}) for one in written]
    assert {config.id for config in configs} == {configs[0].id}
    assert configs[0].model_dump(mode="json")["audit"]["properties"]["inferences"] == ["class_mix"]
    assert cell({}).id == cell({"inferences": ["site", "class_mix"]}).id
    assert CellConfig.model_validate(configs[0].model_dump(mode="json")) == configs[0]


@pytest.mark.parametrize(
    ("inferences", "message"),
    [
        (["site", "class_mix", "site"], r"properties\.inferences\[2\]\.name: 'site' stands twice"),
        ([], r"properties\.inferences: expected at least one inference, such as site"),
        (["rmia"], r"inferences\[0\]\.name: 'rmia' infers no property of clients"),
        (["sight"], "did you mean 'site'"),
        ([{"name": "site", "power": 2}], "inferences.*power"),
    ],
)
def test_what_cannot_ask_is_refused_where_it_stands(inferences: Any, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        cell({"inferences": inferences})


@pytest.mark.parametrize(
    ("traits", "message"),
    [
        ({"asks": ""}, "'site' does not say what it asks; expected site or class_mix as `asks` of its class"),
        ({"asks": "class_mix"}, "'site' needs known, and who asks for class_mix is granted observations"),
    ],
)
def test_what_a_class_does_not_say_is_refused(
    monkeypatch: pytest.MonkeyPatch, traits: dict[str, Any], message: str
) -> None:
    entry = registry.entry

    def changed(kind: str, name: str, **more: Any) -> registry.Entry:
        known = entry(kind, name, **more)
        return replace(known, traits={**known.traits, **traits}) if name == "site" else known

    monkeypatch.setattr(registry, "entry", changed)
    with pytest.raises(ScenarioError, match=message):
        cell({"inferences": "site"})


def test_numbers_have_no_mix_of_classes() -> None:
    with pytest.raises(ScenarioError, match=r"inferences\[1\]\.name: diabetes is data for regression, and 'class_mix'"):
        cell({}, dataset="diabetes", model="linear")
    assert cell({"inferences": "site"}, dataset="diabetes", model="linear").audit is not None
