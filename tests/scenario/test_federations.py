"""What belongs to which algorithm in a scenario: keys, attacks, defenses, and networks that must fit each other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedsec.attacks import SignFlip
from fedsec.defenses import Median
from fedsec.errors import ScenarioError
from fedsec.federation.algorithms.stragglers import Stragglers
from fedsec.federation.rounds import sample_clients
from fedsec.plugins import registry
from fedsec.scenario import CellConfig, FederationConfig, Scenario, load_scenario
from fedsec.scenario.named_sections import either
from fedsec.scenario.plan import check_scenario, passes, plan
from fedsec.scenario.schema import scenario_schema
from fedsec.seeds import Streams

Load = Callable[..., Scenario]
GKT = "model: resnet4\nfederation: {algorithm: fedgkt, server: {model: resnet7}}"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *overrides: str) -> Scenario:
        path = tmp_path / "sample.yaml"
        path.write_text(f"dataset: digits\n{text}\n")
        return load_scenario(path, overrides)

    return load


def gkt(more: str) -> str:
    """A federation by fedgkt with further keys."""
    return f"model: resnet4\nfederation: {{algorithm: fedgkt, {more}}}"


def only(scenario: Scenario) -> CellConfig:
    (cell,) = scenario.cells()
    return cell.config


# What belongs to an algorithm


PERSONAL = ("fedper", "fedrep", "fedbn", "ditto", "pfedme", "local_only")
EXCHANGING = (
    *("fedavg", "fedprox", "fedopt", "fednova", "fedsgd", "scaffold", "feddyn", "local_sgd", "slowmo"),
    *PERSONAL,
    "fedma",
    "fedseq",
    "fednas",
    "async",
    "centralized",
)
BELONGS = {
    "weighting": EXCHANGING,
    "server_lr": EXCHANGING,
    "bn": EXCHANGING,
    "sampling": EXCHANGING,
    "local": (
        *(name for name in EXCHANGING if name != "fedsgd"),
        "fedgkt",
        "split_learning",
        "vertical",
        "decentralized",
    ),
    "mu": ("fedprox", "fednova"),
    "option": ("scaffold",),
    "alpha": ("feddyn",),
    "stragglers": ("fedavg", "fedprox", "fedopt", "fednova", "scaffold", "feddyn", *PERSONAL, "fedma", "fednas"),
    "server": ("fedgkt",),
    "distillation": ("fedgkt",),
    "asynchronous": ("fedgkt",),
}
"""Which algorithms have which keys; fedsec has no such table, it asks their constructors."""
ALGORITHMS = tuple(registry.entries("algorithm", plugins=False))


def test_each_algorithm_has_its_own_keys_and_none_of_the_others(load: Load) -> None:
    for algorithm in ALGORITHMS:
        config = only(
            load(f"model: resnet4\nfederation: {{algorithm: {algorithm}}}\npartition: {{clients: 4}}")
        ).federation
        content = config.model_dump()
        for key, algorithms in BELONGS.items():
            if algorithm not in algorithms:
                assert content.get(key) is None, (algorithm, key)
            elif key != "stragglers":
                assert content[key] is not None, (algorithm, key)
    averaging = only(load("federation: {algorithm: fedprox}")).federation
    assert averaging.options == {"weighting": "samples", "server_lr": 1.0, "mu": 0.01}
    assert averaging.bn == "average"


def test_group_knowledge_transfer_has_defaults(load: Load) -> None:
    config = only(load("model: resnet8\nfederation: {algorithm: fedgkt}"))
    server, distillation = config.federation.server, config.federation.distillation
    assert server is not None
    assert distillation is not None
    assert server.model.name == "resnet55"
    assert (server.epochs, server.batch_size, server.optimizer, server.lr) == (20, 128, "adam", 0.001)
    assert (server.momentum, server.weight_decay, server.order, server.patience) == (0, 0.0001, "clients", None)
    assert (distillation.temperature, distillation.to_clients, distillation.to_server) == (3.0, 1.0, 1.0)
    assert config.federation.options == {"asynchronous": False}
    assert config.defense == ()


GIVEN = {
    "weighting": "samples",
    "server_lr": 1.0,
    "sampling": "fixed",
    "bn": "average",
    "local": {},
    "mu": 0,
    "option": "I",
    "alpha": 0.5,
    "stragglers": {"fraction": 0.5},
    "server": {},
    "distillation": {},
    "asynchronous": False,
}


@pytest.mark.parametrize("key", BELONGS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_belongs_to_another_algorithm_is_refused_even_at_its_default(load: Load, key: str, algorithm: str) -> None:
    text = f"model: resnet4\nfederation: {json.dumps({'algorithm': algorithm, key: GIVEN[key]})}"
    if algorithm in BELONGS[key]:
        text += "\npartition: {clients: 4}"  # as many as images have columns for
        assert only(load(text)).federation.model_dump()[key] is not None
        return
    with pytest.raises(ScenarioError) as caught:
        load(text)
    *others, last = BELONGS[key]
    who = f"{', '.join(others)} or {last}" if others else last
    line = f":3: federation.{key}: goes with {who}; expected no such key with {algorithm}"
    assert str(caught.value).endswith("sample.yaml" + line)


@pytest.mark.parametrize(("algorithm", "handling"), [("fedavg", "drop"), ("fedprox", "partial")])
def test_stragglers_are_handled_as_the_algorithm_does(load: Load, algorithm: str, handling: str) -> None:
    text = f"federation: {{algorithm: {algorithm}, stragglers: {{fraction: 0.5%s}}}}"
    stragglers = only(load(text % "")).federation.stragglers
    assert stragglers is not None
    assert (stragglers.fraction, stragglers.handling) == (0.5, handling)
    for other in ("drop", "partial"):
        assert f"'handling': '{other}'" in str(load(text % f", handling: {other}").cells()[0].resolved)


def test_augmentation_has_a_short_form(load: Load) -> None:
    text = "federation: {local: {augmentation: %s}}"
    standard = {"crop": 4, "flip": True, "cutout": 0}
    for given_, meant in (("standard", standard), ("{}", standard), ("none", None), ("null", None)):
        assert load(text % given_).cells()[0].resolved["federation"]["local"]["augmentation"] == meant
    assert load(text % "{crop: 0, cutout: 8}").cells()[0].resolved["federation"]["local"]["augmentation"] == {
        "crop": 0,
        "flip": True,
        "cutout": 8,
    }


@given(st.integers(1, 50) | st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 12))
def test_a_servers_epochs_in_all_rounds(epochs: int | list[int], rounds: int) -> None:
    one_by_one = [epochs if isinstance(epochs, int) else epochs[min(i, len(epochs) - 1)] for i in range(rounds)]
    assert passes(epochs, rounds) == sum(one_by_one)


# Who attacks whom


def test_an_inversion_has_a_target_and_no_byzantine_clients(load: Load) -> None:
    config = only(load("inversion: dlg"))
    inversion = config.inversion
    assert inversion is not None
    assert (config.attack.name, config.attack.count(10)) == ("none", 0)
    assert (inversion.target.client, inversion.target.rounds, inversion.target.images) == (0, [1], None)
    assert (inversion.knowledge.labels, inversion.knowledge.bn_statistics, inversion.knowledge.extractor) == (
        False,
        "none",
        None,
    )
    text = GKT + "\ninversion: {name: feature_inversion, target: {client: 9, rounds: [10, 2], images: 3}}"
    features = only(load(text)).inversion
    assert features is not None
    assert features.knowledge.extractor == "known"
    assert features.target.rounds == [2, 10]


def test_an_inversion_beside_an_attack_is_filled_in_as_one_alone(load: Load) -> None:
    config = only(load("attack: {name: sign_flip, fraction: 0.2}\ninversion: {name: dlg, target: {client: 3}}"))
    alone = only(load("inversion: {name: dlg, target: {client: 3}}"))
    assert config.inversion == alone.inversion
    assert config.attack.count(10) == 2
    for nothing in ("seed: 1", "inversion: none", "inversion: {name: none, label: nobody looks}", "inversion: null"):
        assert only(load(nothing)).inversion is None


def test_attacks_and_inversions_are_axes_of_their_own(load: Load) -> None:
    flip = "{name: label_flip, fraction: 0.2}"
    cells = load(
        f"inversion: {{knowledge: {{labels: true}}}}\nmatrix: {{attack: [none, {flip}], inversion: [none, dlg]}}"
    )
    told = [(cell.config.attack.name, cell.config.inversion and cell.config.inversion.name) for cell in cells.cells()]
    assert told == [("none", None), ("none", "dlg"), ("label_flip", None), ("label_flip", "dlg")]
    last = cells.cells()[-1].config.inversion
    assert last is not None
    assert last.knowledge.labels


def test_the_rule_that_is_not_named_is_the_mean(load: Load) -> None:
    clip = "{name: clip, max_norm: 1}"
    for text, names in (
        (clip, ["clip", "mean"]),
        (f"[{clip}]", ["clip", "mean"]),
        (f"[{clip}, sign, median]", ["clip", "sign", "median"]),
        ("{name: dp_sgd, noise_multiplier: 1}", ["dp_sgd", "mean"]),
        ("[]", ["mean"]),
    ):
        assert [part.name for part in only(load(f"defense: {text}")).defense] == names
    ids = {only(load(f"defense: {text}")).id for text in (f"[{clip}, sign]", f"[sign, {clip}]", clip)}
    assert len(ids) == 3
    assert only(load(f"defense: {clip}")).id == only(load(f"defense: [{clip}, mean]")).id


def test_a_poisoning_has_no_target_but_its_own_option_of_that_name(load: Load) -> None:
    text = "attack: {name: label_flip, mode: pair, source: 0, target: 1, fraction: 0.5}"
    attack = only(load(text)).attack
    assert attack.options["target"] == 1
    assert only(load(text)).inversion is None
    again = CellConfig.model_validate(json.loads(json.dumps(only(load(text)).model_dump(mode="json"))))
    assert again.attack == attack


def test_targets_can_vary_and_be_chosen_by_expectations(load: Load) -> None:
    scenario = load(
        "inversion: {name: dlg, target: {rounds: [3]}}\nmatrix: {inversion.target.client: [0, 1], seed: [0, 1]}\n"
        "expect: [{inversion: {target: {client: 1}}, psnr: '> 3'}, {inversion.target.rounds: [3], recovered: '0 .. 1'}]"
    )
    targets = [cell.config.inversion.target for cell in scenario.cells() if cell.config.inversion]
    assert [(target.client, target.rounds) for target in targets] == [(0, [3])] * 2 + [(1, [3])] * 2
    assert [len(expectation.cells) for expectation in scenario.expectations] == [2, 4]


def test_expectations_choose_by_any_of_several_defenses(load: Load) -> None:
    names = ["none", "robust_loss", "knowledge_screening", "{q: 0.7}"]
    text = GKT + "\nmatrix: {defense: [none, robust_loss, [robust_loss, knowledge_screening]]}\nexpect: [%s]"
    made = load(text % ", ".join(f"{{defense: {name}, loss: '< 9'}}" for name in names)).expectations
    assert [len(expectation.cells) for expectation in made] == [
        1,
        1,
        1,
        2,
    ]  # a label of its own goes before a part of several
    with pytest.raises(ScenarioError, match="matches no cell: defense=krum"):
        load(text % "{defense: krum, loss: '< 9'}")


FITS = [
    "attack: {name: sign_flip, fraction: 0.2}",
    "federation: {algorithm: fedprox}\nattack: {name: sign_flip, fraction: 0.2}",
    "federation: {algorithm: fedsgd}\ninversion: dlg",
    "federation: {algorithm: fedprox, mu: 1}\ninversion: {name: dlg, knowledge: {bn_statistics: running}}",
    "federation: {algorithm: fedsgd}\ninversion: {name: dlg, knowledge: {bn_statistics: batch}}",
    GKT + "\nattack: {name: label_flip, fraction: 0.2}",
    GKT + "\nattack: {name: feature_poison, num_byzantine: 2}",
    GKT + "\nattack: {name: logit_poison, fraction: 0.2}",
    GKT + "\ninversion: {name: feature_inversion, knowledge: {extractor: initial}}",
    "inversion: dlg\nfederation: {stragglers: {fraction: 0, handling: partial}}",
    "inversion: {name: none, label: nobody}",
    "attack: {name: sign_flip, fraction: 0.1}\nmatrix: {inversion: [none, dlg]}",
    GKT + "\ndefense: none",
    GKT + "\ndefense: []",
    GKT + "\ndefense: {name: none, label: undefended}",
    GKT + "\ndefense: [robust_loss, {name: knowledge_screening, label: screened}]",
    gkt("server: {model: {name: resnet7, norm: {name: gn, groups: 4}}, epochs: [3, 1], order: mixed, patience: 2}"),
    gkt("server: {model: resnet19, optimizer: sgd, momentum: 0.9, lr: 0.1}, asynchronous: true"),
    gkt("server: {model: resnet7}, distillation: {temperature: 1, to_clients: 0, to_server: 0.5}"),
    gkt("server: {model: resnet7}, local: {augmentation: standard}"),
    "federation: {bn: local}\nmodel: {name: resnet20, norm: bn}",
    "federation: {algorithm: fedprox, mu: 0, stragglers: {fraction: 0.9, handling: drop}}",
    "engine: {name: loop, precision: bf16, memory_format: channels_last, cuda_graphs: false}",
    "matrix: {federation.bn: [average, reset], federation.local.augmentation: [none, standard, {crop: 2}]}",
    "matrix: {attack: [none, {name: label_flip, fraction: 0.2}], engine.precision: [fp32, tf32]}",
    "matrix: {attack: [none, {name: label_flip, fraction: 0.2}], inversion: [none, dlg]}",
    GKT + "\nmatrix: {federation.server.model.norm: [bn, gn], federation.server.epochs: [1, [2, 1]]}",
    GKT + "\nmatrix: {defense: [none, robust_loss, [robust_loss, knowledge_screening]]}",
    "model: resnet4\nmatrix: {federation: [{weighting: uniform}, {algorithm: fedgkt, server: {model: resnet7}}]}",
    "model: {name: resnet4, norm: {name: gn}}\nmatrix: {model.norm.groups: [2, 4]}",
    "inversion: {target: {client: 2}, knowledge: {labels: true}}\nmatrix: {inversion: [dlg, idlg]}",
    "attack: {target: 3, source: 1, mode: pair, fraction: 0.1}\nmatrix: {attack: [label_flip]}",
    "attack: {name: label_flip, source: 1, mode: pair, fraction: 0.1}\nmatrix: {attack.target: [2, 3]}",
    "inversion: dlg\nmatrix: {inversion.target.rounds: [[1], [1, 2]], inversion.knowledge.labels: [true, false]}",
    "defense: [{name: dp_sgd, target_epsilon: 5}, {name: clip, max_norm: 1}, {name: prune, error_feedback: true}]",
    "defense: [sign, {name: gaussian_noise, std: 0.1, label: noisy}, median]",
    "federation: {algorithm: centralized}\ndefense: {name: dp_sgd, noise_multiplier: 1}",
    "federation: {clients_per_round: 3, sampling: poisson}\ndefense: {name: dp_fedavg, noise_multiplier: 1}",
    "defense: [{name: dp_sgd, noise_multiplier: 1}, {name: dp_fedavg, noise_multiplier: 1, quantile: 0.5}]",
    "attack: {name: sign_flip, fraction: 0.2}\ninversion: {name: dlg, target: {client: 9, rounds: [10]}}",
    GKT + "\nattack: {name: logit_poison, fraction: 0.2}\ninversion: feature_inversion",
    "inversion: dlg\ndefense: soteria\nmatrix: {inversion.knowledge.defense: [true, false]}",
    "inversion: dlg\nmatrix: {defense: [mean, [{name: clip, max_norm: 1}, median]]}",
]


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    return jsonschema.Draft202012Validator(scenario_schema())


@pytest.mark.parametrize("text", FITS)
def test_what_fits_together_loads_can_be_built_and_pleases_editors(load: Load, validator: Any, text: str) -> None:
    scenario = load(text)
    check_scenario(scenario)
    validator.validate({"dataset": "digits", **yaml.safe_load(text)})
    for cell in scenario.cells():
        again = CellConfig.model_validate(json.loads(json.dumps(cell.resolved)))
        assert again == cell.config
        assert again.id == cell.id


INVERTED = "fedgkt or split_learning"
SENDERS = either((*(name for name in BELONGS["weighting"] if name != "centralized"), "decentralized"))
PERSONAL = ("fedper", "fedrep", "fedbn", "ditto")
REPLAYED = either(("fedavg", "fedprox", "fedopt", "fednova", "fedsgd", "local_sgd", "slowmo", *PERSONAL))

MISTAKES = [
    # Values
    ("federation: {bn: frozen}", "federation.bn: expected one of average, local, reset, recalibrate or null, got 'f"),
    ("federation: {algorithm: fedprox, mu: x}", "federation.mu: expected a finite number, got 'x'"),
    ("federation: {nu: 1}", "federation.nu: unknown key"),
    ("federation: {algorithm: scaffold, option: III}", "federation.option: expected one of I, II, got 'III'"),
    ("federation: {algorithm: fedprox, m: 1}", "federation.m: unknown key (did you mean 'mu'?)"),
    ("federation: {stragglers: {}}", "federation.stragglers.fraction: is required; expected"),
    ("federation: {stragglers: {fraction: 1}}", "stragglers.fraction: expected a finite number of at least 0 and less"),
    ("federation: {stragglers: 0.5}", "federation.stragglers: expected a mapping, got 0.5"),
    (
        "federation: {stragglers: {fraction: 0.5, handling: wait}}",
        "handling: expected one of drop, partial, got 'wait'",
    ),
    (
        "federation: {clients_per_round: 4, stragglers: {fraction: 0.2}}",
        "stragglers.fraction: 0.2 of a round's 4 clients is less than one client; expected 0, or at least 0.25",
    ),
    (
        "federation: {local: {augmentation: strong}}",
        "federation.local.augmentation: expected standard, none or a mapping, got 'strong'",
    ),
    ("federation: {local: {augmentation: {crop: -1}}}", "augmentation.crop: expected an integer of at least 0 and at"),
    ("federation: {local: {augmentation: {flips: true}}}", "augmentation.flips: unknown key (did you mean 'flip'?)"),
    (
        gkt("server: {model: resnet77}"),
        ":3: federation.server.model: unknown model 'resnet77' (did you mean 'resnet7'?)",
    ),
    (gkt("server: {model: {nrm: bn}}"), "federation.server.model.nrm: unknown key for model 'resnet55' (did you mean"),
    *(
        (
            gkt(f"server: {{epochs: {epochs}}}"),
            "federation.server.epochs: expected an integer of at least 1, or a list of them, one for each round; got "
            + epochs,
        )
        for epochs in ("0", "[]", "[1, 0]", "1.5", "true")
    ),
    (gkt("server: {order: random}"), "federation.server.order: expected one of clients, mixed, got 'random'"),
    (gkt("server: {patience: 0}"), "federation.server.patience: expected an integer of at least 1"),
    (
        gkt("server: {momentum: 0.9}"),
        "federation.server.momentum: belongs to sgd; adam has its own, expected none here",
    ),
    (
        gkt("distillation: {temperature: 0}"),
        "federation.distillation.temperature: expected a finite number greater than",
    ),
    (gkt("distillation: {to_server: -1}"), "federation.distillation.to_server: expected a finite number of at least 0"),
    (gkt("asynchronous: 1"), "federation.asynchronous: expected true or false, got 1"),
    ("engine: {precision: fp16}", "engine.precision: expected one of fp32, tf32, bf16, got 'fp16'"),
    (
        "engine: {memory_format: nhwc}",
        "engine.memory_format: expected one of auto, contiguous, channels_last, got 'nhwc'",
    ),
    ("engine: {cuda_graphs: 1}", "engine.cuda_graphs: expected true or false, got 1"),
    # Attacks
    (
        "inversion: {name: dlg, fraction: 0.1}",
        "inversion.fraction: is about Byzantine clients; expected it under `attack`",
    ),
    (
        "attack: {name: sign_flip, fraction: 0.1, target: {}}",
        "attack.target: is about a curious server; expected it under `inversion`",
    ),
    (
        "matrix: {attack: [{name: sign_flip, fraction: 0.1, knowledge: {labels: true}}]}",
        "matrix.attack[0].knowledge: is about a curious server; expected it under `inversion`",
    ),
    ("attack: {target: {}}", "attack.target: is about a curious server; expected it under `inversion`"),
    ("inversion: {target: {}}", "inversion.target: there is no inversion; expected a name beside it, or nothing"),
    *(
        (
            f"{text}",
            f"{where}: 'dlg' is no attack by Byzantine clients but an inversion by a curious server; expected it under "
            "`inversion`",
        )
        for text, where in (
            ("attack: dlg", "attack"),
            ("attack: {name: dlg, target: {client: 3}, tolerance: 1}", "attack.name"),
            ("matrix: {attack: [none, dlg]}", "matrix.attack[1]"),
            ("matrix: {attack.name: [dlg]}", "matrix.attack.name[0]"),
            ("matrix: {attack+seed: [[dlg, 1]]}", "matrix.attack+seed[0][0]"),
        )
    ),
    (
        "inversion: {name: sign_flip, fraction: 0.1}",
        "inversion.name: 'sign_flip' is no inversion by a curious server but an attack by Byzantine clients; expected "
        "it under `attack`",
    ),
    (
        "defense: label_flip",
        "defense: 'label_flip' is no defense but an attack by Byzantine clients; expected it under",
    ),
    ("inversion: {name: dlg, target: 3}", "inversion.target: expected a mapping, got 3"),
    (
        "inversion: {name: dlg, target: {client: 10}}",
        "inversion.target.client: expected less than partition.clients = 10, got",
    ),
    (
        "inversion: {name: dlg, target: {client: -1}}",
        "inversion.target.client: expected an integer of at least 0 and at",
    ),
    (
        "inversion: {name: dlg, target: {rounds: [1, 11]}}",
        "inversion.target.rounds: expected at most federation.rounds = 10, got 11",
    ),
    *(
        (f"inversion: {{name: dlg, target: {{rounds: {rounds}}}}}", f"inversion.target.rounds: {message}, got {rounds}")
        for rounds, message in (
            ("3", "expected a list of rounds, each an integer of at least 1"),
            ("[0]", "expected a list of rounds, each an integer of at least 1"),
            ("[]", "expected at least one round, each of them once"),
            ("[2, 2]", "expected at least one round, each of them once"),
        )
    ),
    ("inversion: {name: dlg, target: {images: 0}}", "inversion.target.images: expected an integer of at least 1"),
    (
        "inversion: {name: dlg, knowledge: {bn_statistics: all}}",
        "bn_statistics: expected one of none, running, sent, batch, got 'all'",
    ),
    (
        "inversion: {name: dlg, knowledge: {extractor: known}}",
        "inversion.knowledge.extractor: 'dlg' sees updates and no feature maps; expected no such key",
    ),
    (
        GKT + "\ninversion: {name: feature_inversion, knowledge: {extractor: 0}}",
        "inversion.knowledge.extractor: expected one of known, initial or null, got 0",
    ),
    (
        GKT + "\ninversion: {name: feature_inversion, knowledge: {labels: true}}",
        "inversion.knowledge.labels: clients send labels with their feature maps; expected no such key",
    ),
    (
        GKT + "\ninversion: {name: feature_inversion, knowledge: {defense: false}}",
        "inversion.knowledge.defense: clients do nothing to their feature maps that could be known",
    ),
    (
        GKT + "\ninversion: {name: feature_inversion, knowledge: {bn_statistics: batch}}",
        "inversion.knowledge.bn_statistics: 'feature_inversion' sees feature maps and no batch statistics",
    ),
    *(
        (f"federation: {federation}\ninversion: {{name: dlg{more}}}", f"inversion{where}{message}")
        for federation, more, where, message in (
            (
                "{algorithm: fedsgd}",
                ", target: {images: 2}",
                ".target.images: ",
                "an update is of all images of a client; expected no number",
            ),
            ("{}", ", target: {images: 2}", ".target.images: ", "an update is of all images of a client"),
            (
                "{algorithm: fedprox}",
                ", knowledge: {bn_statistics: batch}",
                ".knowledge.bn_statistics: ",
                "batch goes with single gradients (fedsgd); expected none, running or sent",
            ),
            (
                "{local: {optimizer: adam}}",
                "",
                ": ",
                "replaying a client's local training needs SGD; adam divides every step by lengths of the gradient "
                "that it hides, which its attacks do not undo; expected local optimizer sgd, got 'adam'",
            ),
            ("{local: {augmentation: standard}}", "", ": ", "replaying a client's local training needs images as they"),
            (
                "{stragglers: {fraction: 0.5, handling: partial}}",
                "",
                ": ",
                "the server does not know how many of its steps a slow client did",
            ),
        )
    ),
    (
        gkt("local: {augmentation: standard}") + "\ninversion: feature_inversion",
        "inversion: feature maps of augmented views are no feature maps of the client's images",
    ),
    (
        GKT + "\nattack: {name: feature_poison}",
        "attack: attack 'feature_poison' needs fraction or num_byzantine: how many clients are Byzantine",
    ),
    *(
        (
            f"{federation}\n{door}: {{name: {name}{size}}}",
            f"{door}.name: {name!r} {what}, so it goes with {who}; expected another {door} with {algorithm}",
        )
        for federation, name, size, what, who, algorithm in (
            (GKT, "dlg", "", "reconstructs images from updates", REPLAYED, "fedgkt"),
            (GKT, "sign_flip", ", fraction: 0.1", "poisons updates", SENDERS, "fedgkt"),
            ("seed: 1", "feature_inversion", "", "reconstructs images from feature maps", INVERTED, "fedavg"),
            ("seed: 1", "feature_poison", ", fraction: 0.1", "poisons feature maps and logits", "fedgkt", "fedavg"),
        )
        for door in (["attack"] if size else ["inversion"])
    ),
    (
        "federation: {algorithm: centralized}\nattack: {name: label_flip, fraction: 0.2}",
        "attack.name: centralized training has no clients to attack; expected none, got 'label_flip'",
    ),
    (
        "federation: {algorithm: centralized}\ninversion: dlg",
        f"inversion: 'dlg' reconstructs images from updates, so it goes with {REPLAYED}; "
        "expected another inversion with centralized",
    ),
    # Defenses
    ("defense: none", ":2: defense: fedavg has to combine updates somehow; expected mean, got 'none'"),
    (
        "federation: {algorithm: fedprox}\ndefense: robust_loss",
        "defense: defends fedgkt's server and aggregates no updates; expected a rule such as mean, got 'robust_loss'",
    ),
    ("defense: [mean, robust_loss]", "defense[1].name: defends fedgkt's server and aggregates no updates"),
    *(
        (
            f"{GKT}\ndefense: {defense}",
            f"defense{place}: aggregates updates, and fedgkt exchanges none; expected none or defenses of knowledge, "
            f"got {rule!r}",
        )
        for defense, place, rule in (
            ("mean", "", "mean"),
            ("{name: median}", ".name", "median"),
            ("[robust_loss, mean]", "[1].name", "mean"),
        )
    ),
    (
        GKT + "\ndefense: [none, robust_loss]",
        "defense[0].name: stands beside other defenses; expected none alone, or not",
    ),
    (GKT + "\ndefense: {name: none, q: 1}", "defense.q: 'none' takes no options"),
    # Settings that find no place
    (
        "federation: {local: {augmentation: standard}}\nmatrix: {federation.local.augmentation.cutout: [4]}",
        ":3: matrix.federation.local.augmentation.cutout[0]: expected a mapping to set 'cutout' in, got 'standard'",
    ),
    (
        GKT + "\ndefense: [robust_loss, knowledge_screening]\nmatrix: {defense.q: [0.5]}",
        'matrix.defense.q[0]: expected a mapping to set \'q\' in, got ["robust_loss", "knowledge_screening"]',
    ),
    # Expectations
    (
        "matrix: {inversion: [dlg, none]}\nexpect: [{defense: mean, psnr: '> 3'}]",
        "expect[0].psnr: is measured of what an inversion reconstructs, and inversion=none has none; expected a "
        "selector of other cells, or one of accuracy, accuracy_min_last5",
    ),
    (
        "inversion: dlg\nexpect: [{label_accuracy: '> 50'}]",
        "expect[0].label_accuracy: is a fraction; expected a number bet",
    ),
    ("expect: [{accuracy_worst_client: '> 50'}]", "expect[0].accuracy_worst_client: is a fraction; expected a number"),
    # Defenses of clients, and who comes after whom
    (
        "defense: [mean, {name: clip, max_norm: 1}]",
        "defense[0].name: the server's rule acts last; expected mean at the end of the list",
    ),
    ("defense: [median, {name: clip, max_norm: 1}, mean]", "defense: expected exactly one aggregation rule, got 2"),
    (
        "defense: [{name: gas, num_byzantine: 1}]",
        "defense[0].name: asks another rule; expected one, such as median, right after gas",
    ),
    (
        "defense: [{name: gas, num_byzantine: 1}, {name: nnm, num_byzantine: 1}, median]",
        "defense[0].name: asks another rule; expected one, such as median, right after gas",
    ),
    (
        "defense: [{name: gas, num_byzantine: 1, rule: median}, median]",
        "defense[0].rule: unknown key for defense 'gas'",
    ),
    (
        "defense: [{name: dp_sgd, noise_multiplier: 1}, {name: dp_sgd, noise_multiplier: 2}]",
        "defense: expected at most one defense of clients' training, got 2",
    ),
    (
        "defense: [{name: clip, max_norm: 1}, {name: dp_sgd, noise_multiplier: 1}, median]",
        "defense[1].name: acts while clients train; expected dp_sgd at the beginning of the list",
    ),
    *(
        (
            f"federation: {{algorithm: centralized}}\ndefense: {defense}",
            f"defense{place}: centralized training exchanges nothing; expected mean, got {name!r}",
        )
        for defense, place, name in (
            ("prune", "", "prune"),
            ("median", "", "median"),
            ("[{name: dp_sgd, noise_multiplier: 1}, sign]", "[1].name", "sign"),
            ("{name: dp_fedavg, noise_multiplier: 1}", ".name", "dp_fedavg"),
        )
    ),
    *(
        (f"{GKT}\ndefense: {defense}", f"{why}; expected none or defenses of knowledge, got {name!r}")
        for defense, why, name in (
            ("prune", "defense: changes updates, and fedgkt exchanges none", "prune"),
            (
                "{name: dp_sgd, noise_multiplier: 1}",
                "defense.name: hides examples in updates, and fedgkt's clients send feature maps of single examples, "
                "so its claim would be void",
                "dp_sgd",
            ),
            (
                "[robust_loss, {name: dp_fedavg, noise_multiplier: 1}]",
                "defense[1].name: aggregates updates, and fedgkt exchanges none",
                "dp_fedavg",
            ),
        )
    ),
    ("defense: {name: clip}", "defense.max_norm: is required"),
    # How clients are drawn
    ("federation: {sampling: uniform}", "federation.sampling: expected one of fixed, poisson or null, got 'uniform'"),
    (
        gkt("sampling: poisson"),
        f"federation.sampling: goes with {either(BELONGS['sampling'])}; expected no such key with fedgkt",
    ),
    # An inversion beside an attack
    (
        "inversion: {name: dlg, target: {client: 10}}",
        "inversion.target.client: expected less than partition.clients = 10, got 10",
    ),
    (
        "attack: {name: sign_flip, fraction: 0.1}\ninversion: {name: dlg, target: {rounds: [1, 11]}}",
        "inversion.target.rounds: expected at most federation.rounds = 10, got 11",
    ),
    (
        GKT + "\ninversion: dlg",
        f"inversion: 'dlg' reconstructs images from updates, so it goes with {REPLAYED}; "
        "expected another inversion with fedgkt",
    ),
    ("inversion: {name: dlg, knowledge: {defense: 1}}", "inversion.knowledge.defense: expected true or false, got 1"),
    ("inversion: dlgg", "inversion: unknown inversion 'dlgg' (did you mean 'dlg'?)"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_what_contradicts_itself_is_refused_in_words(load: Load, text: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(text)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


# Networks and rules that must fit each other


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            gkt("server: {model: {name: resnet7, norm: {name: gn, groups: 3}}}"),
            "sample.yaml:3: federation.server.model: cannot take the feature maps of resnet4, 16x8x8: "
            "resnet7: norm.groups must divide the 16 channels",
        ),
        (
            gkt("server: {model: convnet64}"),
            "federation.server.model: cannot take the feature maps of resnet4, 16x8x8: convnet64: images must be at",
        ),
        (
            "model: {name: resnet4, norm: {name: gn, groups: 3}}",
            "sample.yaml:2: model: resnet4: norm.groups must divide",
        ),
        (GKT.replace("resnet4", "logistic"), "sample.yaml:2: model: "),
        (GKT.replace("resnet4", "mlp"), "sample.yaml:2: model: "),
        (
            "federation: {algorithm: fedprox, mu: -1}",
            "sample.yaml:2: federation.mu: must be finite in float32 and not negative, got -1.0",
        ),
        ("federation: {server_lr: 1.0e+39}", "sample.yaml:2: federation.server_lr: must be at most 3e+38"),
        (
            "federation: {algorithm: scaffold, local: {momentum: 0.9}}",
            "sample.yaml:2: federation: SCAFFOLD's option II reads the mean gradient off the update",
        ),
        (
            "federation: {algorithm: scaffold}\ndefense: {name: clip, max_norm: 1}",
            "sample.yaml:3: defense: clients of Scaffold send their variate beside the update, which ClipUpdate would",
        ),
        (
            "federation: {algorithm: scaffold, option: I}\ndefense: {name: dp_sgd, noise_multiplier: 1}",
            "sample.yaml:3: defense: DP-SGD with Scaffold: its option I sends gradients without noise; expected option",
        ),
        (
            "federation: {weighting: population}\ndefense: {name: dp_fedavg, noise_multiplier: 1}",
            "sample.yaml:2: federation.weighting: population rescales an average; it needs a rule that uses weights "
            "(mean), got DpFedAvg",
        ),
        (
            GKT + "\ndefense: [{name: robust_loss, q: 0.5}, {name: robust_loss}]",
            "sample.yaml:4: defense: RobustLoss and RobustLoss each bring a loss of their own",
        ),
        (
            "seed: 1\ndefense: [{name: dp_sgd, noise_multiplier: 1}, soteria]",
            "sample.yaml:3: defense: Soteria chooses by the client's data what of the update is sent, which no noise "
            "of DP-SGD covers: epsilon would be void",
        ),
        (
            "federation: {clients_per_round: 3}\ndefense: {name: dp_fedavg, noise_multiplier: 1}",
            "sample.yaml:3: defense: DpFedAvg: its account holds for clients that are drawn independently of each "
            "other, not for exactly 3 of 10; expected federation.sampling: poisson, or all clients",
        ),
        (
            "federation: {stragglers: {fraction: 0.2}}\ndefense: {name: dp_fedavg, noise_multiplier: 1}",
            "sample.yaml:3: defense: DpFedAvg: ",
        ),
        ("defense: [{name: prune, ratio: 1.5}]", "sample.yaml:2: defense[0]: Prune: ratio must lie in [0, 1), not 1.5"),
        (
            "model: {name: resnet4, norm: bn}\ndefense: [{name: dp_sgd, noise_multiplier: 1}, median]",
            "sample.yaml:3: defense[0]: DP-SGD: layer 'stem.1' (BatchNorm2d) makes an example's loss depend on the",
        ),
        (
            "defense: {name: soteria, layer: nope}",
            "sample.yaml:2: defense: Soteria: the model has no linear layer 'nope'; expected 'layers.1', 'layers.3'",
        ),
        ("defense: dp_sgd", "sample.yaml:2: defense: DpSgd needs noise_multiplier, target_epsilon, or both"),
        (
            "inversion: {name: inverting_gradients, iterations: 0}",
            "sample.yaml:2: inversion: ",
        ),
    ],
)
def test_what_does_not_fit_is_found_before_the_run(load: Load, text: str, message: str) -> None:
    scenario = load(text)
    with pytest.raises(ScenarioError) as caught:
        check_scenario(scenario)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_each_number_of_clients_is_tried(load: Load) -> None:
    text = "federation: {clients_per_round: 10}\ndefense: {name: dp_fedavg, noise_multiplier: 1}\n"
    text += "matrix: {partition.clients: %s}"
    for clients in ("[10, 100]", "[100, 10]"):
        with pytest.raises(ScenarioError, match="not for exactly 10 of 100"):
            check_scenario(load(text % clients))


def test_attackers_who_see_all_updates_are_refused_beside_user_level_accounts(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "attack: {name: sign_flip, fraction: 0.2}\ndefense: {name: dp_fedavg, noise_multiplier: 1}"
    check_scenario(load(text))
    monkeypatch.setattr(SignFlip, "knowledge", "omniscient")
    with pytest.raises(ScenarioError, match="defense: DpFedAvg: SignFlip crafts its updates from all"):
        check_scenario(load(text))


POISSON = "federation: {clients_per_round: 4, sampling: poisson, rounds: %d, stragglers: {fraction: %s}}\n"


def test_a_rule_is_tried_on_the_smallest_round_that_poisson_sampling_draws(load: Load) -> None:
    """Of a coordinate's two values trimming keeps none, and of four it keeps two."""
    sizes = [len(sample_clients(10, 4, number, Streams(0), "poisson")) for number in range(1, 51)]
    first = next(number for number, size in enumerate(sizes, start=1) if 0 < size < 3)
    assert 1 < first < 50
    trimming = "defense: {name: trimmed_mean, num_trimmed_per_side: 1}"
    check_scenario(load(POISSON % (first - 1, 0) + trimming))
    check_scenario(load(POISSON % (50, 0) + "defense: median"))
    with pytest.raises(ScenarioError) as caught:
        check_scenario(load(POISSON % (first, 0) + trimming))
    begin = (
        f"sample.yaml:3: defense: Poisson sampling draws {sizes[first - 1]} of 10 clients in round {first} with seed 0:"
    )
    assert begin in str(caught.value)


