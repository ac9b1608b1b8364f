"""How often `inspect_model` refuses models that a malicious server made, and which check it owes that to.

    uv run python benchmarks/inspect_attacks.py digits mlp         # one dataset and model, all attacks
    uv run python benchmarks/inspect_attacks.py table              # what was measured, summed up

Rows go to docs/results/inspect_model_attacks.csv; those of the same dataset and model are replaced. Attacks are
fedsec's own, and two of the literature written out here in their plain form: class fishing (Wen et al. 2022) and trap
weights (Boenisch et al. 2021). A row counts ten clients, each with its own examples.
"""

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from inspect_models import Watching, federation_of
from measured_rows import read, write
from torch import nn

from fedsec.attacks import INVERSIONS
from fedsec.defenses import InspectModel
from fedsec.errors import InputError
from fedsec.federation.updates import Federation
from fedsec.inversion.server_view import pixel_scale
from fedsec.threat import MaliciousServer, ServerView

TABLE = Path(sys.argv[3] if len(sys.argv) > 3 else Path(__file__).parents[1] / "docs/results/inspect_model_attacks.csv")
CHECKS = tuple(InspectModel().limits)
COLUMNS = (
    *("attack", "dataset", "model", "partition", "rounds_trained", "seed", "inspected", "refused"),
    *("refused_by_weights_and_gradients", *(f"by_{check}" for check in CHECKS), "d_snr_median", "exposed_median"),
)


def class_fishing(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """All classes but the first get no weight and a large bias: only its examples move what lies before."""
    head = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        head.weight[1:] = 0
        head.bias[1:] = 1000.0
    return model


def trap_weights(model: nn.Module, generator: torch.Generator, scale: float = 0.95) -> nn.Module:
    """Convolutions hand on; rows of the first linear layer are half negative, and the other half is that, scaled."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.dirac_(layer.weight)
            if isinstance(layer, nn.Linear):
                rows, columns = layer.weight.shape
                half = torch.randn(rows, columns // 2, generator=generator).abs() / columns**0.5
                rest = torch.zeros(rows, columns % 2)
                mirrored = torch.cat([-half, scale * half, rest], 1)
                order = torch.rand(rows, columns, generator=generator).argsort(1)
                layer.weight.copy_(mirrored.gather(1, order))
                layer.bias.zero_()
                break
    return model


def crafted(federation: Federation) -> Iterator[tuple[str, nn.Module]]:
    """Each attack's model."""
    generator = torch.Generator().manual_seed(0)
    model = federation.module
    view = ServerView(
        copy.deepcopy(model),
        tuple(federation.evaluator.images.shape[1:]),
        10,
        32,
        scale=pixel_scale(federation.data.normalization),
    )
    for name, attack in INVERSIONS.items():
        if isinstance(attack, type) and issubclass(attack, MaliciousServer):
            try:
                yield name, attack().craft(view, generator=generator)
            except InputError as error:
                print(name, "cannot be used here:", error)
    yield "class fishing (written out)", class_fishing(copy.deepcopy(model), generator)
    yield "trap weights (written out)", trap_weights(copy.deepcopy(model), generator)


def rows_of(dataset: str, model: str, partition: str, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each attack, on the untrained model and on one of four rounds."""
    federation = federation_of(dataset, model, partition, "none", seed)
    watching = Watching()
    federation.inspections.inspector = watching
    for trained in (0, 4):
        while federation.round < trained:
            federation.play()
        for attack, made in crafted(federation):
            watching.notes.clear()
            for client in range(federation.num_clients):
                federation.inspections.inspect(client, made, federation.round + 1)
            notes = watching.notes
            row: dict[str, Any] = {"attack": attack, "dataset": dataset, "model": model, "partition": partition}
            row |= {"rounds_trained": trained, "seed": seed, "inspected": len(notes)}
            row["refused"] = sum(note.refused for note in notes)
            limits = {check: limit for check, limit in watching.limits.items() if limit is not None}
            over = {
                check: [not note.statistics.get(check, -1.0) <= limit for note in notes]
                for check, limit in limits.items()
            }
            row |= {f"by_{check}": sum(refusals) for check, refusals in over.items()}
            row["refused_by_weights_and_gradients"] = sum(map(any, zip(*over.values(), strict=True)))
            for name in ("d_snr", "exposed"):
                values = torch.tensor([note.statistics.get(name, 0.0) for note in notes])
                row[f"{name}_median"] = f"{float(values.median()):.4g}"
            yield row


def measure(dataset: str, model: str) -> None:
    """All settings of a dataset and a model."""
    rows = [row for row in read(TABLE) if (row["dataset"], row["model"]) != (dataset, model)]
    for partition in ("iid", "dirichlet"):
        for seed in range(2):
            rows += rows_of(dataset, model, partition, seed)
    write(TABLE, COLUMNS, rows, COLUMNS[:6])


def table() -> None:
    """Print how many were refused, by attack and model."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in read(TABLE):
        groups.setdefault((row["attack"], row["dataset"], row["model"]), []).append(row)
    for group, rows in groups.items():
        counts = {name: sum(int(row[name] or 0) for row in rows) for name in COLUMNS[6:-2]}
        print(
            *group, *(f"{name}={count}" for name, count in counts.items() if count), rows[0]["d_snr_median"], sep="\t"
        )


if __name__ == "__main__":
    if sys.argv[1] == "table":
        table()
    else:
        measure(*sys.argv[1:3])
