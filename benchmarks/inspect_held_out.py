"""False alarms of `inspect_model` on honest models of every round, of federations that its limits were not chosen on.

    uv run python benchmarks/inspect_held_out.py                # all federations that are not there yet
    uv run python benchmarks/inspect_held_out.py table          # what was measured, summed up

Limits were chosen on the settings of `inspect_models.py` and `inspect_attacks.py`, and on some federations with seed 11
(docs/malicious_server.md says which); those below have other seeds, widths, learning rates, networks and data, and were
written down before they were measured. Rows go to docs/results/inspect_model_held_out.csv, those that are there stay.

A row is one federation of eight clients.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from inspect_models import Watching
from measured_rows import read, write
from torch import nn

from fedsec.auditing import clopper_pearson, clustered_rate
from fedsec.defenses import InspectModel
from fedsec.federation.updates import Federation
from fedsec.plugins import own_models
from fedsec.runs.experiment import build_experiment
from fedsec.scenario import load_scenario

TABLE = Path(__file__).parents[1] / "docs/results/inspect_model_held_out.csv"
STATISTICS = ("d_snr", "magnified", "exposed", "concentration", "gain", "bias", "rank_deficit", "moved")
CHECKS = tuple(name for name, limit in InspectModel().limits.items() if limit is not None)
KEY = ("dataset", "model", "setting", "seed")
COLUMNS = (
    *(*KEY, "accuracy", "inspected", "refused", "models", "models_refused", "by"),
    *STATISTICS,
)

FMNIST = {"name": "fashion_mnist", "train_size": 1600, "test_size": 300}
CIFAR = {"name": "cifar10", "train_size": 640, "test_size": 200}
Model = dict[str, Any] | str


def mlp(*hidden: int, **options: Any) -> Model:
    """A perceptron."""
    return {"name": "mlp", "hidden": list(hidden), **options}


def resnet(norm: str) -> Model:
    """A small ResNet."""
    return {"name": "resnet8", "norm": norm}


def dropout(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A perceptron with dropout."""
    inputs = int(torch.tensor(input_shape).prod())
    layers = nn.Linear(inputs, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.5)
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, num_classes))


DROPOUT = "inspect_held_out:dropout"
# Dataset, model, alpha of Dirichlet (None: iid), rounds, local epochs, learning rate, further keys of local training.
BENIGN: list[tuple[Any, Model, float | None, int, int, float, dict[str, Any]]] = [
    ("digits", mlp(384), 0.5, 15, 3, 0.15, {}),
    ("digits", mlp(48), None, 15, 3, 0.2, {}),
    ("digits", mlp(1500), 0.2, 12, 3, 0.1, {}),
    ("digits", mlp(128, 64), 0.5, 15, 3, 0.05, {"weight_decay": 5e-3}),
    ("digits", mlp(96, activation="sigmoid"), 0.5, 15, 3, 0.5, {}),
    ("digits", mlp(100), 0.3, 12, 3, 2.0, {}),
    ("digits", DROPOUT, 0.5, 15, 3, 0.1, {}),
    ("digits", {"name": "cnn", "channels": [8, 16]}, None, 30, 5, 0.3, {}),
    ("digits", "cnn", 0.2, 12, 4, 0.05, {"momentum": 0.9}),
    ("digits", "cnn", 0.3, 10, 3, 1.0, {}),
    ("digits", {"name": "lenet", "activation": "tanh", "init": "default"}, 0.3, 15, 4, 0.1, {}),
    ("digits", "lenet", None, 15, 4, 0.5, {}),
    ("digits", resnet("bn"), 0.1, 8, 2, 0.05, {}),
    ("digits", resnet("gn"), 0.3, 8, 2, 0.3, {}),
    ("digits", resnet("bn"), None, 12, 4, 0.2, {"weight_decay": 5e-3}),
    ("zero_digits", mlp(300), None, 12, 4, 0.2, {}),
    ("zero_digits", "cnn", 0.3, 12, 4, 0.2, {}),
    ("photos", mlp(200), None, 10, 5, 0.02, {}),
    ("photos", "cnn", None, 15, 5, 0.2, {}),
    ("photos", {"name": "lenet", "activation": "relu", "init": "default"}, None, 10, 5, 0.1, {}),
    ("photos", resnet("bn"), None, 6, 2, 0.1, {}),
    ("photos", resnet("gn"), None, 6, 2, 0.1, {}),
    (FMNIST, mlp(400), 0.1, 12, 3, 0.2, {}),
    (FMNIST, mlp(64, 32), 0.5, 12, 3, 0.3, {}),
    (FMNIST, "cnn", None, 12, 4, 0.4, {"weight_decay": 1e-3}),
    (FMNIST, {"name": "lenet", "activation": "relu", "init": "default"}, 0.3, 10, 3, 0.1, {}),
    (FMNIST, resnet("bn"), 0.5, 4, 1, 0.2, {}),
    (FMNIST, resnet("gn"), 0.5, 4, 1, 0.1, {}),
    (CIFAR, mlp(256), 0.5, 8, 4, 0.05, {}),
    (CIFAR, "cnn", None, 12, 4, 0.2, {}),
    (CIFAR, resnet("bn"), 0.5, 3, 1, 0.2, {}),
]