def test_who_is_dropped_is_not_there_for_the_rule_either(load: Load) -> None:
    sizes = [len(sample_clients(10, 4, number, Streams(0), "poisson")) for number in range(1, 51)]
    rounds = next(number for number, size in enumerate(sizes, start=1) if 0 < size < 3) - 1
    assert 3 in sizes[:rounds]  # of whom one is slow
    with pytest.raises(ScenarioError, match="Poisson sampling draws 3 of 10"):
        check_scenario(load(POISSON % (rounds, 0.34) + "defense: {name: trimmed_mean, num_trimmed_per_side: 1}"))


def test_the_extractor_is_asked_for_although_another_algorithm_needs_none(load: Load) -> None:
    scenario = load("model: logistic\nmatrix: {federation.algorithm: [fedavg, fedgkt]}")
    with pytest.raises(ScenarioError, match=r"model: .*no feature extractor"):
        check_scenario(scenario)


def test_clients_own_statistics_are_refused_where_the_server_evaluates(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "model: {name: resnet4, norm: bn}\ndefense: median\nfederation: {bn: %s}"
    check_scenario(load(text % "local"))
    monkeypatch.setattr(Median, "needs_global_model", True)
    check_scenario(load(text % "recalibrate"))
    with pytest.raises(ScenarioError) as caught:
        check_scenario(load(text % "local"))
    assert str(caught.value).endswith(
        "sample.yaml:4: federation.bn: local keeps no running statistics at the server, and Median evaluates the "
        "global model there; expected average, reset or recalibrate"
    )


# Ids


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("federation: {bn: average}", True),
        ("federation: {local: {augmentation: none}}", True),
        ("federation: {local: {drop_last: false}}", True),
        ("federation: {local: {worker_momentum: 0}}", True),
        ("federation: {local: {worker_momentum: 0.5}}", False),
        ("federation: {mu: null, stragglers: null, server: null, distillation: null, asynchronous: null}", True),
        ("federation: {weighting: null, server_lr: null}", True),
        ("engine: {precision: fp32, memory_format: auto, cuda_graphs: true}", True),
        ("federation: {sampling: fixed}", True),
        ("inversion: null", True),
        ("federation: {sampling: poisson}", False),
        ("inversion: dlg", False),
        ("defense: [{name: clip, max_norm: 1}]", False),
        ("federation: {bn: reset}", False),
        ("partition: {seed: null}", True),
        ("model: {seed: null}", True),
        ("partition: {seed: 0}", False),
        ("model: {seed: 0}", False),
        ("federation: {algorithm: fedprox}", False),
        ("federation: {stragglers: {fraction: 0.5}}", False),
        ("federation: {local: {augmentation: standard}}", False),
        ("federation: {local: {drop_last: true}}", False),
        ("engine: {precision: tf32}", False),
        ("engine: {memory_format: contiguous}", False),
        ("engine: {cuda_graphs: false}", False),
    ],
)
def test_ids_change_only_with_what_is_not_as_it_was(load: Load, text: str, same: bool) -> None:
    # The id of `dataset: digits`.
    assert (only(load(text)).id == "c40aea96268c") == same


