"""The membership part of an audit: what it takes, what it refuses and where, and what it observes."""

from typing import Any

import pytest

from fedsec.errors import ScenarioError
from fedsec.scenario import load_scenario
from fedsec.scenario.audit.membership import MembershipConfig

BASE: dict[str, Any] = {
    "dataset": "digits",
    "partition": {"clients": 3},
    "model": "mlp",
    "federation": {"rounds": 7, "local": {"epochs": 1, "batch_size": 20}},
}


def section(membership: dict[str, Any], **more: Any) -> MembershipConfig:
    (cell,) = load_scenario({**BASE, **more, "audit": {"membership": membership}}).cells()
    assert cell.config.audit is not None
    assert cell.config.audit.membership is not None
    return cell.config.audit.membership


@pytest.mark.parametrize("written", ["rmia", ["rmia"], {"name": "rmia"}, [{"name": "rmia", "gamma": 1.0}]])
def test_an_inference_is_written_as_a_name_a_mapping_or_a_list(written: Any) -> None:
    (inference,) = section({"inferences": written}).inferences
    assert (inference.name, inference.options) == ("rmia", {"mode": "online", "gamma": 1.0, "a": 0.3})


def test_observed_rounds() -> None:
    assert section({}).observed(7) == (7,)
    assert section({"view": "client"}).observed(7) == (1, 2, 3, 4, 5, 6, 7)
    assert section({"view": "client", "rounds": 3}).observed(7) == (3, 6, 7)
    assert section({"view": "server", "victim": 1, "rounds": [5, 2]}).observed(7) == (2, 5)


def test_one_inference_with_other_options_has_a_label_of_its_own() -> None:
    config = section({"inferences": ["rmia", "loss_threshold", {"name": "rmia", "mode": "offline"}]})
    assert [config.label(place) for place in range(3)] == ["rmia", "loss_threshold", "rmia(mode=offline)"]
    assert config.needs == {"shadow_models", "population"}


def test_inferences_and_their_settings_can_be_axes() -> None:
    scenario = load_scenario(
        {
            **BASE,
            "audit": {"membership": {"members": 20}},
            "matrix": {
                "audit.membership.inferences": ["loss_threshold", ["rmia", "lira_offline"]],
                "audit.membership.shadow_models": [2, 4],
            },
        }
    )
    assert len({cell.config.id for cell in scenario.cells()}) == 4


@pytest.mark.parametrize(
    ("membership", "message"),
    [
        (
            {"inferences": ["gradient_cosine"]},
            r"inferences\[0\]\.name: 'gradient_cosine' needs a client's updates; exp",
        ),
        ({"inferences": "trajectory"}, "'trajectory' needs several rounds; expected view: client or server"),
        ({"inferences": "trajectory", "view": "client", "rounds": [2]}, "expected at least two that are observed"),
        ({"inferences": []}, "inferences: expected at least one inference"),
        ({"inferences": ["rmia", "rmia"]}, r"inferences\[1\]\.name: 'rmia' stands twice"),
        ({"inferences": "alie"}, "an attack by Byzantine clients; expected it under `attack`"),
        ({"inferences": {"name": "rmia", "gama": 1}}, r"did you mean 'gamma'\?"),
        ({"view": "server"}, "victim: the server looks at one client's updates"),
        ({"view": "server", "victim": 3}, "victim: there are clients 0 to 2"),
        ({"victim": -1}, "victim: expected all, or a client's number from 0"),
        ({"shadow_models": 3}, "shadow_models: expected an even number"),
        ({"view": "client", "rounds": [8]}, "rounds: there are 7 rounds"),
        ({"view": "client", "rounds": [2, 2]}, "rounds: expected a number, or a list of rounds, each of them once"),
        ({"rounds": 2}, "rounds: view: global is of the last model"),
        ({"members": 1}, "members: expected two members"),
    ],
)
def test_what_contradicts_itself_is_refused(membership: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        section(membership)


def test_numbers_have_no_members_of_classes() -> None:
    with pytest.raises(
        ScenarioError, match=r"audit\.membership\.inferences\[0\]\.name: diabetes is data for regression"
    ):
        section({}, dataset="diabetes", model="linear")


def test_secure_aggregation_hides_single_updates_from_the_server() -> None:
    federation = {**BASE["federation"], "secure_aggregation": {"clients": 3}}
    assert section({"view": "client"}, federation=federation).view == "client"
    with pytest.raises(ScenarioError, match=r"audit\.membership\.view: secure aggregation hides single updates"):
        section({"view": "server", "victim": 0}, federation=federation)


def test_an_inference_is_not_sought_among_attacks() -> None:
    with pytest.raises(ScenarioError, match=r"is no attack .* but an inference .*; expected it under `audit`"):
        load_scenario({**BASE, "attack": {"name": "rmia", "num_byzantine": 1}})
