"""Scenario files: what they say, what is filled in, how the matrix unfolds, and what editors are told."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from math import comb
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.errors import ScenarioError
from fedsec.metrics.metric import METRICS
from fedsec.scenario import AttackConfig, CellConfig, Scenario, load_scenario
from fedsec.scenario.expectations import Expectation
from fedsec.scenario.plan import TRAIN_SIZES, _chance, check_scenario, plan, rounded
from fedsec.scenario.reader import read_text
from fedsec.scenario.schema import scenario_schema

FOLDER = Path(__file__).parents[2] / "scenarios"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
shipped = lru_cache(load_scenario)
Load = Callable[..., Scenario]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *overrides: str, name: str = "sample") -> Scenario:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return load_scenario(path, overrides)

    return load


def complaint(load: Load, text: str, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load(text, *overrides)
    return str(caught.value)


# Reading YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("60_000", 60000),
        ("0x1f", 31),
        ("0o17", 15),
        ("010", 10),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        ("2020-01-01", "2020-01-01"),
        ("[1, [two, {a: 3}]]", [1, ["two", {"a": 3}]]),
        ("{<<: [{a: 1, b: 1}, {a: 2, c: 2}], b: 3}", {"a": 1, "c": 2, "b": 3}),
        ("[&x {a: 1}, *x]", [{"a": 1}, {"a": 1}]),
    ],
)
def test_scalars_are_read_as_a_person_would(text: str, value: Any) -> None:
    read = read_text(f"key: {text}", "text").value["key"]
    assert read == value
    assert type(read) is type(value)


simple = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
)


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text(max_size=8), st.recursive(simple, lambda x: st.lists(x, max_size=4), max_leaves=12)))
def test_whatever_is_dumped_is_read_back(content: dict[str, Any]) -> None:
    assert read_text(yaml.safe_dump(content, default_style='"'), "text").value == content


def test_lines_are_known() -> None:
    lines = read_text("a:\n  b: 1\n  c:\n    - 1\n    - x: 2\n", "text").lines
    assert lines == {("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 0): 4, ("a", "c", 1): 5, ("a", "c", 1, "x"): 5}


# Configurations


def test_everything_has_a_default(load: Load) -> None:
    (cell,) = load("dataset: digits").cells()
    config = cell.config
    assert (config.partition.name, config.partition.clients, config.model.name) == ("iid", 10, "mlp")
    assert (config.federation.algorithm, config.federation.rounds, config.attack.name) == ("fedavg", 10, "none")
    assert config.federation.local is not None
    assert (config.federation.local.epochs, config.federation.local.batch_size) == (1, 10)
    assert ([part.name for part in config.defense], config.seed, config.engine.name) == (["mean"], 0, "auto")
    assert config.model.options == {"hidden": [64], "activation": "relu", "init": "default"}
    assert cell.axes == {}


def test_the_default_rate_is_the_optimizer_s(load: Load) -> None:
    rates = []
    for local in ("{}", "{optimizer: adam}", "{optimizer: adam, lr: 0.5}"):
        (cell,) = load(f"dataset: digits\nfederation: {{local: {local}}}").cells()
        assert cell.config.federation.local is not None
        rates.append(cell.config.federation.local.lr)
    assert rates == [0.2, 0.001, 0.5]


def test_bare_names_and_mappings_say_the_same(load: Load) -> None:
    bare = "dataset: digits\npartition: iid\nmodel: mlp\nattack: none\ndefense: median\nengine: loop"
    full = (
        "dataset: {name: digits}\npartition: {name: iid}\nmodel: {name: mlp}\nattack: {name: none}\n"
        "defense: [{name: median}]\nengine: {name: loop}"
    )
    assert load(bare).cells()[0].config == load(full).cells()[0].config


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_resolved_configuration_survives_json(path: Path) -> None:
    seen: set[tuple[str, str]] = set()
    for cell in shipped(path).cells():
        if seen >= cell.axes.items() and seen:  # each value of each axis once
            continue
        seen |= cell.axes.items()
        again = CellConfig.model_validate(json.loads(json.dumps(cell.config.model_dump(mode="json"))))
        assert again == cell.config
        assert again.id == cell.id


LABELED = "dataset: {name: digits}\nattack: {name: sign_flip, num_byzantine: 1}\ndefense: {name: median}\n"


@pytest.mark.parametrize(
    "override",
    [
        "attack.label=x",
        "defense.label=y",
        "dataset.download=false",
        "name=other",
        "description=other",
        "attack.scale=1",
    ],
)
def test_ids_ignore_what_numbers_do_not_depend_on(load: Load, override: str) -> None:
    assert load(LABELED, override).cells()[0].id == load(LABELED).cells()[0].id


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "attack.scale=2",
        "attack.num_byzantine=2",
        "defense.name=mean",
        "engine.memory_gib=3",
        "dataset.root=/data",
        "federation.rounds=11",
        "federation.evaluate_every=2",
        "federation.local.lr=0.02",
        "dataset.train_size=100",
        "dataset.normalization=half",
        "partition.clients=11",
        "partition.min_per_client=2",
        "model.hidden=[3]",
        "engine=loop",
    ],
)
def test_ids_depend_on_what_numbers_depend_on(load: Load, override: str) -> None:
    assert load(LABELED, override).cells()[0].id != load(LABELED).cells()[0].id


def test_ids_are_the_same_in_another_process() -> None:
    code = (
        "import sys; from pathlib import Path; from fedsec.scenario import load_scenario\n"
        "print(*[cell.id for cell in load_scenario(Path(sys.argv[1])).cells()], 'torch' in sys.modules)"
    )
    path = FOLDER / "quickstart.yaml"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*(cell.id for cell in load_scenario(path).cells()), "False"]


@pytest.mark.parametrize(("fraction", "clients", "count"), [(0.4, 10, 4), (0.1, 30, 3), (0.29, 100, 29), (0.25, 10, 2)])
def test_a_fraction_is_rounded_down_to_whole_clients(fraction: float, clients: int, count: int) -> None:
    assert AttackConfig(name="sign_flip", fraction=fraction).count(clients) == count
    assert AttackConfig(name="sign_flip", num_byzantine=3).count(clients) == 3
    assert AttackConfig().count(clients) == 0


def test_fedsgd_has_no_local_training(load: Load) -> None:
    config = load("dataset: digits\nfederation: {algorithm: fedsgd}").cells()[0].config
    assert config.federation.local is None


def test_normalization(load: Load) -> None:
    text = "dataset: {name: digits, normalization: {mean: 0.5, std: [0.25]}}"
    assert load(text).cells()[0].config.dataset.normalization == {"mean": [0.5], "std": [0.25]}
    assert "dataset.normalization: std must be greater than 0" in complaint(load, text.replace("0.25", "0"))


# The matrix

MATRIX = """
dataset: digits
matrix:
  attack: [none, {name: label_flip, fraction: 0.4}]
  defense: [mean, {name: trimmed_mean, trim_per_side: 0.4, label: tm}]
  seed: [0, 1]