def test_what_was_a_default_has_the_id_from_before_there_were_further_keys(load: Load) -> None:
    assert only(load("federation: {local: {lr: 0.01, batch_size: 32}}")).id == "5423a4e3a207"


def test_further_keys_left_ids_of_others_alone(load: Load) -> None:
    local = "local: {lr: 0.01, batch_size: 32}"
    assert only(load(f"model: resnet8\nfederation: {{algorithm: fedgkt, {local}}}")).id == "346876dd6b7d"
    assert only(load("inversion: dlg")).id == only(load("inversion: {name: dlg, knowledge: {defense: true}}")).id
    known = f"federation: {{{local}}}\ninversion: "
    assert only(load(known + "dlg")).id == "2b1d5ab046cc"
    assert only(load(known + "{name: dlg, knowledge: {defense: false}}")).id != "2b1d5ab046cc"


@pytest.mark.parametrize("federation", ["{local: {worker_momentum: 0.9}}", "{algorithm: fedsgd, worker_momentum: 0.9}"])
def test_a_running_average_of_updates_is_not_inverted(load: Load, federation: str) -> None:
    only(load(f"federation: {federation}"))
    with pytest.raises(ScenarioError, match=r"replayed; expected no worker_momentum, got 0\.9"):
        load(f"federation: {federation}\ninversion: dlg")


