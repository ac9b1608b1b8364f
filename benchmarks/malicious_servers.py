"""What malicious servers recover, by batch size, local training and defense.

Each row is one client with so many test images, the model that the attack crafts in place of an untrained one, and the
client's gradient (or its update over local steps), defended or not. An image is exact if every pixel, rounded to 8
bits, is the client's own; it is recovered if its mean squared error is below 0.01 (20 dB); originals and
reconstructions are assigned to each other. Where a batch has one image of the class that is fished for, only that image
counts. Gray images, and the nearest of the images that the server had already, are the null baselines.

Rows go to docs/results/malicious_servers.csv, each as soon as it is measured, with a hash of the code that measured it.
A run that was stopped goes on where it was: rows that this very code measured stay, all others are measured again. Run
it with

    uv run python benchmarks/malicious_servers.py                    # all rows, some minutes
    uv run python benchmarks/malicious_servers.py --only imprint     # those of one attack; others stay as they are
"""

import argparse
import csv
import hashlib
import inspect
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fedsec
from fedsec.data import load
from fedsec.data.dataset import Dataset
from fedsec.data.normalization import normalization
from fedsec.defense.updates import compose
from fedsec.errors import InputError
from fedsec.inversion.client import observe
from fedsec.inversion.server_view import pixel_scale
from fedsec.metrics.images import assign, psnr
from fedsec.models import build
from fedsec.plugins import registry
from fedsec.runs.provenance import code_of
from fedsec.threat import LocalSteps, Reconstruction, ServerView

OUT = Path(__file__).parents[1] / "docs/results/malicious_servers.csv"
COLUMNS: tuple[str, ...] = (
    "attack",
    "options",
    "dataset",
    "model",
    "batch_size",
    "clients",
    "local",
    "defense",
    "seed",
)
COLUMNS += (
    "exact",
    "recovered",
    "psnr_median",
    "psnr_gray",
    "recovered_auxiliary",
    "label_accuracy",
    "parameters",
    "seconds",
    "note",
    "code",
)
_SETTING = (*COLUMNS[:9],)
"""Columns that say which row it is."""
_FEDSEC = ("data", "defense", "inversion", "matching", "metrics", "models", "threat")
"""Packages that all rows come from, beside the attack and the benchmark."""
SEEDS = (0, 1, 2)
AUXILIARY = 2_000


@dataclass(frozen=True)
class Row:
    """One setting.

    Args:
        attack: its name.
        batch_size: images of a client.
        options: of the attack.
        dataset: whose test images these are.
        model: that is attacked; `strided` is two convolutions of stride 2 and a hidden layer.
        model_options: of the model.
        local: its local training; none for one gradient.
        defense: of the update.
        auxiliary: images that the server has.
        alone: a class of which the batch has exactly one image; None for batches as they come.
        clients: whose updates the server sees in one sum only; 1 where it sees the client's own.
    """

    attack: str
    batch_size: int
    options: dict[str, Any] = field(default_factory=dict)
    dataset: str = "cifar10"
    model: str = "cnn"
    model_options: dict[str, Any] = field(default_factory=dict)
    local: LocalSteps | None = None
    defense: tuple[dict[str, Any], ...] = ()
    auxiliary: int = AUXILIARY
    alone: int | None = None
    clients: int = 1

    def words(self) -> dict[str, Any]:
        """The setting, as columns."""
        local = self.local
        told = "" if local is None else f"{local.steps} steps of {local.batch_size or self.batch_size}, lr {local.lr:g}"
        options = {**self.options, **({} if self.auxiliary else {"auxiliary": 0})}
        options |= {} if self.alone is None else {"one image of the target": True}
        return {
            "attack": self.attack,
            "options": json.dumps(options) if options else "",
            "dataset": self.dataset,
            "model": " ".join([self.model, *(f"{key}={value}" for key, value in self.model_options.items())]),
            "batch_size": self.batch_size,
            "clients": self.clients,
            "local": told,
            "defense": " + ".join(
                " ".join([one["name"], *(f"{key}={value}" for key, value in one.items() if key != "name")])
                for one in self.defense
            ),
        }