def _federation(
    place: int, source: Any, model: Model, alpha: float | None, rounds: int, epochs: int, lr: float, local: Any
) -> dict[str, Any] | None:
    partition = {"name": "iid"} if alpha is None else {"name": "dirichlet", "alpha": alpha}
    setting = f"{'iid' if alpha is None else f'dirichlet {alpha}'}, {rounds} rounds, {epochs} epochs, lr {lr}"
    row = {
        "dataset": source if isinstance(source, str) else source["name"],
        "model": model if isinstance(model, str) else " ".join(str(part) for part in model.values()),
        "setting": ", ".join([setting, *(f"{key} {value}" for key, value in local.items())]),
        "seed": 101 + place,
    }
    if known(row):
        return None
    scenario = {
        "dataset": source,
        "partition": {**partition, "clients": 8},
        "model": model,
        "federation": {"rounds": rounds, "local": {"epochs": epochs, "batch_size": 20, "lr": lr, **local}},
        "attack": "none",
        "defense": ["inspect_model", "mean"],
        "seed": 101 + place,
    }
    (cell,) = load_scenario(scenario).cells()
    federation = build_experiment(cell.config, device=torch.device("cpu"), threads=1).federation
    assert isinstance(federation, Federation)
    watching = Watching()
    federation.inspections.inspector = watching
    refused, models_refused = 0, 0
    for result in federation.run():
        new = watching.notes[row.get("inspected", 0) :]
        refused += (here := sum(note.refused for note in new))
        models_refused += here > 0
        row |= {"inspected": len(watching.notes), "accuracy": round(result.metrics["accuracy"], 3)}
    return row | judged(watching) | {"refused": refused, "models": rounds, "models_refused": models_refused}


def judged(watching: Watching, statistics: Sequence[str] = STATISTICS) -> dict[str, Any]:
    """Which checks refused how many, and the largest statistics."""
    notes, over = watching.notes, []
    for check in CHECKS:
        name = "magnified" if check == "d_snr" else check
        number = sum(not note.statistics.get(name, -1.0) <= watching.limits[check] for note in notes)
        over += [f"{check} {number}"] if number else []
    largest = {name: max((note.statistics.get(name, 0.0) for note in notes), default=0.0) for name in statistics}
    return {"by": ", ".join(over), **{name: f"{value:.3g}" for name, value in largest.items()}}


def known(row: dict[str, Any]) -> bool:
    """Whether it was measured already."""
    return any(all(str(row[name]) == other[name] for name in KEY) for other in read(TABLE))


def table() -> None:
    """Print the rates: of inspections, of models by any client, and with each federation as one trial."""
    rows = read(TABLE)
    kinds = {row["model"].partition(" ")[0] for row in rows}
    for kind in [*sorted(kinds), ""]:
        own = [row for row in rows if row["model"].startswith(kind)]
        refused, inspected, models, of_models = (
            [int(row[name]) for row in own] for name in ("refused", "inspected", "models_refused", "models")
        )
        print(kind or "all", len(own), f"{sum(refused)} of {sum(inspected)}", sep="\t", end="\t")
        print(clopper_pearson(sum(refused), sum(inspected)), clustered_rate(refused, inspected), sep="\t", end="\t")
        print(f"{sum(models)} of {sum(of_models)}", {row["by"] for row in own if row["by"]}, sep="\t")


def main() -> None:
    """Measure what is not there yet."""
    torch.set_num_threads(1)
    own_models.allow(DROPOUT)
    for place, settings in enumerate(BENIGN):
        row = _federation(place, *settings)
        if row is not None:
            write(TABLE, COLUMNS, [*read(TABLE), row], KEY)
            print({key: value for key, value in row.items() if value != ""}, flush=True)


if __name__ == "__main__":
    table() if sys.argv[1:] == ["table"] else main()
