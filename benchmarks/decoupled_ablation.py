"""What the decoupled attack owes to its parts, and what stops it; CSV on standard output.

DLG's LeNet with weights from U(-0.5, 0.5), images of a dataset's test split, labels inferred unless a row says
otherwise. `recovered` is the share of images with a mean squared error below 0.01 after the best assignment, `solved`
the share of batches whose features were found, `cosine` the worst of their images' cosines to the true features,
averaged over batches.

    uv run python benchmarks/decoupled_ablation.py features   # first stage alone: batch sizes, 10 and 100 classes
    uv run python benchmarks/decoupled_ablation.py ablation   # the parts of the second stage
    uv run python benchmarks/decoupled_ablation.py obstacles  # noise, pruning, local steps, too many images
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.func import functional_call

from fedsec.attacks.decoupled import Decoupled
from fedsec.data import load
from fedsec.models import build
from fedsec.threat import LocalSteps, Observation, Reconstruction

Change = Callable[[dict[str, Tensor], torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """One batch: what the client had, and what the server sees of it."""

    images: Tensor
    labels: Tensor
    features: Tensor
    observation: Observation


def main() -> None:
    """Parse the command line and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["features", "ablation", "obstacles"])
    parser.add_argument("--dataset", default="cifar10", help="any of fedsec's (default cifar10)")
    parser.add_argument("--trials", type=int, default=5, help="batches a row (default 5)")
    parser.add_argument("--batch-size", type=int, default=2, help="of ablation and obstacles (default 2)")
    parser.add_argument("--iterations", type=int, default=60, help="of the second stage (default 60)")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    columns = [
        "setting",
        "batch",
        "classes",
        "labels",
        "solved",
        "cosine",
        "recovered",
        "mse",
        "label_accuracy",
        "seconds",
    ]
    table = csv.DictWriter(sys.stdout, columns)
    table.writeheader()
    rows = {"features": features, "ablation": ablation, "obstacles": obstacles}[options.table]
    for row in rows(options):
        table.writerow(row)
        sys.stdout.flush()


