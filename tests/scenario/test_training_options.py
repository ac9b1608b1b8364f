"""Schedules, clipping, smoothed labels and large-batch optimizers in scenarios."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsec.engine.optimizers import RateSchedule
from fedsec.errors import ScenarioError
from fedsec.federation import UpdateAlgorithm
from fedsec.scenario import CellConfig, Scenario, load_scenario
from fedsec.scenario.algorithm import make_algorithm
from fedsec.scenario.continuation import extends

Load = Callable[..., Scenario]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, dataset: str = "digits") -> Scenario:
        path = tmp_path / "sample.yaml"
        path.write_text(f"dataset: {dataset}\n{text}\n")
        return load_scenario(path)

    return load


def only(scenario: Scenario) -> CellConfig:
    (cell,) = scenario.cells()
    return cell.config


def algorithm_of(scenario: Scenario) -> UpdateAlgorithm:
    algorithm = make_algorithm(only(scenario).federation)
    assert isinstance(algorithm, UpdateAlgorithm)
    return algorithm


def test_a_cosine_ends_with_the_federation_and_words_are_short(load: Load) -> None:
    text = "federation: {rounds: 7, server_schedule: {decay: step, every: 3}, local: {schedule: cosine}}"
    algorithm = algorithm_of(load(text))
    assert algorithm.server_schedule == RateSchedule("step", every=3)
    assert algorithm.training is not None
    assert algorithm.training.schedule == RateSchedule("cosine", rounds=7)
    default = algorithm_of(load("federation: {server_schedule: {decay: cosine, warmup: 2, floor: 0.1}}"))
    assert default.server_schedule == RateSchedule("cosine", warmup=2, rounds=10, floor=0.1)
    longer = algorithm_of(load("federation: {rounds: 3, server_schedule: {decay: cosine, rounds: 8}}"))
    assert longer.server_schedule == RateSchedule("cosine", rounds=8)


def test_a_longer_run_goes_on_only_where_its_rates_are_the_same(load: Load) -> None:
    def cell(rounds: int, schedule: str) -> CellConfig:
        return only(load(f"federation: {{rounds: {rounds}, local: {{schedule: {schedule}}}}}"))

    assert extends(cell(6, "{warmup: 2}"), cell(4, "{warmup: 2}"))
    assert extends(cell(6, "{decay: cosine, rounds: 6}"), cell(4, "{decay: cosine, rounds: 6}"))
    assert not extends(cell(6, "cosine"), cell(4, "cosine"))


def test_what_is_not_asked_for_leaves_ids_alone(load: Load) -> None:
    plain = only(load("federation: {}"))
    said = only(
        load("federation: {server_schedule: null, local: {schedule: null, clip_norm: null, label_smoothing: 0}}")
    )
    assert plain.id == said.id
    for option in ("schedule: {warmup: 1}", "clip_norm: 1", "label_smoothing: 0.1", "optimizer: lamb"):
        assert only(load(f"federation: {{local: {{{option}}}}}")).id != plain.id


def test_large_batch_optimizers_have_rates_of_their_own(load: Load) -> None:
    for name, rate in (("lars", 10.0), ("lamb", 0.01), ("adam", 0.001), ("sgd", 0.2)):
        local = only(load(f"federation: {{local: {{optimizer: {name}}}}}")).federation.local
        assert local is not None
        assert local.lr == rate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "local: {schedule: linear}",
            "federation.local.schedule.decay: expected one of none, cosine, step, got 'linear'",
        ),
        ("local: {schedule: step}", "schedule.every: is required by step; expected rounds after which the rate falls"),
        ("local: {schedule: {every: 3}}", "schedule.every: belongs to step; expected none with none"),
        ("server_schedule: {decay: step, every: 2, floor: 0.5}", "server_schedule.floor: belongs to cosine; expected"),
        (
            "rounds: 5, local: {schedule: {decay: cosine, rounds: 3}}",
            "schedule.rounds: the cosine ends at 0 after 3 of 5 rounds; expected as many, or a floor",
        ),
        (
            "rounds: 2, local: {schedule: {decay: cosine, warmup: 2}}",
            "warmup: expected less than the 2 rounds of the cos",
        ),
        ("local: {clip_norm: 0}", "federation.local.clip_norm: expected"),
        ("local: {optimizer: lamb, momentum: 0.9}", "momentum: belongs to sgd; lamb has its own, expected none here"),
        ("algorithm: fedgkt, server_schedule: cosine", "federation.server_schedule: goes with"),
    ],
)
def test_mistakes_are_named(load: Load, text: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(f"federation: {{{text}}}")
    assert message in str(caught.value)


def test_what_no_attack_replays_and_no_class_spreads_is_refused(load: Load) -> None:
    for option in ("clip_norm: 1", "label_smoothing: 0.1"):
        assert only(load(f"federation: {{local: {{{option}}}}}\ninversion: dlg")).inversion is not None
        with pytest.raises(ScenarioError, match=r"expected neither clip_norm nor label_smoothing in federation\.local"):
            load(f"federation: {{local: {{{option}}}}}\ninversion: imprint")
    for option, message in (
        ("local: {clip_norm: 1}, secure_aggregation: {clients: 3}", "steps that each client cuts for itself"),
        ("local: {optimizer: lars}", "lars divides every step by lengths of the gradient"),
        ("algorithm: local_sgd, buffers: keep, local: {momentum: 0.9}", "momentum that goes on from round to round"),
    ):
        with pytest.raises(ScenarioError, match=message):
            load(f"federation: {{{option}}}\ninversion: dlg")
    assert only(load("federation: {algorithm: slowmo, local: {momentum: 0.9}}\ninversion: dlg")).inversion is not None
    with pytest.raises(ScenarioError, match=r"label_smoothing: .* has no classes to spread a label over"):
        load("model: linear\nfederation: {local: {label_smoothing: 0.1}}", "diabetes")
    seen: Any = only(load("federation: {local: {schedule: {warmup: 3}}}\ninversion: dlg"))
    assert seen.inversion is not None
