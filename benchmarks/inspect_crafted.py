"""`inspect_model` on models that malicious servers make of networks, data and seeds that its limits were not chosen on.

    uv run python benchmarks/inspect_crafted.py                 # all rows that are not there yet
    uv run python benchmarks/inspect_crafted.py table           # what was measured, summed up

Rows go to docs/results/inspect_model_crafted.csv. A row is one crafted model that ten clients with 36 test images each
look at (three with 16, of photos), and that of the honest model of which it was made. Beside fedsec's own attacks stand
bins in the first layer that all pixels reach, behind convolutions that pass them on, and attackers who know the checks:
noise hides that rows repeat or mirror each other, more images pass a row, fewer rows are changed. Where an attack reads
images off rows, `read` is the share of batches of 32 that comes back (mean squared error below 0.001); `read_honest` is
what rows and differences of neighbors of the honest model give, where all pixels reach a hidden layer.
"""

import copy
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from inspect_held_out import judged
from inspect_models import Watching
from measured_rows import read, write
from torch import Tensor, nn

from fedsec.attacks import INVERSIONS
from fedsec.auditing import clopper_pearson, clustered_rate
from fedsec.data import load
from fedsec.data.normalization import normalization
from fedsec.defenses import InspectModel
from fedsec.errors import InputError
from fedsec.inversion.server_view import pixel_scale
from fedsec.matching.pixel_paths.convolutions import pass_pixels_on
from fedsec.matching.pixel_paths.pixel_layer import pixel_layer
from fedsec.metrics.images import assign
from fedsec.models import build
from fedsec.threat import Observation, ServerView

TABLE = Path(__file__).parents[1] / "docs/results/inspect_model_crafted.csv"
KEY = ("dataset", "model", "setting", "seed", "attack")
STATISTICS = ("d_snr", "magnified", "exposed", "concentration", "gain", "bias", "rank_deficit")
COLUMNS = (*KEY, "inspected", "refused", "without_architecture", "by", "read", "read_honest", *STATISTICS)
CLIENTS, BATCH = 10, 32