def features(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """The first stage alone."""
    attack = Decoupled(iterations=1)
    for classes in (10, 100):
        for size in (2, 4, 8, 9, 16, 24, 32, 48, 64):
            if size < classes:
                for mode in ("random", "same"):
                    cases = [
                        case(options.dataset, size, seed, mode=mode, classes=classes) for seed in range(options.trials)
                    ]
                    yield row(f"{mode} labels", attack, cases, pixels=False)


def ablation(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """The second stage without one part at a time."""
    settings: dict[str, dict[str, float]] = {
        "default": {},
        "hardly any features": {"feature_weight": 1e-3},
        "hardly any gradient": {"gradient_weight": 1e-6},
        "no total variation": {"tv_weight": 0},
        "tenth of the total variation": {"tv_weight": 1},
        "total variation that stays": {"tv_weight": 0.02, "tv_end": 1},
        "less fading": {"tv_end": 0.05},
    }
    for mode in ("distinct", "same"):
        cases = [case(options.dataset, options.batch_size, seed, mode=mode) for seed in range(options.trials)]
        for name, changed in settings.items():
            attack = Decoupled(iterations=options.iterations, **changed)  # type: ignore[arg-type]
            yield row(f"{mode}: {name}", attack, cases)


def obstacles(options: argparse.Namespace) -> Iterator[dict[str, object]]:
    """What a client can do about it, or does anyway."""
    attack, size = Decoupled(iterations=options.iterations), options.batch_size

    def cases(change: Change | None = None, size: int = size, steps: int = 1, lr: float = 0.01) -> list[Case]:
        return [
            case(options.dataset, size, seed, mode="random", change=change, steps=steps, lr=lr, granted=True)
            for seed in range(options.trials)
        ]

    yield row("none", attack, cases())
    for share in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        yield row(f"noise of {share:g} of each layer's RMS", attack, cases(noise(share)))
    for share in (0.1, 0.5, 0.9):
        yield row(f"smallest {share:.0%} of each layer pruned", attack, cases(pruning(share)))
    for steps, lr in ((2, 1e-4), (2, 0.01), (5, 0.01)):
        yield row(f"{steps} local steps of lr {lr:g}", attack, cases(steps=steps, lr=lr))
    for more in (9, 10, 12):
        yield row(f"{more} images of 10 classes", attack, cases(size=more))


def noise(share: float) -> Change:
    """Normal noise, layer by layer."""

    def change(update: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return {
            name: entries + share * entries.square().mean().sqrt() * torch.randn(entries.shape, generator=generator)
            for name, entries in update.items()
        }

    return change


def pruning(share: float) -> Change:
    """The entries of least magnitude become zero, layer by layer."""

    def change(update: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return {
            name: torch.where(entries.abs() > entries.abs().quantile(share), entries, 0.0)
            for name, entries in update.items()
        }

    return change


def case(
    dataset: str,
    size: int,
    seed: int,
    *,
    mode: str,
    classes: int = 10,
    change: Change | None = None,
    steps: int = 1,
    lr: float = 0.01,
    granted: bool = False,
) -> Case:
    """A client's batch and what it sends; with 100 classes the labels are made up."""
    split = load(dataset).test
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(split), generator=generator)
    if mode == "same":
        order = order[split.labels[order] == split.labels[order[0]]]
    elif mode == "distinct":
        seen = [int(label) for label in split.labels[order[:1000]]]
        order = order[torch.tensor([seen.index(label) for label in dict.fromkeys(seen)])]
    images = split.images[order[:size]].float() / 255
    labels = split.labels[order[:size]]
    if classes != 10:
        labels = torch.randint(classes, (1 if mode == "same" else size,), generator=generator).expand(size).clone()
    shape = (images.shape[1], images.shape[2], images.shape[3])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build("lenet", shape, classes)
    update = trained(model, images, labels, steps, lr)
    if change is not None:
        update = change(update, generator)
    local = None if steps == 1 else LocalSteps(lr, steps)
    observation = Observation(model, update, shape, classes, size, local=local, labels=labels if granted else None)
    with torch.no_grad():
        entering = model.get_submodule("features")(images).flatten(1)
    return Case(images, labels, entering, observation)


def trained(model: nn.Module, images: Tensor, labels: Tensor, steps: int, lr: float) -> dict[str, Tensor]:
    """The gradient, or the difference that several full-batch steps make."""
    start = {name: parameter.detach() for name, parameter in model.named_parameters()}
    state = start
    for _ in range(steps):
        state = {name: row.detach().requires_grad_() for name, row in state.items()}
        loss = F.cross_entropy(functional_call(model, state, (images,)), labels)
        gradient = dict(zip(state, torch.autograd.grad(loss, list(state.values())), strict=True))
        if steps == 1:
            return gradient
        state = {name: state[name].detach() - lr * gradient[name] for name in state}
    return {name: state[name] - start[name] for name in state}


def row(setting: str, attack: Decoupled, cases: list[Case], *, pixels: bool = True) -> dict[str, object]:
    """One line of the table."""
    began = time.perf_counter()
    found = attack.reconstruct_many([each.observation for each in cases])
    seconds = time.perf_counter() - began
    errors, right, cosines = zip(*(score(result, each) for result, each in zip(found, cases, strict=True)), strict=True)
    squares = np.concatenate(errors)
    known = [cosine for cosine in cosines if cosine is not None]
    observation = cases[0].observation
    return {
        "setting": setting,
        "batch": observation.batch_size,
        "classes": observation.num_classes,
        "labels": "inferred" if observation.labels is None else "granted",
        "solved": f"{len(known) / len(cases):.2f}",
        "cosine": f"{np.mean(known):.6f}" if known else "",
        "recovered": f"{(squares < 0.01).mean():.2f}" if pixels else "",
        "mse": f"{squares.mean():.4f}" if pixels else "",
        "label_accuracy": f"{np.mean(right):.3f}",
        "seconds": f"{seconds / len(cases):.2f}",
    }


def score(result: Reconstruction, truth: Case) -> tuple[np.ndarray, float, float | None]:
    """Squared error of each image, share of right labels, worst cosine of the features, in the best assignments."""
    assert result.images is not None
    assert result.labels is not None
    distances = (result.images[:, None] - truth.images).square().flatten(2).mean(2).numpy()
    rows, columns = linear_sum_assignment(distances)
    classes = truth.observation.num_classes
    counts = (torch.bincount(labels, minlength=classes) for labels in (result.labels, truth.labels))
    right = float(torch.minimum(*counts).sum()) / len(truth.labels)
    if result.features is None:
        return distances[rows, columns], right, None
    cosines = F.cosine_similarity(result.features[:, None], truth.features, dim=2).numpy()
    return distances[rows, columns], right, float(cosines[linear_sum_assignment(-cosines)].min())


if __name__ == "__main__":
    main()
