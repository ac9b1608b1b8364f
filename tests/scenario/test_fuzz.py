"""Malformed scenarios: none may show a traceback, and each message must say what is wrong and what was expected."""

import random
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedsec.cli import app
from fedsec.errors import ScenarioError
from fedsec.scenario import load_scenario
from fedsec.scenario.plan import check_scenario

BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 8)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

# (what is wrong, the file, key path or place in the message, what the message says)
MISTAKES: list[tuple[str, str | bytes, str, str]] = [
    # The file
    ("empty", "", "", "is empty; expected a scenario, at least `dataset: digits`"),
    ("only a comment", "# nothing\n", "", "is empty; expected a scenario"),
    ("a list", "- dataset: digits\n", "", "expected a mapping of keys (name, description, dataset, "),
    ("a word", "quickstart", "", "expected a mapping of keys"),
    ("not YAML", "dataset: [digits\n", ":2:", "is not valid YAML"),
    ("a tab", "dataset:\n\tname: digits\n", ":2:", "is not valid YAML"),
    (
        "bad indentation",
        "dataset: digits\n  seed: 1\n",
        ":2:",
        "is not valid YAML: mapping values are not allowed here",
    ),
    ("two documents", "dataset: digits\n---\ndataset: digits\n", ":2:", "expected a single document"),
    ("binary", b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe", ":1:", "is not UTF-8 text"),
    ("Latin-1", "description: Universit\xe4t\ndataset: digits".encode("latin-1"), ":1:", "is not UTF-8 text"),
    ("a control character", "dataset: dig\x07its\n", "", "special characters are not allowed"),
    ("half a character", 'dataset: digits\ndescription: "\\ud800"\n', ":2:", "expected characters, got half of one"),
    ("too large", "# " + "x" * (1 << 18), "", "is larger than 256 KiB"),
    ("nested too deeply", "dataset: " + "[" * 4000, "", "is nested too deeply; expected at most 40 levels"),
    ("a billion laughs", BOMB, "", "unfolds to more than 20000 values; expected fewer aliases"),
    ("an alias in itself", "dataset: &x [*x]\n", ":1:", "an alias contains itself"),
    ("an unknown alias", "dataset: *x\n", ":1:", "found undefined alias 'x'"),
    ("a Python object", "dataset: !!python/object/apply:os.system [id]\n", ":1:", "unknown tag !!python/object/apply"),
    ("a tag of its own", "dataset: !digits {}\n", ":1:", "unknown tag !digits; expected plain YAML"),
    (
        "a duplicate key",
        "dataset: digits\nseed: 1\nseed: 2\n",
        ":3:",
        "duplicate key 'seed'; it stands on line 2 already",
    ),
    ("a duplicate key inside", "dataset: {name: digits, name: mnist}\n", ":1:", "duplicate key 'name'"),
    ("a number as a key", "dataset: digits\n3: x\n", ":2:", "expected keys to be text, got 3"),
    ("a list as a key", "dataset: digits\n? [a, b]\n: x\n", ":2:", "expected keys to be text, got a list or mapping"),
    ("a merge of nothing", "dataset: digits\nmodel: {<<: 3}\n", ":2:", "expected '<<' to name a mapping, got 3"),
    ("a number without end", f"dataset: digits\nseed: {'9' * 5000}\n", ":2:", "expected a number of at most 40 digits"),
    # Keys
    ("an unknown key", "dataset: digits\nmatrx: {}\n", ":2: matrx:", "unknown key (did you mean 'matrix'?)"),
    ("a strange key", "dataset: digits\nqqqq: 1\n", "qqqq:", "unknown key; known keys: name, description, dataset"),
    (
        "an unknown key inside",
        "dataset: digits\nfederation: {roundz: 3}\n",
        ":2: federation.roundz:",
        "unknown key (did you mean 'rounds'?)",
    ),
    (
        "an unknown key deep inside",
        "dataset: digits\nfederation: {local: {learning_rate: 1}}\n",
        "federation.local.learning_rate:",
        "unknown key; known keys: steps, epochs, batch_size",
    ),
    ("no dataset", "seed: 1\n", "dataset:", "is required; expected the name of a dataset, such as digits"),
    ("no dataset name", "dataset: {train_size: 5}\n", "dataset.name:", "is required; expected A dataset"),
    (
        "an unknown option",
        "dataset: digits\npartition: {name: iid, alpha: 1}\n",
        "partition.alpha:",
        "for partition 'iid'",
    ),
    (
        "options nested",
        "dataset: digits\nmodel: {name: mlp, options: {hidden: [3]}}\n",
        "model.options:",
        "beside the name",
    ),
    # Names
    (
        "an unknown dataset",
        "dataset: fashion_mnits\n",
        "dataset:",
        "unknown dataset 'fashion_mnits' (did you mean 'fashio",
    ),
    (
        "an unknown model",
        "dataset: digits\nmodel: cnnn\n",
        "model:",
        "unknown model 'cnnn' (did you mean 'cnn'?); known: log",
    ),
    (
        "an unknown attack",
        "dataset: digits\nattack: {name: label_flp}\n",
        "attack.name:",
        "(did you mean 'label_flip'?)",
    ),
    ("an unknown defense", "dataset: digits\ndefense: krumm\n", "defense:", "unknown defense 'krumm'"),
    (
        "an unknown partition",
        "dataset: digits\npartition: {name: diriclet}\n",
        "partition.name:",
        "did you mean 'dirichlet'",
    ),
    (
        "an unknown algorithm",
        "dataset: digits\nfederation: {algorithm: fedvg}\n",
        "federation.algorithm:",
        "mean 'fedavg'?",
    ),
    ("an unknown engine", "dataset: digits\nengine: vectorised\n", "engine:", "(did you mean 'vectorized'?)"),
    (
        "an unknown optimizer",
        "dataset: digits\nfederation: {local: {optimizer: adma}}\n",
        "optimizer:",
        "one of sgd, adam",
    ),
    (
        "a name in capitals",
        "name: Quickstart\ndataset: digits\n",
        "name:",
        "expected lower-case letters, digits, _ and -",
    ),
    ("a name that climbs", "name: ../../etc\ndataset: digits\n", "name:", "expected lower-case letters"),
    # Types
    ("text for a number", "dataset: digits\nfederation: {rounds: many}\n", "federation.rounds:", "expected an integer"),
    ("a quoted number", "dataset: digits\nfederation: {rounds: '5'}\n", "rounds:", "expected an integer of at least 1"),
    ("a fraction of a round", "dataset: digits\nfederation: {rounds: 1.5}\n", "rounds:", "expected an integer"),
    ("a truth value for a number", "dataset: digits\nseed: true\n", "seed:", "expected an integer of at least 0"),
    ("no for a truth value", "dataset: {name: digits, download: no}\n", "dataset.download:", "true or false, got 'no'"),
    ("nothing for a section", "dataset: digits\nfederation:\n", "federation:", "expected a mapping, got null"),
    (
        "a list for a section",
        "dataset: digits\npartition: [iid]\n",
        "partition:",
        'expected a name or a mapping, got ["iid"]',
    ),
    ("a number for a name", "dataset: 5\n", "dataset:", "expected a name or a mapping, got 5"),
    ("a mapping for a name", "dataset: {name: {a: 1}}\n", "dataset.name:", 'expected text, got {"a": 1}'),
    (
        "a word for a list",
        "dataset: digits\nmodel: {name: mlp, hidden: wide}\n",
        "model.hidden:",
        "expected a list, each an",
    ),
    ("a number for text", "dataset: digits\ndescription: 3\n", "description:", "expected text, got 3"),
    (
        "a label of two lines",
        'dataset: digits\ndefense: {name: mean, label: "a\\nb"}\n',
        "defense.label:",
        "on one line",
    ),
    ("no label", "dataset: digits\ndefense: {name: mean, label: ''}\n", "defense.label:", "text of 1 to 60 characters"),
    ("an unreadable key", 'dataset: digits\n"a\\nb\\e[31m": 1\n', r": 'a\nb\x1b[31m':", "unknown key"),
    # Ranges
    ("a negative number", "dataset: digits\nfederation: {rounds: -1}\n", "rounds:", "of at least 1"),
    ("no clients", "dataset: digits\npartition: {clients: 0}\n", "partition.clients:", "of at least 1"),
    ("too many clients", "dataset: digits\npartition: {clients: 10000000000}\n", "clients:", "at most 1,000,000"),
    ("not a number", "dataset: digits\nfederation: {server_lr: .nan}\n", "server_lr:", "expected a finite number"),
    (
        "infinity",
        "dataset: digits\nfederation: {local: {lr: .inf}}\n",
        "federation.local.lr:",
        "expected a finite number",
    ),
    ("an overflowing number", "dataset: digits\nfederation: {local: {lr: 1e999}}\n", "lr:", "expected a finite number"),
    ("a learning rate of zero", "dataset: digits\nfederation: {local: {lr: 0}}\n", "lr:", "greater than 0, got 0"),
    ("a momentum of one", "dataset: digits\nfederation: {local: {momentum: 1}}\n", "momentum:", "less than 1"),
    (
        "all clients Byzantine",
        "dataset: digits\nattack: {name: sign_flip, fraction: 1.0}\n",
        "fraction:",
        "less than 1",
    ),
    ("a negative seed", "dataset: digits\nseed: -1\n", "seed:", "of at least 0"),
    (
        "a client's own defense out of range",
        "dataset: digits\ndefense: {name: prune, ratio: 1}\n",
        "defense:",
        "ratio must lie in [0, 1), not 1",
    ),
    ("half trimmed", "dataset: digits\ndefense: {name: trimmed_mean, trim_per_side: 0.5}\n", "defense:", "in [0, 0.5)"),
    ("a negative alpha", "dataset: digits\npartition: {name: dirichlet, alpha: -1}\n", "partition:", "alpha"),
    ("no hidden layer", "dataset: digits\nmodel: {name: mlp, hidden: []}\n", "model:", "hidden must name at least one"),
    (
        "a bad mean",
        "dataset: {name: digits, normalization: {mean: x, std: 1}}\n",
        "dataset.normalization:",
        "mean must be",
    ),
    # Contradictions
    (
        "steps and epochs",
        "dataset: digits\nfederation: {local: {steps: 1, epochs: 1}}\n",
        "federation.local.steps:",
        "excludes epochs; expected one of the two",
    ),
    (
        "two batch sizes",
        "dataset: digits\nfederation: {local: {batch_size: 1, batch_fraction: 0.1}}\n",
        "federation.local.batch_fraction:",
        "excludes batch_size",
    ),
    (
        "momentum for adam",
        "dataset: digits\nfederation: {local: {optimizer: adam, momentum: 0.9}}\n",
        "federation.local.momentum:",
        "belongs to sgd",
    ),
    (
        "local training for fedsgd",
        "dataset: digits\nfederation: {algorithm: fedsgd, local: {steps: 3}}\n",
        "federation.local:",
        "expected no such key with fedsgd",
    ),
    (
        "more sampled than there are",
        "dataset: digits\nfederation: {clients_per_round: 11}\n",
        "federation.clients_per_round:",
        "expected at most partition.clients = 10, got 11",
    ),
    ("nobody attacks", "dataset: digits\nattack: {fraction: 0.4}\n", "attack.fraction:", "there is no attack"),
    (
        "an attack without attackers",
        "dataset: digits\nattack: sign_flip\n",
        "attack:",
        "needs fraction or num_byzantine",
    ),
    (
        "two numbers of attackers",
        "dataset: digits\nattack: {name: sign_flip, fraction: 0.1, num_byzantine: 1}\n",
        "attack.num_byzantine:",
        "excludes fraction",
    ),
    (
        "nobody honest",
        "dataset: digits\nattack: {name: sign_flip, num_byzantine: 10}\n",
        "attack.num_byzantine:",
        "expected less than partition.clients = 10, got 10",
    ),
    (
        "less than one attacker",
        "dataset: digits\nattack: {name: sign_flip, fraction: 0.01}\n",
        "attack.fraction:",
        "0.01 of 10 clients is less than one client; expected 0, or at least 0.1",
    ),
    (
        "an attack on nobody",
        "dataset: digits\nfederation: {algorithm: centralized}\nattack: {name: sign_flip, fraction: 0.1}\n",
        ":3: attack.name:",
        "centralized training has no clients to attack",
    ),
    (
        "a defense of nothing",
        "dataset: digits\nfederation: {algorithm: centralized}\ndefense: median\n",
        ":3: defense:",
        "expected mean, got 'median'",
    ),
    (
        "a population average of medians",
        "dataset: digits\nfederation: {weighting: population}\ndefense: median\n",
        "federation.weighting:",
        "it needs a rule that uses weights (mean), got Median",
    ),
    (
        "two aggregators",
        "dataset: digits\ndefense: [mean, median]\n",
        "defense:",
        "expected exactly one aggregation rule",
    ),
    (
        "an aggregator first",
        "dataset: digits\ndefense: [mean, sign]\n",
        "defense[0].name:",
        "the server's rule acts last",
    ),
    # The matrix
    ("no matrix", "dataset: digits\nmatrix: mean\n", "matrix:", "expected a mapping from keys to lists of values"),
    (
        "a matrix over an unknown key",
        "dataset: digits\nmatrix: {defence: [mean]}\n",
        "matrix.defence:",
        "mean 'defense'?",
    ),
    ("a matrix over the name", "dataset: digits\nmatrix: {name: [a, b]}\n", "matrix.name:", "cannot vary 'name'"),
    (
        "an unknown key in an axis",
        "dataset: digits\nmatrix: {partition.alpa: [1]}\n",
        "matrix.partition.alpa",
        "unknown key",
    ),
    (
        "an axis of one value",
        "dataset: digits\nmatrix: {seed: 0}\n",
        "matrix.seed:",
        "expected a list of values, got 0",
    ),
    ("an empty axis", "dataset: digits\nmatrix: {seed: []}\n", "matrix.seed:", "expected at least one value"),
    ("a bad value on an axis", "dataset: digits\nmatrix: {seed: [0, x]}\n", "matrix.seed[1]:", "expected an integer"),
    (
        "a lame zip",
        "dataset: digits\nmatrix: {seed+model: [[0]]}\n",
        "matrix.seed+model[0]:",
        "expected a list of 2 val",
    ),
    (
        "the same cell twice",
        "dataset: digits\nmatrix: {seed: [1, 1]}\n",
        "matrix:",
        "two cells are the same experiment",
    ),
    (
        "too many cells",
        f"dataset: digits\nmatrix: {{seed: {list(range(150))}, model+dataset: {[['mlp', 'digits']] * 99}}}",
        "matrix:",
        "makes 14,850 cells; expected at most 10,000",
    ),
    ("a setting without effect", "dataset: digits\nseed: 1\nmatrix: {seed: [0]}\n", ":2: seed:", "has no effect"),
    # Expectations
    ("no expectations", "dataset: digits\nexpect: high\n", "expect:", "expected a list of mappings"),
    ("an expectation of a number", "dataset: digits\nexpect: [0.5]\n", "expect[0]:", "expected a mapping such as"),
    (
        "an expectation of nothing",
        "dataset: digits\nexpect: [{seed: 0}]\n",
        "expect[0]:",
        "names no metric; expected one",
    ),
    (
        "an unknown metric",
        "dataset: digits\nexpect: [{acuracy: '> 0'}]\n",
        "expect[0].acuracy:",
        "(did you mean 'accuracy'?)",
    ),
    ("no comparison", "dataset: digits\nexpect: [{accuracy: 0.5}]\n", "expect[0].accuracy:", 'such as ">= 0.65"'),
    ("no bound", "dataset: digits\nexpect: [{accuracy: '>= high'}]\n", "expect[0].accuracy:", "expected a comparison"),
    (
        "percent",
        "dataset: digits\nexpect: [{accuracy: '>= 65'}]\n",
        "expect[0].accuracy:",
        "is a fraction; expected a number",
    ),
    (
        "a range upside down",
        "dataset: digits\nexpect: [{loss: '2 .. 1'}]\n",
        "expect[0].loss:",
        "the smaller number first",
    ),
    (
        "a bound below all values",
        "dataset: digits\ndefense: {name: dp_sgd, noise_multiplier: 1.0}\nexpect: [{epsilon: '<= -3'}]\n",
        "expect[0].epsilon:",
        "is never below 0; '<= -3' cannot be met",
    ),
    (
        "a range above all values",
        "dataset: digits\ninversion: {name: dlg, target: {client: 0, rounds: [1]}}\nexpect: [{ssim: '1.5 .. 2'}]\n",
        "expect[0].ssim:",
        "is never above 1; '1.5 .. 2' cannot be met",
    ),
    (
        "a truth value for a seed",
        "dataset: digits\nseed: 1\nexpect: [{seed: true, accuracy: '> 0'}]\n",
        "expect[0]:",
        "matches no cell: seed=true",
    ),
    (
        "a key that forges a line",
        'dataset: digits\nexpect: [{attack: {"\\nerror: all is well\\e[2J": 1}, accuracy: "> 0"}]\n',
        "expect[0]:",
        r"matches no cell: attack={\nerror: all is well\x1b[2J: 1}",
    ),
    (
        "an expectation of no cell",
        "dataset: digits\nmatrix: {defense: [mean, median]}\nexpect: [{defense: krum, accuracy: '> 0'}]\n",
        "expect[0]:",
        "matches no cell: defense=krum; expected a combination that exists (defense is one of mean, median)",
    ),
]


def run(path: Path) -> Any:
    return CliRunner().invoke(app, ["run", str(path), "--dry-run"], env={"COLUMNS": "80"})


def test_there_are_enough_mistakes() -> None:
    assert len({text for _, text, _, _ in MISTAKES}) == len(MISTAKES) >= 40


@pytest.mark.parametrize(("content", "where", "what"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistakes_are_named(tmp_path: Path, content: str | bytes, where: str, what: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run(path)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert not result.stdout
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert all(line.startswith(f"error: {path}") for line in lines)
    assert any(where in line.removeprefix(f"error: {path}") and what in line for line in lines), result.stderr
    assert all(len(line) < 700 for line in lines)


def test_several_mistakes_are_all_named_each_on_its_line_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(
        "dataset: digit\nmodel: {name: mlp, hiden: [3]}\nfederation:\n  rounds: 0\n  local: {lr: -1}\n"
        "attack: {name: sign_flip}\nsed: 1\nmatrix: {defense: []}\n"
    )
    lines = run(path).stderr.splitlines()
    assert [line.removeprefix(f"error: {path}:").partition(":")[0] for line in lines if "matrix" not in line] == ["7"]
    path.write_text(path.read_text().replace("matrix: {defense: []}", ""))
    lines = run(path).stderr.splitlines()
    assert [line.removeprefix(f"error: {path}:").partition(":")[0] for line in lines] == list("124567")


def test_the_number_of_messages_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text("dataset: digits\n" + "".join(f"key{number}: 1\n" for number in range(100)))
    lines = run(path).stderr.splitlines()
    assert len(lines) == 21
    assert lines[-1].endswith("and 80 more mistakes")


@pytest.mark.parametrize("content", ["dataset: [", BOMB])
def test_a_real_process_shows_no_traceback(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "fedsec", "run", str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())


VALID = """\
name: valid
description: all there is
dataset: {name: digits, normalization: {mean: [0.5], std: 0.5}, train_size: 300}
partition: {name: dirichlet, alpha: 0.5, clients: 6}
model: {name: mlp, hidden: [8]}
federation: {algorithm: fedavg, rounds: 2, clients_per_round: 5, weighting: samples,
  local: {steps: 3, batch_size: 4, optimizer: sgd, lr: 0.1, momentum: 0.5, weight_decay: 0.0,
          augmentation: {flip: true, cutout: 3, crop: 1}}}
engine: {name: auto, memory_gib: 1}
matrix:
  attack: [none, {name: label_flip, fraction: 0.4, mode: mirror, label: flipped}]
  defense: [mean, median, {name: trimmed_mean, trim_per_side: 0.2}]
  seed+federation.server_lr: [[0, 1.0], [1, 0.5]]
expect:
  - {attack: label_flip, defense: median, accuracy: ">= 0.1", loss: "0 .. 9"}
"""
PROXIMAL = """\
dataset: {name: digits, train_size: 300}
federation: {algorithm: fedprox, rounds: 2, mu: 0.1, bn: recalibrate, stragglers: {fraction: 0.5, handling: drop},
  local: {epochs: 1}}
engine: {name: loop, precision: bf16, memory_format: channels_last, cuda_graphs: false}
inversion: {name: dlg, target: {rounds: [1, 2]}, knowledge: {labels: true, bn_statistics: running}}
matrix: {inversion.target.client: [0, 1], federation.local.lr: [0.1, 0.2]}
expect:
  - {inversion: {target: {client: 1}}, psnr: "> 0", label_accuracy: "0 .. 1"}
"""
TRANSFER = """\
dataset: {name: digits, train_size: 300}
model: {name: resnet4, norm: {name: gn, groups: 4}}
federation: {algorithm: fedgkt, rounds: 2, local: {epochs: 1}, asynchronous: true,
  server: {model: {name: resnet7, norm: bn}, epochs: [2, 1], batch_size: 32, optimizer: sgd, lr: 0.1, momentum: 0.9,
           weight_decay: 0.0, order: mixed, patience: 2},
  distillation: {temperature: 2.0, to_clients: 0.5, to_server: 0.0}}
matrix:
  attack+inversion:
    - [none, none]
    - [none, {name: feature_inversion, target: {rounds: [2], images: 3}, knowledge: {extractor: initial}}]
    - [{name: feature_poison, num_byzantine: 1}, none]
  defense: [none, [robust_loss, knowledge_screening]]
expect:
  - {inversion: feature_inversion, defense: none, ssim: "> 0"}
"""


def check(path: Path, text: str) -> None:
    """A scenario loads and passes the checks before the run, or is refused in words."""
    path.write_bytes(text.encode(errors="replace"))
    try:
        check_scenario(load_scenario(path))
    except ScenarioError as error:
        assert all(line.startswith(str(path)) for line in str(error).splitlines())  # noqa: PT017 (it need not raise)


@pytest.mark.parametrize(("text", "cells"), [(VALID, 12), (PROXIMAL, 4), (TRANSFER, 6)])
def test_the_valid_ones_are_valid(tmp_path: Path, text: str, cells: int) -> None:
    path = tmp_path / "valid.yaml"
    path.write_text(text)
    assert len(load_scenario(path).cells()) == cells
    check_scenario(load_scenario(path))


valid = st.sampled_from([VALID, PROXIMAL, TRANSFER])


@settings(deadline=None, max_examples=60)
@given(valid, st.randoms(use_true_random=False), st.integers(1, 4))
def test_no_mutation_of_the_text_escapes(
    tmp_path_factory: pytest.TempPathFactory, text: str, chance: random.Random, edits: int
) -> None:
    alphabet = string.printable + "\x00\u2028é{}[]:,&*!|>'\"%@`#-?~"
    for _ in range(edits):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice([0, 0, 1, 1, 2, 5, 40]))
        new = chance.choice(
            ["", chance.choice(alphabet), text[chance.randrange(len(text)) :][:9], "\n", ": ", "1e9", ".nan"]
        )
        text = text[:start] + new + text[end:]
    check(tmp_path_factory.getbasetemp() / "mutant.yaml", text)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=6)
    | st.sampled_from(["none", "mean", "label_flip", "iid", "mlp", "digits", "fedsgd", "centralized", "", "<<", "a+b"])
    | st.sampled_from(["fedavg", "fedprox", "fedgkt", "dlg", "feature_inversion", "robust_loss", "resnet7"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_mutation_of_the_content_escapes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = yaml.safe_load(data.draw(valid))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(content)))
        what = data.draw(st.sampled_from(["replace", "delete", "rename", "add"]))
        if not path:
            continue
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        if what == "replace":
            parent[path[-1]] = data.draw(values)
        elif what == "delete":
            del parent[path[-1]]
        elif what == "rename" and isinstance(parent, dict):
            parent[
                data.draw(
                    st.text(max_size=6)
                    | st.sampled_from(["name", "label", "matrix", "seed.x", "seed+seed"])
                    | st.sampled_from(["inversion.target", "defense.q", "federation.server.model", "mu", "server"])
                )
            ] = parent.pop(path[-1])
        elif what == "add" and isinstance(parent, dict):
            parent[data.draw(st.text(max_size=8))] = data.draw(values)
    check(tmp_path_factory.getbasetemp() / "mutant.yaml", yaml.safe_dump(content, sort_keys=False))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60))
def test_no_bytes_escape(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError):
        load_scenario(path)


@settings(deadline=None, max_examples=60)
@given(
    valid.flatmap(lambda text: st.tuples(st.just(text), st.sampled_from(places(yaml.safe_load(text))[1:]))),
    st.text(max_size=10) | st.sampled_from(["3", "[]", "{}", "~", "none", "fedgkt", "dlg"]),
)
def test_no_setting_from_outside_escapes(
    tmp_path_factory: pytest.TempPathFactory, text_and_path: tuple[str, tuple[Any, ...]], value: str
) -> None:
    text, path = text_and_path
    file = tmp_path_factory.getbasetemp() / "valid.yaml"
    file.write_text(text)
    try:
        check_scenario(load_scenario(file, [f"{'.'.join(map(str, path))}={value}"]))
    except ScenarioError as error:
        assert all(line.startswith((str(file), "--set")) for line in str(error).splitlines())  # noqa: PT017