def test_every_key_of_an_algorithm_counts(load: Load) -> None:
    texts = [
        *("seed: 0", "federation: {algorithm: fedprox}", "federation: {algorithm: fedprox, mu: 0.1}"),
        *(
            "inversion: dlg",
            "inversion: {name: dlg, target: {rounds: [2]}}",
            "inversion: {name: dlg, knowledge: {labels: true}}",
        ),
        *(gkt("rounds: 10"), GKT, gkt("server: {epochs: 2}"), gkt("asynchronous: true")),
        *(gkt("distillation: {to_clients: 0}"), GKT + "\ndefense: robust_loss"),
        GKT + "\ndefense: [robust_loss, knowledge_screening]",
    ]
    ids = {only(load(text)).id for text in texts}
    assert len(ids) == len(texts)
    assert only(load(GKT + "\ndefense: none")).id == only(load(GKT)).id


# Plans


def test_the_work_of_group_knowledge_transfer(load: Load) -> None:
    text = gkt("rounds: 3, clients_per_round: 5, local: {epochs: 2}, server: {model: resnet7, epochs: [4, 1]}")
    made = plan(load(text, "dataset={name: digits, train_size: 1000}"))
    (work,) = made.work
    assert work is not None
    assert work.server == (4 + 1 + 1) * 5 * 100
    assert made.total == pytest.approx(3 * 5 * 2 * 100 + work.server)
    assert not made.notes
    folder = load(text, "dataset=image_folder", "federation.local={steps: 5, batch_size: 2}")
    assert plan(folder).total is None