def settings() -> Iterator[Row]:
    """All rows of the table."""
    for batch in (1, 4, 16, 64, 256):
        yield Row("imprint", batch)
    yield Row("imprint", 64, {"bins": 128})
    yield Row("imprint", 64, {"bins": 2048})
    yield Row("imprint", 64, auxiliary=0)
    for batch in (64, 256):
        yield Row("imprint", batch, {"variant": "cumulative"})
    for steps, size in ((2, 64), (8, 8), (40, 8)):
        yield Row("imprint", 64, local=LocalSteps(0.01, steps, size))
    yield Row("imprint", 64, {"variant": "cumulative"}, local=LocalSteps(0.01, 8, 8))
    for defense in DEFENSES:
        yield Row("imprint", 64, defense=defense)

    for attack in ("imprint", "loki"):
        for local in (None, LocalSteps(0.01, 8, 8)):
            yield Row(attack, 64, local=local, clients=4)
    yield Row("loki", 8, clients=4)
    yield Row("loki", 8, local=LocalSteps(0.01, 8, 4), clients=4)
    yield Row("loki", 64)

    for batch in (4, 16, 64):
        yield Row("trap_weights", batch, model="mlp", model_options={"hidden": (1000,)})
    for batch in (16, 64):
        yield Row("trap_weights", batch, model="strided", model_options={"hidden": 1000})
    for batch in (4, 64, 256):
        yield Row("fishing", batch, {"target_class": 3, "iterations": 600}, model="lenet", alone=3)


DEFENSES: tuple[tuple[dict[str, Any], ...], ...] = (
    ({"name": "clip", "max_norm": 0.1},),
    ({"name": "clip", "max_norm": 0.1}, {"name": "gaussian_noise", "std": 1e-6}),
    ({"name": "clip", "max_norm": 0.1}, {"name": "gaussian_noise", "std": 1e-5}),
    ({"name": "clip", "max_norm": 0.1}, {"name": "gaussian_noise", "std": 1e-4}),
    ({"name": "prune", "ratio": 0.9},),
    ({"name": "soteria"},),
    ({"name": "quantize"},),
    ({"name": "sign"},),
)


def measured(row: Row, seed: int) -> dict[str, Any]:
    """One client, attacked; its row."""
    dataset = load(row.dataset)
    draw = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(dataset.test), generator=draw)[: row.batch_size]
    if row.alone is not None:
        order = torch.randperm(len(dataset.test), generator=draw)
        own = dataset.test.labels[order] == row.alone
        chosen = torch.cat([order[own][:1], order[~own][: row.batch_size - 1]])
    images, labels = dataset.test.images[chosen], dataset.test.labels[chosen]
    ours = torch.randperm(len(dataset.train), generator=draw)[: max(row.auxiliary, 1)]
    auxiliary = dataset.train.images[ours].float() / 255
    constants = normalization("half")
    torch.manual_seed(seed)
    model = _model(row, dataset)
    attack = registry.load("inversion", row.attack)(**row.options)
    view = ServerView(
        model,
        dataset.image_shape,
        dataset.num_classes,
        len(images),
        pixel_scale(constants),
        row.local,
        auxiliary if row.auxiliary else None,
        dataset.train.labels[ours] if row.auxiliary else None,
    )
    begun = time.perf_counter()
    crafted = attack.craft(view, generator=draw)
    seconds = time.perf_counter() - begun
    content: dict[str, Any] = {**row.words(), "seed": seed, "parameters": _size(crafted)}
    transforms = [
        registry.load("defense", one["name"])(**{key: value for key, value in one.items() if key != "name"})
        for one in row.defense
    ]
    try:
        observation = observe(
            crafted,
            images,
            labels,
            num_classes=dataset.num_classes,
            normalization=constants,
            local=row.local,
            defense=compose(transforms) if transforms else None,
            noise=torch.Generator().manual_seed(seed),
            generator=draw,
        )
        begun = time.perf_counter()
        result = attack.reconstruct(observation, generator=draw)
        seconds += time.perf_counter() - begun
    except InputError as error:
        return {**content, "note": f"refused: {error}"}
    truth = images.float() / 255
    gray = torch.full_like(truth, 0.5)
    if row.alone is not None and result.images is not None:  # only that image counts
        place = int(assign(result.images, truth)[0])
        result = Reconstruction(result.images[place : place + 1], None)
        truth, images, gray = truth[:1], images[:1], gray[:1]
    content |= {"psnr_gray": round(float(psnr(gray, truth).mean()), 2), "seconds": round(seconds, 2)}
    content["recovered_auxiliary"] = round(_recovered(auxiliary, truth), 4) if row.auxiliary >= len(truth) else ""
    if result.images is not None:
        found = result.images[assign(result.images, truth)]
        same = (found.mul(255).round() == images).flatten(1).all(1)
        content |= {
            "exact": round(float(same.double().mean()), 4),
            "recovered": round(float((_errors(found, truth) < 0.01).double().mean()), 4),
            "psnr_median": round(float(psnr(found, truth).median()), 2),
        }
    if result.labels is not None:
        counts = [torch.bincount(part, minlength=dataset.num_classes) for part in (result.labels, labels)]
        content["label_accuracy"] = round(float(torch.minimum(*counts).sum()) / len(labels), 4)
    return content


