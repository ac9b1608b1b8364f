"""What CONTRIBUTING says about adding something is true: each of its rows is done, in a copy, and used."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"\| (an? [^|]+?) \| `([\w/]+)/<name>\.py`, ([^|]*) \| `(\w+)` in `([\w/.]+)` \|")
ROWS = {row[1]: row for row in ROW.finditer((ROOT / "CONTRIBUTING.md").read_text())}

SOURCES = {
    "an attack on data": """
        from fedsec.threat import DataPoisoning

        class Sample(DataPoisoning):
            def corrupt(self, images, labels, *, num_classes, generator):
                return images, (labels + 1) % num_classes
    """,
    "an attack on updates": """
        from fedsec.threat import UpdatePoisoning

        class Sample(UpdatePoisoning):
            knowledge = "own"

            def forge(self, view):
                return 2 * view.own
    """,
    "an inversion": """
        import torch
        from fedsec.threat import Inversion, Reconstruction

        class Sample(Inversion):
            def recover(self, observations, generator, watch):
                gray = [torch.full((seen.batch_size, *seen.input_shape), 0.5) for seen in observations]
                return [Reconstruction(images, None) for images in gray]
    """,
    "a malicious server": """
        import copy
        import torch
        from fedsec.threat import MaliciousServer, Reconstruction

        class Sample(MaliciousServer):
            def build(self, view, *, generator):
                return copy.deepcopy(view.model)

            def recover(self, observations, generator, watch):
                gray = [torch.full((seen.batch_size, *seen.input_shape), 0.5) for seen in observations]
                return [Reconstruction(images, None) for images in gray]
    """,
    "a membership inference": """
        from fedsec.threat import MembershipInference

        class Sample(MembershipInference):
            def score(self, view):
                return view.confidences[-1]
    """,
    "a property inference": """
        from fedsec.threat import PropertyInference

        class Sample(PropertyInference):
            asks = "class_mix"

            def score(self, view):
                return view.updates.new_ones(view.shape) / view.num_values
    """,
    "a label inference": """
        from fedsec.threat import LabelInference

        class Sample(LabelInference):
            def score(self, view):
                return view.gradients.double().flatten(1).amax(1)
    """,
    "an attack at the cut of a network": """
        import torch
        from fedsec.threat import ActivationPoisoning

        class Sample(ActivationPoisoning):
            def choose(self, labels, *, num_classes, generator):
                return labels == labels, torch.zeros_like(labels, dtype=torch.bool)

            def feed(self, inputs, batch):
                return inputs

            def send(self, activations, batch):
                return activations

            def learn(self, gradients, batch):
                return -gradients
    """,
    "a server that hijacks split learning": """
        from fedsec.threat import Hijack, HijackingServer

        class Sample(HijackingServer):
            def begin(self, view, *, generator):
                hijack = SampleHijack()
                hijack.input_shape = view.input_shape
                return hijack

        class SampleHijack(Hijack):
            def pull(self, sent, *, generator):
                return sent.detach()

            def decode(self, features):
                return features.new_full((len(features), *self.input_shape), 0.5)

            def state(self):
                return {}

            def restore(self, state):
                pass
    """,
    "a rule": """
        from fedsec.defense import CoordinateRule

        class Sample(CoordinateRule):
            def max_rejected(self, num_clients):
                return 0

            def reduce(self, chunk, cohort, scratch):
                return chunk[0]

            def share(self, chunk, cohort, scratch):
                return (chunk.new_tensor(range(len(chunk))) == 0).to(chunk.dtype)
    """,
    "a pre-aggregator": """
        import torch
        from fedsec.defense import PreAggregator

        class Sample(PreAggregator):
            def num_mixed(self, num_clients):
                return 1

            def mixing(self, gram, generator=None):
                return torch.full((1, len(gram)), 1 / len(gram), dtype=torch.float64)
    """,
    "a defense of single updates": """
        from fedsec.defense import UpdateTransform
        from fedsec.threat import Distortion

        class Sample(UpdateTransform):
            def transform(self, update, client, generator):
                return {name: value / 2 for name, value in update.items()}

            def known(self, sent):
                return Distortion()
    """,
    "a defense of a cut network": """
        from fedsec.defense import ActivationDefense

        class Sample(ActivationDefense):
            def perturb(self, gradients, labels, *, generator):
                return gradients / 2
    """,
    "an inspector of models": """
        from fedsec.defense import Inspection, ModelInspector

        class Sample(ModelInspector):
            def examine(self, received):
                return Inspection()
    """,
    "a partition": """
        import numpy as np
        from fedsec.data.partitions.partition import Partition

        class Sample(Partition):
            needs_classes = False

            def assign(self, strata, num_clients, num_strata, rng):
                return np.arange(len(strata)) * num_clients // len(strata)
    """,
    "a dataset": """
        from fedsec.data.sources.digits import Digits

        class Sample(Digits):
            name = "sample"
            task = "sample_a_task"
    """,
    "a model": """
        from torch import nn

        class Sample(nn.Sequential):
            def __init__(self, input_shape, num_classes, bias: bool = True):
                channels, height, width = input_shape
                super().__init__(nn.Flatten(), nn.Linear(channels * height * width, num_classes, bias))
    """,
    "an algorithm": """
        from fedsec.federation.algorithms.fedavg import FedAvg

        class Sample(FedAvg):
            pass
    """,
    "a metric": """
        from fedsec.metrics.measure import Measure

        class Sample(Measure):
            better = "higher"

            def measure(self, outputs, targets):
                return float((outputs.argmax(1) == targets).sum())
    """,
    "a task": """
        import torch
        import torch.nn.functional as F
        from fedsec.tasks.task import Task

        class Sample(Task):
            name = "sample_a_task"
            target_dtype = torch.int64
            metrics = ("accuracy", "loss")
            outputs = 10

            def losses(self, outputs, targets):
                return F.multi_margin_loss(outputs, targets, reduction="none")

            def measure(self, outputs, targets):
                hits = outputs.argmax(1) == targets
                return {"accuracy": hits.double().mean().item(), "loss": self.losses(outputs, targets).mean().item()}
    """,
}
CUT = {
    "model": {"name": "mlp", "hidden": [8]},
    "federation": {
        "algorithm": "split_learning",
        "labels": "server",
        "rounds": 1,
        "local": {"steps": 1, "batch_size": 20, "lr": 0.1},
    },
}
"""A network that is cut between clients and a server."""
USED = {
    "an attack on data": {"attack": {"name": "{}", "num_byzantine": 1}},
    "an attack on updates": {"attack": {"name": "{}", "num_byzantine": 1}},
    "an inversion": {"inversion": "{}"},
    "a malicious server": {"inversion": "{}"},
    "a membership inference": {"audit": {"membership": {"inferences": ["{}"], "members": 10, "nonmembers": 10}}},
    "a property inference": {"audit": {"properties": {"inferences": ["{}"], "permutations": 9}}},
    "a label inference": {**CUT, "audit": {"labels": {"inferences": ["{}"], "known": 3}}},
    "an attack at the cut of a network": {**CUT, "attack": {"name": "{}", "num_byzantine": 1}},
    "a server that hijacks split learning": {
        **CUT,
        "inversion": {
            "name": "{}",
            "target": {"client": 0, "rounds": [1], "images": 4},
            "knowledge": {"auxiliary": 20},
        },
    },
    "a rule": {"defense": "{}"},
    "a pre-aggregator": {"defense": ["{}", "median"]},
    "a defense of single updates": {"defense": "{}"},
    "a defense of a cut network": {**CUT, "defense": "{}"},
    "an inspector of models": {"defense": ["{}", "mean"]},
    "a partition": {"partition": {"name": "{}", "clients": 3}},
    "a dataset": {"dataset": {"name": "{}", "train_size": 60, "test_size": 40}, "model": "mlp"},
    "a model": {"model": {"name": "{}", "bias": False}},
    "an algorithm": {"federation": {"algorithm": "{}", "rounds": 1, "local": {"steps": 1, "batch_size": 4, "lr": 0.1}}},
    "a metric": {"metrics": ["{}"]},
    "a task": {"dataset": {"name": "sample_a_dataset", "train_size": 60, "test_size": 40}, "model": "mlp"},
}
RUN = """
import json, sys
import fedsec
from fedsec.report import run_report
from fedsec.report.page import Page
from fedsec.runs import InProcess, closing

