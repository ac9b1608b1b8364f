"""Who may import whom: the rules that keep attacks and defenses usable in other people's code."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("attacks", "defenses", "scenarios")
FOLDERS = {"fedsec": ROOT / "fedsec"} | {f"fedsec.{name}": ROOT / name for name in LINKED}
# What foreign code must not get to load by importing an attack or a defense.
HEAVY = {
    "PIL",
    "flwr",
    "lightning",
    "lpips",
    "matplotlib",
    "opacus",
    "pandas",
    "pydantic",
    "ray",
    "rich",
    "safetensors",
    "skimage",
    "sklearn",
    "torchvision",
    "typer",
    "yaml",
}
FOREIGN_USE = """
import sys
import torch
before = set(sys.modules)
from fedsec.attacks import DLG, IDLG, Analytic, Decoupled, GradInversion, InvertingGradients, Labels
from fedsec.attacks import FeaturePoison, InvertFeatures, LabelFlip, LogitPoison, SignFlip
from fedsec.threat import Observation
from fedsec.defenses import DpSgd, KnowledgeScreening, Mean, Median, RobustLoss, TrimmedMean
from fedsec.defenses import ClipUpdate, GaussianNoise, Prune, Quantize, Sign, Soteria
assert Median()(torch.tensor([[1.0, 2.0], [3.0, 5.0], [9.0, 0.0]])).tolist() == [3.0, 2.0]
images, labels = torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 9])
flipped = LabelFlip().poison(images, labels, num_classes=10, generator=torch.Generator())[1]
assert flipped.tolist() == [9, 8, 0]
model, image = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)), torch.rand(1, 1, 4, 4)
loss = torch.nn.functional.cross_entropy(model(image), torch.tensor([2]))
gradient = torch.autograd.grad(loss, list(model.parameters()))
seen = Observation.of_gradient(model, gradient, input_shape=(1, 4, 4), num_classes=3, batch_size=1)
attacks = Analytic(), Decoupled(iterations=2), InvertingGradients(iterations=2), DLG(iterations=2), Labels()
assert [attack.reconstruct(seen).labels.tolist() for attack in attacks if not isinstance(attack, DLG)] == [[2]] * 4
assert torch.allclose(attacks[0].reconstruct(seen).images, image, atol=1e-4)
assert attacks[3].reconstruct(seen).images.shape == image.shape
assert DpSgd(1.0).noisy_mean(torch.ones(2, 3), 2.0, torch.Generator()).shape == (3,)
from fedsec.attacks import forge_state_dicts, search_local
from fedsec.defenses import StateLayout, aggregate_arrays, aggregate_state_dicts
from fedsec.threat import LocalSteps
sent = {name: values.clone() for name, values in model.state_dict().items()}
received = [{name: values + shift for name, values in sent.items()} for shift in (0.1, 0.2, 0.4)]
bias = sent["1.bias"]
assert torch.allclose(aggregate_state_dicts(received, "median", reference=sent).state_dict["1.bias"], bias + 0.2)
assert aggregate_arrays([[array.numpy() for array in sent.values()]], ["sign", "mean"], reference=list(sent.values()))
forged = forge_state_dicts(received, SignFlip(), reference=sent, byzantine=1).state_dicts[0]["1.bias"]
assert torch.allclose(forged, bias - 0.1)
after = {name: values - 0.1 * row for (name, values), row in zip(sent.items(), gradient, strict=True)}
known = dict(model=model, input_shape=(1, 4, 4), num_classes=3, batch_size=1)
assert Labels().reconstruct(Observation.of_state_dicts(sent, after, local=None, **known)).labels.tolist() == [2]
assert search_local(sent, after, Decoupled(iterations=2), [LocalSteps(0.1, 1)], **known).local.steps == 1
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
# What each process that trains a cell would wait for, some as long as for PyTorch.
SLOW = {"lpips", "opacus", "pandas", "scipy.optimize", "skimage", "sklearn", "torch._dynamo", "torchvision"}
TRAINING = """
import fedsec.metrics.images, fedsec.metrics.lpips, fedsec.metrics.texts
import numpy as np
from fedsec.data import load
from fedsec.data.datasets import Normalization
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.federation import FedGKT, KnowledgeFederation, ServerTraining
from fedsec.models import build
from fedsec.seeds import Streams

test = load("digits").test.take(np.arange(4))
data = ResidentData.build(test, [np.arange(4)], Normalization((0.5,), (0.25,)), torch.device("cpu"))
client, server = build("resnet4", (1, 8, 8), 10), build("resnet7", (16, 8, 8), 10)
gkt = FedGKT(LocalTraining(epochs=1, batch_size=4), ServerTraining(epochs=1))
federation = KnowledgeFederation(
    client, server, CohortTrainer(client, data), test, algorithm=gkt, streams=Streams(0), rounds=1, num_classes=10
)
assert len(list(federation.run())) == 1
print(*sorted(sys.modules))
"""


