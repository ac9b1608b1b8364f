"""What `inspect_model` measures of benign models, round by round: where its default limits come from.

    uv run python benchmarks/inspect_models.py digits mlp          # one dataset and model, all of their settings
    uv run python benchmarks/inspect_models.py table               # what was measured, summed up

Rows go to docs/results/inspect_model_benign.csv; those of the same dataset and model are replaced. Each row is a round
of one federation: of every statistic the largest over its clients, and how many clients would have refused.
"""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from measured_rows import read, write

from fedsec.auditing.rates import clopper_pearson
from fedsec.defense import Inspection, ReceivedModel
from fedsec.defenses import InspectModel
from fedsec.federation.updates import Federation
from fedsec.runs.experiment import build_experiment
from fedsec.scenario import load_scenario

TABLE = Path(sys.argv[3] if len(sys.argv) > 3 else Path(__file__).parents[1] / "docs/results/inspect_model_benign.csv")
STATISTICS = (
    *("d_snr", "exposed", "idle", "duplicated", "mirrored", "rank_deficit", "concentration", "gain", "bias"),
    *("zero_rows", "moved"),
)
COLUMNS = ("dataset", "model", "partition", "attack", "seed", "round", "accuracy", "inspected", "refused", *STATISTICS)
MODELS: dict[str, Any] = {
    "mlp": "mlp",
    "cnn": "cnn",
    "lenet": "lenet",
    "resnet_bn": {"name": "resnet8", "norm": "bn"},
    "resnet_gn": {"name": "resnet8", "norm": "gn"},
}
DATA: dict[str, tuple[Any, int, int]] = {
    "digits": ("digits", 12, 5),
    "fmnist": ({"name": "fmnist", "train_size": 2000, "test_size": 500}, 15, 4),
    "cifar10": ({"name": "cifar10", "train_size": 1000, "test_size": 300}, 6, 4),
}
"""Dataset -> how a scenario names it, rounds, local epochs."""
PARTITIONS: dict[str, dict[str, Any]] = {"iid": {"name": "iid"}, "dirichlet": {"name": "dirichlet", "alpha": 0.1}}
ATTACKS: dict[str, Any] = {"none": "none", "ipm": {"name": "ipm", "epsilon": 2.0, "num_byzantine": 2}}


class Watching(InspectModel):
    """Measures, notes what it would say, and refuses nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[Inspection] = []

    def examine(self, received: ReceivedModel) -> Inspection:
        inspection = super().examine(received)
        self.notes.append(inspection)
        return Inspection((), inspection.statistics)


def federation_of(dataset: str, model: str, partition: str, attack: str, seed: int) -> Federation:
    """A small federation of ten clients."""
    source, rounds, epochs = DATA[dataset]
    lr = 0.05 if model.startswith("resnet") else 0.1
    scenario = {
        "dataset": source,
        "partition": {**PARTITIONS[partition], "clients": 10},
        "model": MODELS[model],
        "federation": {"rounds": rounds, "local": {"epochs": epochs, "batch_size": 20, "lr": lr}},
        "attack": ATTACKS[attack],
        "defense": ["inspect_model", "mean"],
        "seed": seed,
    }
    (cell,) = load_scenario(scenario).cells()
    federation = build_experiment(cell.config, device=torch.device("cpu"), threads=1).federation
    assert isinstance(federation, Federation)
    return federation


def rows_of(dataset: str, model: str, partition: str, attack: str, seed: int) -> Iterator[dict[str, Any]]:
    """A row a round."""
    federation = federation_of(dataset, model, partition, attack, seed)
    watching = Watching()
    federation.inspections.inspector = watching
    for result in federation.run():
        row = {"dataset": dataset, "model": model, "partition": partition, "attack": attack, "seed": seed}
        row |= {"round": result.round, "accuracy": result.metrics["accuracy"], "inspected": len(watching.notes)}
        row["refused"] = sum(note.refused for note in watching.notes)
        for name in STATISTICS:
            values = [note.statistics[name] for note in watching.notes if name in note.statistics]
            row[name] = f"{max(values):.5g}" if values else ""
        watching.notes.clear()
        yield row


def measure(dataset: str, model: str, seeds: int = 2) -> None:
    """All settings of a dataset and a model; the table is written anew after each."""
    rows = [row for row in read(TABLE) if (row["dataset"], row["model"]) != (dataset, model)]
    for seed, partition, attack in product(range(seeds), PARTITIONS, ATTACKS):
        rows += rows_of(dataset, model, partition, attack, seed)
        print(dataset, model, partition, attack, seed, rows[-1])
        write(TABLE, COLUMNS, rows, COLUMNS[:6])


def table() -> None:
    """Print the largest of each statistic, by dataset, model and attack."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in read(TABLE):
        groups.setdefault((row["dataset"], row["model"], row["partition"], row["attack"]), []).append(row)
    print(*("data", "model", "partition", "attack", "inspected", "refused", *STATISTICS), sep="\t")
    for group, rows in groups.items():
        largest = [max((float(row[name]) for row in rows if row[name]), default=0.0) for name in STATISTICS]
        inspected, refused = (sum(int(row[name]) for row in rows) for name in ("inspected", "refused"))
        rate = clopper_pearson(refused, inspected)
        print(*group, inspected, rate, *(f"{value:.3g}" for value in largest), sep="\t")


if __name__ == "__main__":
    if sys.argv[1] == "table":
        table()
    else:
        measure(*sys.argv[1:3])