def measured_of_sum(row: Row, seed: int) -> dict[str, Any]:
    """Clients whose sum is attacked; their row: shares are of the images of all of them.

    Where the attack keeps clients apart, an image counts only if it comes back as one of its own client's.
    """
    dataset, draw = load(row.dataset), torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(dataset.test), generator=draw)[: row.clients * row.batch_size]
    images, labels = (part[chosen] for part in (dataset.test.images, dataset.test.labels))
    ours = torch.randperm(len(dataset.train), generator=draw)[: row.auxiliary]
    auxiliary, constants = dataset.train.images[ours].float() / 255, normalization("half")
    torch.manual_seed(seed)
    view = ServerView(
        _model(row, dataset),
        dataset.image_shape,
        dataset.num_classes,
        row.batch_size,
        pixel_scale(constants),
        row.local,
        auxiliary,
        dataset.train.labels[ours],
        clients=row.clients,
    )
    attack = registry.load("inversion", row.attack)(**row.options)
    seconds, parts = 0.0, []
    for place in range(row.clients):
        begun = time.perf_counter()
        crafted = attack.craft(replace(view, place=place), generator=torch.Generator().manual_seed(seed))
        seconds += time.perf_counter() - begun
        own = slice(place * row.batch_size, (place + 1) * row.batch_size)
        parts.append(
            observe(
                crafted,
                images[own],
                labels[own],
                num_classes=dataset.num_classes,
                normalization=constants,
                local=row.local,
                generator=draw,
            )
        )
    summed = {name: sum(part.update[name] for part in parts) for name in parts[0].update}
    begun = time.perf_counter()
    if attack.separates_clients:
        seen = [replace(part, update=summed) for part in parts]
    else:  # the mean, as of one client that has all images
        mean = {name: update / row.clients for name, update in summed.items()}
        seen = [replace(parts[0], update=mean, batch_size=len(images), local=_together(row))]
    results = [attack.reconstruct(observation, generator=draw) for observation in seen]
    seconds += time.perf_counter() - begun
    truth, count = images.float() / 255, len(images) // len(results)
    groups = [(result, truth[place * count :][:count]) for place, result in enumerate(results)]
    recovered = torch.cat([result.images[assign(result.images, originals)] for result, originals in groups])
    in_common = 0
    for place, result in enumerate(results):
        known, true = (torch.bincount(part, minlength=10) for part in (result.labels, labels[place * count :][:count]))
        in_common += int(torch.minimum(known, true).sum())
    same = (recovered.mul(255).round() == images).flatten(1).all(1)
    return {
        **row.words(),
        "seed": seed,
        "parameters": _size(crafted),
        "exact": round(float(same.double().mean()), 4),
        "recovered": round(float((_errors(recovered, truth) < 0.01).double().mean()), 4),
        "psnr_median": round(float(psnr(recovered, truth).median()), 2),
        "psnr_gray": round(float(psnr(torch.full_like(truth, 0.5), truth).mean()), 2),
        "recovered_auxiliary": round(_recovered(auxiliary, truth), 4),
        "label_accuracy": round(in_common / len(labels), 4),
        "seconds": round(seconds, 2),
    }