for name in ("draw_curves", "draw_partitions", "draw_tradeoff"):  # tested elsewhere, and dearer than all the training
    setattr(run_report, name, lambda *_: [])
closing.run_page = lambda view: Page(view.summary.name, "", [])
assert fedsec.__file__.startswith(sys.argv[1]), fedsec.__file__
for title, scenario in json.loads(sys.argv[2]).items():
    folder = sys.argv[1] + "/runs/" + title.replace(" ", "_")
    result = fedsec.run({"name": "added", **scenario}, out=folder, executor=InProcess())
    assert not result.failures, (title, [record.get("error") for record in result.records])
    print(title)
"""


def test_every_row_is_tried() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(ROWS) == len(re.findall(r"^\| an? ", table, re.MULTILINE)), "a row of another form"
    assert ROWS.keys() == SOURCES.keys() == USED.keys()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source tree, with one thing more of each kind; bytecode comes along, and holds for what is as it was."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("attacks", "defenses", "scenarios", "fedsec"):
        shutil.copytree(ROOT / folder, root / folder, symlinks=True)
    for title, row in ROWS.items():
        add(root, title, row)
    return root


def named(title: str) -> str:
    return "sample_" + re.sub(r"\W", "_", title)


def add(root: Path, title: str, row: "re.Match[str]") -> None:
    """Do what a row says: one file, one import, one line of the table."""
    name, folder, variable, table = named(title), row[2], row[4], root / row[5]
    lines = [line[8:] for line in SOURCES[title].splitlines()]
    at = next(index for index, line in enumerate(lines) if line.startswith("class "))
    lines.insert(at + 1, '    """A sample."""\n')
    (root / folder / f"{name}.py").write_text("\n".join(lines))
    package = folder.replace("/", ".") if folder.startswith("fedsec") else f"fedsec.{folder}"
    text = table.read_text()
    last = list(re.finditer(r"^from fedsec\.[^(\n]*$", text, re.MULTILINE))[-1]
    line = f"\nfrom {package}.{name} import Sample as {name.title()}"
    text = text[: last.end()] + line + text[last.end() :]
    opening = re.search(rf"^{variable}\b[^{{\n]*{{", text, re.MULTILINE)
    assert opening is not None, f"{row[5]} has no table {variable}"
    text = f'{text[: opening.end()]}\n    "{name}": {name.title()},{text[opening.end() :]}'
    table.write_text(text)


def test_what_was_added_runs_in_a_scenario(copy: Path) -> None:
    base = {
        "dataset": {"name": "digits", "train_size": 60, "test_size": 40},
        "partition": {"name": "iid", "clients": 3},
        "model": "logistic",
        "federation": {"rounds": 1, "local": {"steps": 1, "batch_size": 20, "lr": 0.1}},
    }
    scenarios = {title: {**base, **json.loads(json.dumps(USED[title]).replace("{}", named(title)))} for title in ROWS}
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(copy), json.dumps(scenarios)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=copy,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == list(ROWS)