def test_proximal_training_takes_as_much_as_averaging(load: Load) -> None:
    for inversion in ("none", "dlg"):
        totals = [
            plan(load(f"inversion: {inversion}\nfederation: {{algorithm: {name}}}")).total
            for name in ("fedavg", "fedprox")
        ]
        assert totals[0] == totals[1] == pytest.approx(10 * 1437)


def test_a_plan_tells_when_the_target_is_absent(load: Load) -> None:
    text = "inversion: {name: dlg, target: {client: 3, rounds: [1, 2, 3]}}\nfederation: {clients_per_round: %d}"
    assert not plan(load(text % 10)).notes
    notes = plan(load(text % 1)).notes
    assert 1 <= len(notes) <= 3
    assert all(note.startswith("client 3 is not sampled in round ") for note in notes)


def test_a_plan_tells_when_the_target_is_dropped(load: Load) -> None:
    text = "inversion: {name: dlg, target: {client: 3, rounds: [1, 2, 3, 4, 5, 6]}}\n"
    text += "federation: {stragglers: {fraction: 0.5}}"
    dropped = [number for number in range(1, 7) if 3 in Stragglers(0.5, "drop").among(range(10), number, Streams(0))]
    assert 0 < len(dropped) < 6
    assert plan(load(text)).notes == tuple(
        f"client 3 is a straggler, and dropped, in round {number} with seed 0; nothing of it can be reconstructed then"
        for number in dropped
    )


@pytest.mark.parametrize("defense", ["none", "robust_loss"])
def test_no_number_of_rows_is_withstood_where_nothing_is_aggregated(load: Load, defense: str) -> None:
    assert not plan(load(f"{GKT}\nattack: {{name: feature_poison, fraction: 0.8}}\ndefense: {defense}")).notes


def test_a_configuration_can_be_written_in_code_too() -> None:
    federation = FederationConfig(algorithm="fedgkt")
    config = CellConfig.model_validate({"dataset": "digits", "model": "resnet4", "federation": federation})
    assert config.defense == ()