def _together(row: Row) -> LocalSteps | None:
    """Local training of a sum's clients, read as one client's."""
    return row.local and replace(row.local, batch_size=row.clients * (row.local.batch_size or row.batch_size))


def _model(row: Row, dataset: Dataset) -> nn.Module:
    shape, classes = dataset.image_shape, dataset.num_classes
    if row.model != "strided":
        return build(row.model, shape, classes, **row.model_options)
    # Nothing of fedsec's has convolutions that may pass all pixels on, and a hidden layer behind them.
    hidden, first = row.model_options["hidden"], 4 * shape[0]
    side = shape[1] // 4
    return nn.Sequential(
        nn.Conv2d(shape[0], first, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(first, 4 * first, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * first * side**2, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def _errors(images: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (images - truth).square().flatten(1).mean(1)


def _recovered(auxiliary: torch.Tensor, truth: torch.Tensor) -> float:
    """How many originals are as near to an image that the server had already as a recovered one has to be."""
    distances = torch.cdist(truth.flatten(1), auxiliary.flatten(1)).square() / truth[0].numel()
    return float((distances.amin(1) < 0.01).double().mean())


def _size(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def code(attack: str) -> str:
    """A hash of the source that an attack's rows come from."""
    content = hashlib.sha256(code_of(registry.load("inversion", attack)).encode())
    for function in (
        measured,
        measured_of_sum,
        _together,
        _model,
        _errors,
        _recovered,
    ):  # and not the list of settings, which grows
        content.update(inspect.getsource(function).encode())
    for name in _FEDSEC:
        for file in sorted(Path(fedsec.__file__).with_name(name).rglob("*.py")):
            content.update(file.read_bytes())
    return content.hexdigest()[:12]


class Table:
    """Rows in a file, in the order of the settings.

    Args:
        path: of the file; what is in it stays where nothing of this run takes its place.
        order: of rows.
    """

    def __init__(self, path: Path, order: Sequence[tuple[str, ...]]) -> None:
        self.path, self.order = path, order
        self.rows: dict[tuple[str, ...], dict[str, Any]] = {}
        if path.exists():
            with path.open(newline="") as file:
                self.rows = {self.key(row): row for row in csv.DictReader(file)}
        # Rows of settings that are measured no more go.
        self.rows = {key: row for key, row in self.rows.items() if key in set(order)}

    @staticmethod
    def key(row: dict[str, Any]) -> tuple[str, ...]:
        """Which row it is."""
        return tuple(str(row[name]) for name in _SETTING)

    def has(self, key: tuple[str, ...], code: str) -> bool:
        """Whether this code measured it already."""
        return key in self.rows and self.rows[key].get("code") == code

    def add(self, row: dict[str, Any]) -> None:
        """Put a row in its place, and write the file."""
        self.rows[self.key(row)] = row
        before = self.path.with_suffix(".tmp")
        with before.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows[key] for key in self.order if key in self.rows)
        before.replace(self.path)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", help="rows of one attack")
    parser.add_argument("--clients", type=int, help="rows of sums of so many clients; 1 for a client's own update")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keys = {Table.key({**row.words(), "seed": seed}): (row, seed) for row in settings() for seed in SEEDS}
    table = Table(arguments.out, list(keys))
    # Once for each attack: a file that changes while the run goes on is not what measures.
    codes = {row.attack: code(row.attack) for row in settings()}
    for key, (row, seed) in keys.items():
        if (
            arguments.only not in (None, row.attack)
            or arguments.clients not in (None, row.clients)
            or table.has(key, codes[row.attack])
        ):
            continue
        measure = measured if row.clients == 1 else measured_of_sum
        line = {**measure(row, seed), "code": codes[row.attack]}
        table.add(line)
        print({name: value for name, value in line.items() if value != ""}, flush=True)


if __name__ == "__main__":
    main()