def convolutional(input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Convolutions with a stride that lose no pixel, and a hidden layer behind them."""
    depth, side = input_shape[0], input_shape[1] // 4
    return nn.Sequential(
        nn.Conv2d(depth, 4 * depth, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(4 * depth, 16 * depth, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * depth * side**2, 1000),
        nn.ReLU(),
        nn.Linear(1000, num_classes),
    )


def imprinted(model: nn.Module, view: ServerView, share: float, noise: float, draw: torch.Generator) -> nn.Module:
    """Bins by brightness in the layer that all pixels reach, in a share of its rows; the rest stays as it is."""
    model = copy.deepcopy(model)
    if any(isinstance(part, nn.Conv2d) for part in model.modules()):
        pass_pixels_on(model, view.input_shape, view.scale)
    entrance = pixel_layer(model, view.input_shape, view.scale)
    assert entrance is not None
    assert view.auxiliary is not None
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    (layer, head), rows = layers[-2:], round(share * len(layers[-2].weight))
    pixels = view.auxiliary.flatten(1)
    inputs = pixels if entrance.columns is not None else view.scale.apply(view.auxiliary).flatten(1)
    columns = torch.arange(layer.weight.shape[1]) if entrance.columns is None else entrance.columns
    with torch.no_grad():
        size = layer.weight.norm(dim=1).median()
        row = torch.full((len(columns),), float(size) / len(columns) ** 0.5)
        edges = (inputs @ row).quantile(torch.arange(1, rows + 1) / (rows + 1))
        layer.weight[:rows] = 0
        layer.weight[:rows, columns] = row + noise * row[0] * torch.randn(rows, len(columns), generator=draw)
        layer.bias[:rows] = -edges
        head.weight[:, :rows] = head.weight[:, :1].clone()
        for part in model.modules():
            if isinstance(part, nn.Conv2d):
                part.weight += 0.3 * noise * torch.randn(part.weight.shape, generator=draw)
    return model


def trapped(model: nn.Module, view: ServerView, share: float, noise: float, draw: torch.Generator) -> nn.Module:
    """fedsec's trap weights that let a larger share of images through, with noise that hides their mirrored rows."""
    crafted = INVERSIONS["trap_weights"](share=share).craft(view, generator=draw)
    entrance = pixel_layer(crafted, view.input_shape, view.scale)
    assert entrance is not None
    weight = crafted.get_submodule(entrance.name).weight
    assert isinstance(weight, Tensor)
    with torch.no_grad():
        used = weight if entrance.columns is None else weight[:, entrance.columns]
        noisy = used + noise * used.square().mean(1, keepdim=True).sqrt() * torch.randn(used.shape, generator=draw)
        weight[:, slice(None) if entrance.columns is None else entrance.columns] = noisy
    return crafted


Craft = Callable[[nn.Module, ServerView, torch.Generator], nn.Module]


def own(name: str, **options: Any) -> tuple[str, Craft]:
    """An attack of fedsec's."""
    words = " ".join([name, *(f"{key}={value}" for key, value in options.items())])
    return words, lambda model, view, draw: INVERSIONS[name](**options).craft(view, generator=draw)


HONEST: tuple[str, Craft] = ("honest", lambda model, view, draw: model)
IN_FRONT = [
    HONEST,
    own("imprint"),
    own("imprint", variant="cumulative"),
    own("loki"),
    own("loki", bins=128),
    own("fishing", target_class=2),
]
BINS: list[tuple[str, Craft]] = [
    (f"bins in {share:.0%} of the rows, {noise:.0%} noise", lambda m, v, d, s=share, n=noise: imprinted(m, v, s, n, d))
    for share, noise in ((1.0, 0.0), (1.0, 0.1), (0.2, 0.1))
]
TRAPS: list[tuple[str, Craft]] = [
    own("trap_weights"),
    *(
        (
            f"trap_weights for {share} of 32, {noise:.0%} noise",
            lambda m, v, d, s=share, n=noise: trapped(m, v, s / 32, n, d),
        )
        for share, noise in ((1, 0.1), (4, 0.1))
    ),
]
SEER = own("seer", steps=150)
CRAFTED: list[tuple[str, Any, list[tuple[str, Craft]]]] = [
    ("digits", {"name": "mlp", "hidden": (384,)}, [*IN_FRONT, *BINS, *TRAPS, SEER]),
    ("fashion_mnist", {"name": "mlp", "hidden": (1000,)}, [*IN_FRONT, *BINS, *TRAPS]),
    ("fashion_mnist", "convolutional", [*IN_FRONT, *BINS, *TRAPS]),
    ("digits", {"name": "cnn"}, IN_FRONT),
    ("photos", {"name": "cnn"}, IN_FRONT),
    ("digits", {"name": "resnet8", "norm": "bn"}, IN_FRONT),
    ("digits", {"name": "resnet8", "norm": "gn"}, IN_FRONT),
    ("photos", {"name": "resnet8", "norm": "bn"}, IN_FRONT),
    ("photos", {"name": "resnet8", "norm": "gn"}, IN_FRONT),
    # Measured again when all others were known: such rows had been taken out, and the list reordered, during the run.
    ("cifar10", {"name": "cnn"}, IN_FRONT),
    ("cifar10", {"name": "mlp", "hidden": (1000,)}, [*IN_FRONT, *BINS, *TRAPS]),
    ("digits", {"name": "cnn"}, [own("seer", steps=60)]),
    ("digits", {"name": "resnet8", "norm": "gn"}, [own("seer", steps=30)]),
]


def attacks() -> Iterator[dict[str, Any]]:
    """A row a crafted model."""
    for source, model, crafts in CRAFTED:
        for seed in (201, 202):
            yield from _crafted(source, model, crafts, seed)


def _crafted(source: str, options: Any, crafts: list[tuple[str, Craft]], seed: int) -> Iterator[dict[str, Any]]:
    words = options if isinstance(options, str) else " ".join(str(value) for value in options.values())
    row: dict[str, Any] = {"dataset": source, "model": words, "seed": seed}
    row["setting"] = "untrained" if seed == 201 else "trained"
    todo = [(name, craft) for name, craft in crafts if not known({**row, "attack": name})]
    if not todo:
        return
    dataset, scale = load(source), pixel_scale(normalization("half"))
    shape, classes, draw = dataset.image_shape, dataset.num_classes, torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    honest = convolutional(shape, classes) if options == "convolutional" else build(**_named(options, shape, classes))
    order = torch.randperm(len(dataset.train), generator=draw)[:2000]
    images, labels = dataset.train.images[order].float() / 255, dataset.train.labels[order]
    if seed == 202:
        others = slice(1000 if len(images) > 1000 else 0, None)
        _train(honest, scale.apply(images[others]), labels[others], draw)
    chosen = torch.randperm(len(dataset.test), generator=draw)[: 36 * CLIENTS]
    truth, classes_of = dataset.test.images[chosen].float() / 255, dataset.test.labels[chosen]
    clients = min(CLIENTS, len(truth) // 16)  # photos are few
    view = ServerView(honest, shape, classes, BATCH, scale, auxiliary=images[:1000], auxiliary_labels=labels[:1000])
    for name, craft in todo:
        try:
            crafted = craft(honest, view, draw)
        except InputError as error:
            print(source, words, name, "cannot be used:", error)
            continue
        watching = Watching()
        refused = sum(
            bool(_reasons(watching, crafted, honest, scale.apply(truth[client::clients]), classes_of[client::clients]))
            for client in range(clients)
        )
        unaware = InspectModel(architecture=False)
        without = sum(
            unaware.inspect(crafted, scale.apply(truth[place::clients]), classes_of[place::clients]).refused
            for place in range(clients)
        )
        counts = {"inspected": clients, "refused": refused, "without_architecture": without}
        shares = _read(name, crafted, honest, view, truth, classes_of, draw)
        yield {
            **row,
            "attack": name,
            **counts,
            "without_architecture": without,
            **shares,
            **judged(watching, STATISTICS),
        }


def _named(options: Any, shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    return {**options, "input_shape": shape, "num_classes": classes}


def _reasons(watching: Watching, model: nn.Module, expected: nn.Module, images: Tensor, labels: Tensor) -> Any:
    watching.inspect(model, images, labels, expected=expected)
    return watching.notes[-1].reasons


def _train(model: nn.Module, inputs: Tensor, labels: Tensor, draw: torch.Generator) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(150):
        chosen = torch.randint(len(inputs), (20,), generator=draw)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
        optimizer.step()


def _read(
    name: str, crafted: nn.Module, honest: nn.Module, view: ServerView, truth: Tensor, labels: Tensor, draw: Any
) -> dict[str, Any]:
    """Shares of a batch that come back, over three batches."""
    kind = name.split(" ")[0]
    if kind not in ("imprint", "loki", "trap_weights", "bins"):
        return {}
    shares: dict[str, list[float]] = {"read": []}
    for batch in range(min(3, len(truth) // BATCH)):
        part = slice(batch * BATCH, (batch + 1) * BATCH)
        images, targets = truth[part], labels[part]
        shares["read"].append(_share(crafted, "rows" if kind == "bins" else kind, view, images, targets, draw))
        linear = [layer for layer in honest.modules() if isinstance(layer, nn.Linear)]
        if len(linear) > 1:
            shares.setdefault("read_honest", []).append(_share(honest, "rows", view, images, targets, draw))
    return {key: round(share, 3) for key, values in shares.items() if not math.isnan(share := fmean(values))}


def _share(
    model: nn.Module, reader: str, view: ServerView, images: Tensor, labels: Tensor, draw: torch.Generator
) -> float:
    loss = F.cross_entropy(model(view.scale.apply(images)), labels)
    rows = torch.autograd.grad(loss, list(model.parameters()))
    if reader != "rows":
        seen = Observation.of_gradient(
            model, rows, input_shape=view.input_shape, num_classes=view.num_classes, batch_size=BATCH, scale=view.scale
        )
        recovered = INVERSIONS[reader]().reconstruct(seen, generator=draw).images
        assert recovered is not None
        recovered = recovered[assign(recovered, images)]
        return float(((recovered - images).square().flatten(1).mean(1) < 1e-3).double().mean())
    gradients = dict(zip([name for name, _ in model.named_parameters()], rows, strict=True))
    entrance = pixel_layer(model, view.input_shape, view.scale)
    if entrance is None:  # not all pixels come through unmixed: nothing is known of who solves for them
        return math.nan
    weight, bias = (gradients[f"{entrance.name}.{part}"].double() for part in ("weight", "bias"))
    candidates = []
    for first, second in ((weight, bias), (weight.diff(dim=0), bias.diff())):
        told = second.abs() > 1e-9 * bias.abs().max()
        inputs = first[told] / second[told][:, None]
        if entrance.columns is None:
            mean, std = (part.expand(view.input_shape).flatten() for part in view.scale.tensors(inputs))
            inputs = inputs * std + mean
        else:
            inputs = inputs[:, entrance.columns]
        candidates.append(inputs)
    distances = torch.cdist(images.double().flatten(1), torch.cat(candidates)).square() / images[0].numel()
    return float((distances.amin(1) < 1e-3).double().mean())


def known(row: dict[str, Any]) -> bool:
    """Whether it was measured already."""
    return any(all(str(row[name]) == other[name] for name in KEY) for other in read(TABLE))


def table() -> None:
    """Print the rates: of inspections, and with each crafted model as one trial."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in read(TABLE):
        groups.setdefault(row["attack"], []).append(row)
    for attack, rows in groups.items():
        refused, inspected = ([int(row[name]) for row in rows] for name in ("refused", "inspected"))
        without = [int(row["without_architecture"]) for row in rows]
        shares = [[float(row[name]) for row in rows if row[name]] for name in ("read", "read_honest")]
        print(attack, f"{sum(refused)} of {sum(inspected)}, {sum(without)} without architecture", sep="\t", end="\t")
        print(clopper_pearson(sum(refused), sum(inspected)), clustered_rate(without, inspected), sep="\t", end="\t")
        print(*(f"{fmean(share):.2f}" if share else "-" for share in shares), sep="\t")


def main() -> None:
    """Measure what is not there yet."""
    torch.set_num_threads(1)
    for row in attacks():
        write(TABLE, COLUMNS, [*read(TABLE), row], KEY)
        print({key: value for key, value in row.items() if value != ""}, flush=True)


if __name__ == "__main__":
    table() if sys.argv[1:] == ["table"] else main()