def modules() -> dict[str, Path]:
    """Every module of the project, by import name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            if package == "fedsec" and {"attacks", "defenses"} & set(path.relative_to(folder).parts):
                continue  # reached through the symbolic links
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(tree: ast.AST, at_import_time: bool) -> Iterator[str]:
    """Absolute names that a module imports; `from a import b` counts as both a and a.b."""
    for node in ast.iter_child_nodes(tree):
        if at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_import_time and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node, at_import_time)


def imported(name: str, at_import_time: bool) -> set[str]:
    return set(imports(ast.parse(MODULES[name].read_text()), at_import_time))


def run(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_foreign_code_and_training_get_nothing_heavy(tmp_path: Path) -> None:
    result = run(FOREIGN_USE + TRAINING, tmp_path)
    assert result.returncode == 0, result.stderr
    foreign, training = (set(line.split()) for line in result.stdout.splitlines())
    assert "fedsec" in foreign
    assert not foreign & HEAVY
    assert "fedsec.data.sources.digits" in training
    assert not training & SLOW


def test_packages_refuse_their_folder_name() -> None:
    code = (
        "for name in ('attacks', 'defenses'):\n    try: __import__(name)\n    except ImportError as error: print(error)"
    )
    assert run(code, ROOT).stdout.splitlines() == [
        f"this package is fedsec.{name}; do not import it as {name}" for name in ("attacks", "defenses")
    ]


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith(("fedsec.attacks.", "fedsec.defenses."))])
def test_methods_import_only_the_interfaces(name: str) -> None:
    """And others of their kind: an ensemble of attacks consists of attacks."""
    interfaces = (
        name.rpartition(".")[0],
        "fedsec.threat",
        "fedsec.matching",
        "fedsec.defense",
        "fedsec.privacy",
        "fedsec.auditing",
        "fedsec.errors",
    )
    for module in imported(name, at_import_time=False):
        if module.partition(".")[0] == "fedsec":
            allowed = module == "fedsec" or any(module == base or module.startswith(base + ".") for base in interfaces)
            assert allowed, f"{name} imports {module}"
    for module in imported(name, at_import_time=True):
        root = module.partition(".")[0]
        allowed = root in {"torch", "numpy", "scipy", "jaxtyping", "fedsec"} or root in sys.stdlib_module_names
        assert allowed, f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("fedsec.matching")])
def test_matching_is_as_light_as_the_attacks_that_use_it(name: str) -> None:
    interfaces = ("fedsec.threat", "fedsec.matching", "fedsec.errors")
    for module in imported(name, at_import_time=False):
        root = module.partition(".")[0]
        if root == "fedsec":
            assert any(module == base or module.startswith(base + ".") for base in interfaces), f"{name}: {module}"
        else:
            light = root in {"torch", "numpy", "scipy", "jaxtyping"} or root in sys.stdlib_module_names
            assert light, f"{name} imports {module}"


def test_opacus_and_ray_are_loaded_only_when_they_are_asked() -> None:
    for name in MODULES:
        loaded = {module.partition(".")[0] for module in imported(name, at_import_time=True)}
        assert not loaded & {"opacus", "ray"}, f"{name} imports one"


ONE_CALL = {
    f"fedsec.defense.{name}" for name in ("Pipeline", "StateLayout", "aggregate_arrays", "aggregate_state_dicts")
}
"""What stands beside the methods in their package: how to call them in one line."""


@pytest.mark.parametrize("package", ["attacks", "defenses"])
def test_method_packages_import_only_their_methods(package: str) -> None:
    for module in imported(f"fedsec.{package}", at_import_time=False):
        allowed = module.startswith(f"fedsec.{package}.") or module in ("fedsec.defense", *ONE_CALL)
        assert allowed, f"fedsec.{package} imports {module}"


def test_the_engine_knows_no_method() -> None:
    # Only runs, the command line and the registry sit on top; scenarios are read without loading any method.
    on_top = ("fedsec.runs", "fedsec.cli", "fedsec.plugins", "fedsec.attacks", "fedsec.defenses")
    for name in MODULES:
        if name == "fedsec" or name.startswith(on_top):
            continue
        for module in imported(name, at_import_time=False):
            assert not module.startswith(("fedsec.attacks", "fedsec.defenses")), f"{name} imports {module}"


BASE = ("errors", "seeds", "randomness", "arithmetic", "files", "environment")
LOWER = (*BASE, "cluster", "plugins", "threat", "privacy", "auditing", "defense", "recording", "data", "models")
UPPER = (
    *("metrics", "tasks", "matching", "properties", "engine", "membership", "federation"),
    *("scenario", "report", "inversion", "replays", "runs"),
)
ORDER = (*LOWER, *UPPER, "assessment", "flower", "testing", "cli")
"""Rooms of the house from the ground up: each may use those before it, and none of those behind it."""


def room(module: str) -> str:
    """The package, or the module beside the packages, that a module of fedsec lies in."""
    return module.split(".")[1] if "." in module else ""


def test_rooms_use_only_those_below_them() -> None:
    upward = []
    for name in MODULES:
        if name.startswith(("fedsec.attacks", "fedsec.defenses")) or name in ("fedsec", "fedsec.__main__"):
            continue
        for module in imported(name, at_import_time=False) & MODULES.keys() - {"fedsec"}:
            if ORDER.index(room(module)) > ORDER.index(room(name)):
                upward.append(f"{name} imports {module}")
    assert not upward, "\n".join(upward)


def test_imports_are_absolute_and_have_no_cycle() -> None:
    graph = {name: imported(name, at_import_time=True) & (MODULES.keys() - {name, "fedsec"}) for name in MODULES}
    for name, path in MODULES.items():
        if path.name == "__init__.py":  # loading a.b loads a first, which is no cycle if a imports a.b
            for child in graph:
                if child.startswith(name + "."):
                    graph[child].discard(name)
    TopologicalSorter(graph).prepare()


def test_packages_in_pyproject_are_the_folders_on_disk() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert sorted(on_disk) == sorted(setuptools["packages"])
    folders = {path.parent for path in MODULES.values()}
    assert folders == {MODULES[name].parent for name in on_disk}, "a folder without __init__.py"
    assert setuptools["package-dir"] == {name: str(folder.relative_to(ROOT)) for name, folder in FOLDERS.items()}


@pytest.mark.parametrize("package", LINKED)
def test_links_for_type_checkers(package: str) -> None:
    link = ROOT / "fedsec" / package
    assert link.is_symlink()
    assert link.readlink() == Path("..") / package