"""


def test_cells_are_the_product_in_file_order(load: Load) -> None:
    cells = load(MATRIX).cells()
    expected = itertools.product(["none", "label_flip(fraction=0.4)"], ["mean", "tm"], ["0", "1"])
    assert [tuple(cell.axes.values()) for cell in cells] == list(expected)
    assert list(cells[0].axes) == ["attack", "defense", "seed"]
    assert len({cell.id for cell in cells}) == 8
    assert cells[7].config.seed == 1
    assert cells[7].config.attack.fraction == 0.4
    assert cells[7].values["defense"] == {"name": "trimmed_mean", "trim_per_side": 0.4, "label": "tm"}


def test_any_key_can_vary_and_keeps_its_neighbors(load: Load) -> None:
    cells = load(
        "dataset: digits\npartition: {name: dirichlet, clients: 7}\nfederation: {local: {steps: 3}}\n"
        "matrix: {partition.alpha: [0.1, 0.9], federation.local.lr: [0.1, 1e-3], model.hidden: [[8], [8, 8]]}"
    ).cells()
    assert len(cells) == 8
    assert {cell.config.partition.clients for cell in cells} == {7}
    assert [cell.config.partition.options["alpha"] for cell in cells] == [0.1] * 4 + [0.9] * 4
    assert {cell.config.federation.local.steps for cell in cells if cell.config.federation.local} == {3}
    assert cells[-1].axes == {"partition.alpha": "0.9", "federation.local.lr": "0.001", "model.hidden": "[8, 8]"}


def test_axis_values_are_laid_over_the_base(load: Load) -> None:
    cells = load(
        "dataset: digits\npartition: {clients: 20}\nattack: {fraction: 0.25}\n"
        "matrix: {partition: [iid, {name: dirichlet, alpha: 0.1}], attack: [none, label_flip, sign_flip]}"
    ).cells()
    assert {cell.config.partition.clients for cell in cells} == {20}
    assert [cell.config.attack.count(20) for cell in cells] == [0, 5, 5] * 2


def test_a_key_inside_an_axis_can_vary_on_its_own_axis(load: Load) -> None:
    cells = load(
        "dataset: digits\n"
        "matrix: {attack.fraction: [0.2, 0.4], attack: [label_flip, sign_flip], partition.clients: [5]}"
    ).cells()
    assert [(cell.config.attack.name, cell.config.attack.fraction) for cell in cells] == [
        ("label_flip", 0.2),
        ("sign_flip", 0.2),
        ("label_flip", 0.4),
        ("sign_flip", 0.4),
    ]


def test_the_deeper_key_has_the_last_word_whatever_the_order(load: Load) -> None:
    for matrix in (
        "{defense.trim_per_side: [0.1], defense: [trimmed_mean]}",
        "{defense: [trimmed_mean], defense.trim_per_side: [0.1]}",
    ):
        (cell,) = load(f"dataset: digits\nmatrix: {matrix}").cells()
        assert cell.config.defense[0].options["trim_per_side"] == 0.1


@pytest.mark.parametrize("base", ["trimmed_mean", "[trimmed_mean]", "{name: trimmed_mean}", "[{name: trimmed_mean}]"])
def test_an_option_can_vary_however_its_section_is_written(load: Load, base: str) -> None:
    cells = load(f"dataset: digits\ndefense: {base}\nmatrix: {{defense.trim_per_side: [0.1, 0.2]}}").cells()
    assert [cell.config.defense[0].options["trim_per_side"] for cell in cells] == [0.1, 0.2]


def test_zipped_axes_vary_together(load: Load) -> None:
    scenario = load(
        "dataset: digits\nmatrix:\n  attack + defense.trim_per_side:\n    - [{name: sign_flip, fraction: 0.2}, 0.1]\n"
        "    - [{name: sign_flip, fraction: 0.4}, 0.2]\n  seed: [0, 1]\ndefense: trimmed_mean\n"
    )
    assert [cell.axes for cell in scenario.cells()] == [
        {"attack": f"sign_flip(fraction={f})", "defense.trim_per_side": t, "seed": s}
        for (f, t), s in itertools.product([("0.2", "0.1"), ("0.4", "0.2")], "01")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 3\nmatrix: {seed: [0, 1]}", "seed: has no effect: the matrix sets it anew in every cell"),
        (
            "attack: {name: sign_flip, fraction: 0.1}\nmatrix: {attack: [none, label_flip]}",
            "attack.name: has no effect",
        ),
        ("matrix: {seed: [0, 0]}", "two cells are the same experiment: (seed=0) and (seed=0)"),
        (
            "matrix: {defense: [{name: median, label: x}, {name: mean, label: x}]}",
            "two cells look alike in tables: (defense=x)",
        ),
        ("matrix: {seed+seed: [[0, 1]]}", "varies 'seed', as matrix.seed+seed does"),
        ("matrix: {seed+model: [[0, mlp, 2]]}", "matrix.seed+model[0]: expected a list of 2 values"),
        ("matrix: {federation.roundz: [1, 2]}", "matrix.federation.roundz[0]: unknown key (did you mean 'rounds'?)"),
        (
            "matrix: {attack: [none, {name: sign_flip, fraction: 2}]}",
            "matrix.attack[1].fraction: expected a finite num",
        ),
        ("matrix: {attack: [none, sign_flip]}", "matrix.attack[1]: attack 'sign_flip' needs fraction or num_byzantine"),
        ("matrix: {seed: 3}", "matrix.seed: expected a list of values, got 3"),
        ("matrix: {sed: [3]}", "matrix.sed: cannot vary 'sed': unknown key (did you mean 'seed'?)"),
        ("matrix: {seed: []}", "matrix.seed: expected at least one value"),
        ("matrix: 3", "matrix: expected a mapping"),
        ("federation: 3\nmatrix: {federation.rounds: [1, 2]}", ":2: federation: expected a mapping, got 3"),
        ("federation: {local: x}\nmatrix: {federation.local.lr: [1]}", "federation.local: expected a mapping, got 'x'"),
    ],
)
def test_a_wrong_matrix(load: Load, text: str, message: str) -> None:
    assert message in complaint(load, f"dataset: digits\n{text}")


def test_the_number_of_cells_is_bounded(load: Load) -> None:
    many = f"[{', '.join(map(str, range(200)))}]"
    text = f"dataset: digits\nmatrix: {{seed: {many}, federation.rounds: {many.replace('0,', '1000,', 1)}}}"
    assert "makes 40,000 cells; expected at most 10,000" in complaint(load, text)
    assert len(load(f"dataset: digits\nmatrix: {{seed: {many}, federation.local.lr: [0.1, 0.2]}}").cells()) == 400


# Overrides


def test_settings_from_outside_replace_those_of_the_file(load: Load) -> None:
    scenario = load(MATRIX, "federation.rounds=2", "matrix.seed=[5]", "dataset.train_size=100", "name=x1")
    assert scenario.name == "x1"
    assert len(scenario.cells()) == 4
    config = scenario.cells()[0].config
    assert (config.federation.rounds, config.seed, config.dataset.name) == (2, 5, "digits")
    assert config.dataset.train_size == 100


def test_settings_from_outside_can_add_axes_with_dots(load: Load) -> None:
    scenario = load(MATRIX, "matrix.partition.clients=[5, 6]", "expect=[{seed: 0, loss: '< 9'}]", "expect.0.loss='< 8'")
    assert len(scenario.cells()) == 16
    assert scenario.expectations[0].bound == "< 8"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set 'seed': expected key.path=value"),
        ("=3", "--set '=3': expected key.path=value"),
        ("a..b=3", "expected key.path=value"),
        ("seed=[", "--set seed:1: is not valid YAML"),
        ("seed=1", "seed (from --set): has no effect"),
        ("federation.roundz=1", "federation.roundz (from --set): unknown key (did you mean 'rounds'?)"),
        ("federation.rounds.x=1", "federation.rounds (from --set): expected an integer"),
        ("name.x=1", "--set name.x: expected a mapping to set 'x' in, got 'q'"),
        ("matrix.seed=1", "matrix.seed (from --set): expected a list of values, got 1"),
        ("expect.5.loss=3", "--set expect.5.loss: expected the number of an entry, 0 to 0, got '5'"),
    ],
)
def test_wrong_settings_from_outside(load: Load, override: str, message: str) -> None:
    assert message in complaint(load, f"name: q\nexpect: [{{loss: '< 9'}}]\n{MATRIX}", override)


# Expectations


@pytest.mark.parametrize(
    ("selector", "number"),
    [
        ("attack: none", 4),
        ("attack: label_flip", 4),
        ("attack: label_flip(fraction=0.4)", 4),
        ("attack: {fraction: 0.4}", 4),
        ("attack: {name: label_flip, fraction: 0.4, mode: mirror}", 4),
        ("defense: tm", 4),
        ("defense: trimmed_mean", 4),
        ("defense: {trim_per_side: 0.4}", 4),
        ("seed: 1", 4),
        ("seed: 1, attack: none, defense: mean", 1),
        ("federation.rounds: 10", 8),
        ("federation.local.lr: 0.2", 8),
        ("model.hidden: [64]", 8),
        ("dataset: digits", 8),
    ],
)
def test_expectations_choose_cells(load: Load, selector: str, number: int) -> None:
    (expectation,) = load(f"{MATRIX}expect: [{{{selector}, accuracy: '>= 0.5'}}]").expectations
    assert len(expectation.cells) == number


STACKS = (
    "dataset: digits\npartition: {clients: 9}\nmatrix: {defense: [{axis}]}\n"
    "expect: [{defense: median, accuracy: '> 0'}]\n"
)


@pytest.mark.parametrize(
    ("axis", "labels"),
    [
        ("median, [{name: arc, num_byzantine: 2}, median]", ["median"]),
        ("[{name: arc, num_byzantine: 2}, median], mean", ["[arc(num_byzantine=2), median]"]),
        (
            "{name: trimmed_mean, trim_per_side: 0.1, label: median}, [{name: arc, num_byzantine: 2}, median]",
            ["median"],
        ),
    ],
)
def test_an_expectation_means_the_defense_that_it_names(load: Load, axis: str, labels: list[str]) -> None:
    scenario = load(STACKS.replace("{axis}", axis))
    (expectation,) = scenario.expectations
    assert [cell.axes["defense"] for cell in scenario.cells() if cell.id in expectation.cells] == labels


def test_a_part_of_several_defenses_names_none(load: Load) -> None:
    axis = "[{name: arc, num_byzantine: 2}, median], [{name: nnm, num_byzantine: 2}, median], mean"
    message = complaint(load, STACKS.replace("{axis}", axis))
    assert "expect[0].defense: median alone is no cell's defense, and a part of 2; expected one of [arc(" in message


@pytest.mark.parametrize(
    ("bound", "met", "unmet"),
    [
        (">= 0.65", [0.65, 1.0], [0.6499]),
        ("<=.65", [0.65, 0.0], [0.6501]),
        ("> 0.5", [0.51], [0.5]),
        ("< 0.5", [0.49], [0.5]),
        ("== 0.5", [0.5], [0.51]),
        ("0.4 .. 0.6", [0.4, 0.5, 0.6], [0.39, 0.61]),
        ("4e-1..6e-1", [0.4], [0.7]),
    ],
)
def test_expectations_compare(load: Load, bound: str, met: list[float], unmet: list[float]) -> None:
    (expectation,) = load(f"dataset: digits\nexpect: [{{accuracy: '{bound}'}}]").expectations
    assert all(expectation.met(value) for value in met)
    assert not any(expectation.met(value) for value in [*unmet, float("nan")])


def test_one_entry_may_bound_several_metrics(load: Load) -> None:
    made = load("dataset: digits\nexpect: [{seed: 0, accuracy: '>= 0.5', loss: '0 .. 2'}]").expectations
    assert [str(expectation) for expectation in made] == ["seed=0: accuracy >= 0.5", "seed=0: loss 0 .. 2"]


def test_an_expectation_is_plain_data() -> None:
    expectation = Expectation({"attack": {"fraction": 0.4}}, "loss", "<", 2.0)
    assert str(expectation) == "attack={fraction: 0.4}: loss < 2"


# What is shipped


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_are_sound(path: Path) -> None:
    scenario = shipped(path)
    assert scenario.name == path.stem
    assert scenario.description
    assert scenario.expectations
    check_scenario(scenario)
    first = path.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=schema.json"


def test_the_quickstart_is_what_the_documentation_says() -> None:
    cells = load_scenario(FOLDER / "quickstart.yaml").cells()
    assert {cell.config.defense[0].name for cell in cells} == {"mean", "median", "trimmed_mean"}
    assert {cell.config.dataset.name for cell in cells} == {"digits"}
    assert sorted({cell.config.attack.count(cell.config.partition.clients) for cell in cells}) == [0, 4]


# The schema


def test_the_committed_schema_is_up_to_date() -> None:
    assert json.loads((FOLDER / "schema.json").read_text()) == scenario_schema(plugins=False), (
        "run: fedsec schema > scenarios/schema.json"
    )


def test_the_schema_knows_every_name() -> None:
    text = json.dumps(scenario_schema())
    for name in ("label_flip", "trimmed_mean", "dirichlet", "fashion_mnist", "cnn", "centralized", *METRICS):
        assert f'"{name}"' in text


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = scenario_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_fit_the_schema(validator: Any, path: Path) -> None:
    validator.validate(yaml.safe_load(path.read_text()))


FITS = [
    {"dataset": "digits"},
    {"dataset": {"name": "digits", "normalization": {"mean": [0.5], "std": 0.5}}, "engine": "loop"},
    {"dataset": "digits", "attack": {"fraction": 0.4}, "matrix": {"attack": ["none", "label_flip"]}},
    {"dataset": "digits", "defense": [{"name": "trimmed_mean", "trim_per_side": 0.1, "label": "x"}]},
    {"dataset": "digits", "matrix": {"partition.clients": [2, 4], "seed+model": [[1, "mlp"], [2, "cnn"]]}},
    {"dataset": "digits", "expect": [{"federation.rounds": 10, "loss": "< 3"}]},
]
DOES_NOT_FIT = [
    {"dataset": "digit"},
    {"datasets": "digits"},
    {"dataset": "digits", "attack": {"name": "label_flip", "fraction": 1}},
    {"dataset": "digits", "attack": {"name": "label_flip", "mode": "mirrored"}},
    {"dataset": "digits", "defense": {"name": "median", "trim_per_side": 0.1}},
    {"dataset": "digits", "partition": {"name": "iid", "alpha": 1}},
    {"dataset": "digits", "federation": {"rounds": 0}},
    {"dataset": "digits", "federation": {"local": {"optimizer": "adagrad"}}},
    {"dataset": "digits", "matrix": {"seed": 0}},
    {"dataset": "digits", "matrix": {"sed": [0]}},
    {"dataset": "digits", "expect": [{"acuracy": "> 0"}]},
]


@pytest.mark.parametrize("content", FITS)
def test_what_loads_fits_the_schema(validator: Any, load: Load, content: dict[str, Any]) -> None:
    load(json.dumps(content))
    validator.validate(content)


@pytest.mark.parametrize("content", DOES_NOT_FIT)
def test_the_schema_catches_what_does_not_load(validator: Any, load: Load, content: dict[str, Any]) -> None:
    complaint(load, json.dumps(content))
    assert not validator.is_valid(content)


# Plans


def test_the_work_of_a_federation(load: Load) -> None:
    made = plan(load(MATRIX + "federation: {rounds: 3, clients_per_round: 5, local: {steps: 50, batch_size: 20}}"))
    assert made.total == 8 * 5 * 3 * 50 * 20
    assert not any(made.shared)
    fedsgd = plan(load("dataset: digits\nfederation: {algorithm: fedsgd, rounds: 3}"))
    assert fedsgd.total == pytest.approx(3 * 1437)
    epochs = plan(
        load("dataset: {name: digits, train_size: 1000}\nfederation: {clients_per_round: 5, local: {epochs: 2}}")
    )
    assert epochs.total == pytest.approx(10 * 5 * 2 * 100)
    pooled = plan(load("dataset: digits\nfederation: {algorithm: centralized, rounds: 2, local: {steps: 7}}"))
    assert pooled.total == 2 * 7 * 10


def test_one_round_cells_share_their_training() -> None:
    made = plan(load_scenario(FOLDER / "byzantine_fmnist.yaml"))
    # For each of three seeds: twenty honest clients, and the eight that are Byzantine at the highest ratio.
    assert sum(made.trainings) == 3 * (20 + 8)
    assert all(made.shared)
    assert made.total == 84 * 500 * 300


def test_an_unknown_number_of_images_is_said_to_be_unknown(load: Load) -> None:
    folder = "dataset: image_folder\nfederation: {local: {%s}}"
    assert plan(load(folder % "epochs: 1")).total is None
    assert plan(load(folder % "steps: 5, batch_size: 2")).total == 10 * 10 * 5 * 2


@pytest.mark.parametrize("name", ["digits", "photos"])
def test_numbers_of_images_are_true(name: str) -> None:
    from fedsec.data import load as load_data

    assert len(load_data(name, download=False).train.labels) == TRAIN_SIZES[name]


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (999, "999"), (12_600_000, "12.6 M"), (None, "unknown")])
def test_numbers_are_readable(number: float | None, text: str) -> None:
    assert rounded(number) == text


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 30), st.data())
def test_the_chance_of_too_many_attackers(clients: int, data: st.DataObject) -> None:
    byzantine, cohort = data.draw(st.integers(0, clients - 1)), data.draw(st.integers(1, clients))
    bound = data.draw(st.integers(0, cohort))
    ways = [comb(byzantine, k) * comb(clients - byzantine, cohort - k) for k in range(cohort + 1)]
    assert _chance(clients, byzantine, cohort, bound) == pytest.approx(sum(ways[bound + 1 :]) / sum(ways), abs=1e-9)


def test_notes_tell_when_attackers_may_outnumber_a_defense(load: Load) -> None:
    text = "dataset: digits\npartition: {clients: 100}\nattack: {name: label_flip, fraction: 0.4}\ndefense: median\n"
    (note,) = plan(load(text + "federation: {clients_per_round: 10}")).notes
    assert note.startswith("median withstands 4 Byzantine of a round's 10 clients; with 40 among all 100")
    assert note.endswith("a round has more with probability 0.36")
    # Of 200,000 simulated draws, 0.307 had as many Byzantine clients as others, or more.
    (note,) = plan(load(text + "federation: {clients_per_round: 10, sampling: poisson}")).notes
    assert note.endswith("a round has too many with probability 0.31")
    # Of which the slower half is dropped; 200,000 draws give 0.400. All drawn is no sampling at all.
    half = "stragglers: {fraction: 0.5, handling: drop}"
    (note,) = plan(load(text + f"federation: {{clients_per_round: 10, sampling: poisson, {half}}}")).notes
    assert note.startswith("median withstands 2 Byzantine of a round's 5 clients")
    assert note.endswith("a round has too many with probability 0.4")
    every = text.replace("0.4", "0.49") + f"federation: {{clients_per_round: 100, sampling: poisson, {half}}}"
    (note,) = plan(load(every)).notes
    assert "a round has more with probability" in note
    assert not plan(load(text)).notes
    (note,) = plan(load(text.replace("0.4", "0.6"))).notes
    assert "median withstands 49 Byzantine of 100 clients, and there are 60" in note


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defense: trimmed_mean", "sample.yaml:2: defense: TrimmedMean needs exactly one of"),
        ("defense: {name: trimmed_mean, trim_per_side: 0.5}", "defense: trim_per_side is a fraction"),
        ("defense: {name: trimmed_mean, num_trimmed_per_side: 5}", "leaves none of 10"),
        ("partition: {name: dirichlet, alpha: -1}", "sample.yaml:2: partition: "),
        ("attack: {name: label_flip, mode: pair, fraction: 0.1}", "attack: LabelFlip: mode pair needs two"),
        ("model: {name: mlp, hidden: []}", "model: mlp: hidden must name at least one width"),
        ("matrix: {defense: [mean, {name: trimmed_mean, trim_per_side: 0.7}]}", "matrix.defense[1]: trim_per_side"),
        ("model: {name: mlp, hidden: [1000000000000000000]}", "sample.yaml:2: model: "),
    ],
)
def test_what_only_a_constructor_knows_is_found_before_the_run(load: Load, text: str, message: str) -> None:
    scenario = load(f"dataset: digits\n{text}")
    with pytest.raises(ScenarioError) as caught:
        check_scenario(scenario)
    assert message in str(caught.value)
