"""Inverting Gradients, side by side: fedsec, breaching, and the invertinggradients repository of the paper's authors.

One CIFAR-10 test image behind one gradient, its label known; cosine distance and total variation, signed Adam in the
pixels' box, the same schedule, weights and random starts for all, on untrained LeNet, ConvNet64 and ResNet-18 (eval
mode) at 32x32; eight restarts as well on LeNet. Contenders get the model, the gradient and the label; the image stays
here, and what they return is scored here. Every repetition takes another image and another start, and within it the
contenders take turns on the same ones. Each first finds out how many iterations fit into the given seconds and then
runs its whole schedule with so many. An iteration is one step of one restart. Run it with

    uv run python benchmarks/inversion.py                                                 # about half an hour
    uv run python benchmarks/inversion.py --models lenet --iterations 20 --repetitions 1  # does it work

Peers live in environments of their own under `benchmarks/.envs/`, made by uv on the first run; their code is cloned
from GitHub into `benchmarks/.envs/checkouts/`, unless `--breaching` and `--invertinggradients` name folders that hold
it. Neither is a dependency of fedsec.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from cohort import ENVIRONMENTS, HERE, Contender, ContenderError, _call, _processor
from torch import Tensor
from torch.nn import functional as F

from fedsec.data import load
from fedsec.metrics.fidelity import psnr
from fedsec.models import build

sys.path.insert(0, str(HERE / "contenders"))
from inversion_workload import CLASSES, INPUT_SHAPE, LR, Problem

RESTARTS = {"lenet": (1, 8), "convnet64": (1,), "resnet18": (1,)}
"""Restarts measured on each model; one step of eight on the larger ones would take seconds."""
TV = {"lenet": 0.1, "convnet64": 1e-4, "resnet18": 0.01}
"""Weight of total variation on each model. Cosine distances of untrained ConvNet64s are so small that 0.01 beside them
leaves a smooth image only; on LeNet less than 0.01 leaves noise."""
CIFAR10 = ((0.4914672, 0.4822617, 0.4467701), (0.2470322, 0.2434851, 0.2615879))
"""Mean and standard deviation of each channel."""
UNEQUAL = 0.2
"""Share by which wall times may differ before the table says that they were not equal."""
COLUMNS = ("model", "restarts", "contender", "repetition", "image", "iterations", "seconds", "rate", "psnr")
COLUMNS += ("psnr_gray", "loss", "difference", "peak_mib", "attack_mib", "versions")


@dataclass(frozen=True)
class Peer:
    """A repository to compare with.

    Args:
        commit: of its code that is cloned.
        package: folder in it that is imported.
        requirements: of that package, besides PyTorch and what fedsec's models need.
    """

    commit: str
    package: str
    requirements: tuple[str, ...]


PEERS = {
    "breaching": Peer("8bd99d52cdb8c38d6b12a191e620d11d275a8d45", "breaching", ("hydra-core", "scipy")),
    "invertinggradients": Peer("1157b61c6704df42c497ab9eb074c75da5204334", "inversefed", ("pillow", "six")),
}


@dataclass(frozen=True)
class Picture:
    """What the client has.

    Args:
        number: among the test images.
        pixels: [1, 3, 32, 32], in [0, 1].
        label: [1], int64.
    """

    number: int
    pixels: Tensor
    label: Tensor


@dataclass
class Cell:
    """A model and a number of restarts, with the measurements of each contender."""

    model: str
    restarts: int
    runs: dict[str, list[dict]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def main() -> None:
    """Install what is missing, take turns, print the table."""
    options = parse()
    if hasattr(os, "sched_setaffinity"):  # children inherit it: nobody gets more cores than the others
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < options.threads:
            raise SystemExit(f"{options.threads} threads were asked for, but only {len(cores)} cores are available")
        os.sched_setaffinity(0, cores[: options.threads])
    torch.set_num_threads(options.threads)
    pictures = choose(options)
    rows = contenders(options)
    cells = [
        Cell(model, restarts)
        for model in options.models
        for restarts in RESTARTS[model]
        if restarts in options.restarts
    ]
    with tempfile.TemporaryDirectory() as folder:
        for repetition, picture in enumerate(pictures):
            for cell in cells:
                problem = pose(cell, picture, options, options.seed + repetition)
                names = [*rows][repetition % len(rows) :] + [*rows][: repetition % len(rows)]
                for name in names:
                    if name not in cell.problems:
                        print(
                            f"{repetition + 1}/{options.repetitions} {title(cell)}: {name}", file=sys.stderr, flush=True
                        )
                        measure(cell, rows[name], problem, picture, Path(folder), options)
                compare(cell, repetition)
                if options.csv:
                    write_csv(options.csv, cells)
    print(markdown(cells, list(rows), options))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", choices=RESTARTS, default=list(RESTARTS), metavar="NAME", help="some only"
    )
    parser.add_argument("--restarts", type=int, nargs="+", choices=(1, 8), default=[1, 8], help="some only")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="NAME", help="some only")
    parser.add_argument("--seconds", type=float, default=30, help="wall time of each attack (default 30)")
    parser.add_argument("--iterations", type=int, help="of each attack, exactly, instead of seconds")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each contender (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="cores for each contender (default 2)")
    parser.add_argument("--tv", type=float, help="weight of total variation (default: by model)")
    parser.add_argument("--seed", type=int, default=0, help="of images, weights and starts (default 0)")
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10 in it (default: fedsec's)")
    parser.add_argument("--csv", type=Path, help="also write every measurement to this file")
    for name in PEERS:
        parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=f"a checkout of {name}, instead of cloning it")
    options = parser.parse_args()
    if min(options.repetitions, options.threads, options.iterations or 1) < 1 or options.seconds <= 0:
        parser.error("repetitions, threads and iterations must be at least 1, and seconds positive")
    for name, peer in PEERS.items():
        given = getattr(options, name)
        if given and not (given / peer.package / "__init__.py").is_file():
            parser.error(f"--{name}: {given} has no folder {peer.package}")
    return options


def choose(options: argparse.Namespace) -> list[Picture]:
    """Random CIFAR-10 test images, one a repetition."""
    split = load("cifar10", options.data).test
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(options.seed)).tolist()
    return [
        Picture(index, split.images[index : index + 1].float() / 255, split.labels[index : index + 1])
        for index in order[: options.repetitions]
    ]


def contenders(options: argparse.Namespace) -> dict[str, Contender]:
    """All rows; peers get fedsec's own version of PyTorch."""
    rows = {"fedsec": Contender("fedsec", "inversion_fedsec.py")}
    shared = (f"torch=={version('torch').partition('+')[0]}", "torchvision", "numpy", "jaxtyping")
    for name in options.peers:
        rows[name] = Contender(name, f"inversion_{name}.py", (*shared, *PEERS[name].requirements))
    return rows


def pose(cell: Cell, picture: Picture, options: argparse.Namespace, seed: int) -> Problem:
    """What a server sees of a client with this image."""
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        module = build(cell.model, INPUT_SHAPE, CLASSES)
    mean, std = CIFAR10
    tv = TV[cell.model] if options.tv is None else options.tv
    problem = Problem(cell.model, module.state_dict(), [], picture.label, mean, std, tv, cell.restarts, seed)
    return replace(problem, gradient=gradient(problem, picture.pixels))


def gradient(problem: Problem, image: Tensor, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Of the cross-entropy of an image in [0, 1]."""
    module = problem.module().to(dtype)
    mean, std = problem.scale()
    loss = F.cross_entropy(module(((image - mean) / std).to(dtype)), problem.label)
    return list(torch.autograd.grad(loss, list(module.parameters())))


def distance(problem: Problem, image: Tensor) -> float:
    """Cosine distance of an image's gradient from the observed one, in float64."""
    ours = torch.cat([row.flatten() for row in gradient(problem, image, torch.float64)])
    observed = torch.cat([row.flatten() for row in problem.gradient]).double()
    return float(1 - F.cosine_similarity(ours, observed, 0))


def measure(
    cell: Cell, row: Contender, problem: Problem, picture: Picture, folder: Path, options: argparse.Namespace
) -> None:
    """Let one contender attack, and score what it returns."""
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    problem.write(folder / "problem.pt")
    try:
        paths = [HERE.parent, *([checkout(row.name, options)] if row.name in PEERS else [])]
        os.environ["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        command = [row.python(), str(HERE / "contenders" / row.script), "--problem", str(folder / "problem.pt")]
        command += ["--out", str(out), "--threads", str(options.threads), "--seconds", str(options.seconds)]
        command += ["--iterations", str(options.iterations)] if options.iterations else []
        _call(command, row.script, threads=options.threads)
    except (ContenderError, OSError) as error:
        cell.problems[row.name] = str(error)
        return
    found = torch.from_numpy(np.load(out.with_suffix(".npy"))).clamp(0, 1)
    scores = {
        "image": picture.number,
        "psnr": float(psnr(found, picture.pixels)),
        "psnr_gray": float(psnr(torch.full_like(found, 0.5), picture.pixels)),
        "loss": distance(problem, found),
        "found": found,
    }
    cell.runs.setdefault(row.name, []).append(json.loads(out.read_text()) | scores)


def checkout(name: str, options: argparse.Namespace) -> Path:
    """Folder with a peer's code."""
    given: Path | None = getattr(options, name)
    if given:
        return given.resolve()
    peer, folder = PEERS[name], ENVIRONMENTS / "checkouts" / name
    if not (folder / peer.package / "__init__.py").is_file():
        url = f"https://github.com/JonasGeiping/{name}"
        if not (folder / ".git").exists():
            _call(["git", "clone", "--filter=blob:none", "--no-checkout", url, str(folder)], "git clone")
        _call(["git", "-C", str(folder), "sparse-checkout", "set", peer.package], "git sparse-checkout")
        _call(["git", "-C", str(folder), "checkout", "--detach", peer.commit], "git checkout")
    return folder


def compare(cell: Cell, repetition: int) -> None:
    """Note how far each contender's image is from fedsec's: after equal iterations, whether it is the same attack."""
    latest = {name: runs[repetition] for name, runs in cell.runs.items() if len(runs) > repetition}
    for run in latest.values():
        if "fedsec" in latest:
            run["difference"] = float((run["found"] - latest["fedsec"]["found"]).abs().mean())


def write_csv(path: Path, cells: list[Cell]) -> None:
    """One line a run."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for cell in cells:
            for name, runs in cell.runs.items():
                for number, run in enumerate(runs):
                    versions = " ".join(f"{key}={value}" for key, value in run["versions"].items())
                    place = {"model": cell.model, "restarts": cell.restarts, "contender": name, "repetition": number}
                    writer.writerow(run | place | {"versions": versions})


def markdown(cells: list[Cell], names: list[str], options: argparse.Namespace) -> str:
    """The table, with the machine and the versions below."""
    budget = f"{options.iterations} iterations" if options.iterations else f"{options.seconds:g} s"
    heading = ["model", "contender", "iterations/s, median", "range", "fedsec's over it", f"PSNR after {budget}, mean"]
    heading += ["fedsec's above it, dB", "cosine distance", "mean difference to fedsec", "seconds", "peak MiB"]
    heading += ["of it the attack"]
    lines = ["| " + " | ".join(heading) + " |", "|---|---|" + "---:|" * (len(heading) - 2)]
    lines += [line(cell, name, len(heading)) for cell in cells for name in names]
    versions: dict[str, str] = {}
    for cell in cells:
        for runs in cell.runs.values():
            versions |= {key: value for run in runs for key, value in run["versions"].items()}
    commits = [f"{name} at {PEERS[name].commit[:7]}" for name in names if name in PEERS and not getattr(options, name)]
    listed = ", ".join([*(f"{name} {number}" for name, number in sorted(versions.items())), *commits])
    measured = [run for cell in cells for runs in cell.runs.values() for run in runs]
    if not measured:
        return "\n".join(lines)
    gray = statistics.fmean(run["psnr_gray"] for run in measured)
    weights = ", ".join(f"{TV[name]:g} ({name})" for name in options.models) if options.tv is None else options.tv
    lines += [
        "",
        f"{options.repetitions} repetitions, each with another image and start, contenders taking turns; total "
        f"variation {weights}, learning rate {LR}; a gray image has PSNR {gray:.1f}; {options.threads} cores each; "
        f"{_processor()}; Python {platform.python_version()}, {listed}.",
    ]
    longest, shortest = max(run["seconds"] for run in measured), min(run["seconds"] for run in measured)
    if not options.iterations and longest > (1 + UNEQUAL) * shortest:
        lines.append(f"Wall times were not equal ({shortest:.1f} to {longest:.1f} s): the machine was disturbed.")
    return "\n".join(lines)


def line(cell: Cell, name: str, columns: int) -> str:
    """One contender's row of the table."""
    runs = cell.runs.get(name, [])
    if not runs:
        return f"| {title(cell)} | {name} | not measured: {cell.problems[name]} |" + " |" * (columns - 3)
    middle = {
        key: statistics.median(run[key] for run in runs)
        for key in ("rate", "loss", "seconds", "peak_mib", "attack_mib")
    }
    pairs = list(zip(cell.runs.get("fedsec", []), runs, strict=False))
    if name == "fedsec" or not pairs:
        speed = gain = difference = ""
    else:
        speed = f"{statistics.median(ours['rate'] / theirs['rate'] for ours, theirs in pairs):.2f}x"
        gain = f"{statistics.fmean(ours['psnr'] - theirs['psnr'] for ours, theirs in pairs):+.2f}"
        difference = f"{statistics.median(theirs['difference'] for _, theirs in pairs):.4f}"
    rates = [run["rate"] for run in runs]
    values = [title(cell), name, f"{middle['rate']:.3g}", f"{min(rates):.3g} to {max(rates):.3g}", speed]
    values += [f"{statistics.fmean(run['psnr'] for run in runs):.2f}", gain, f"{middle['loss']:.2g}", difference]
    values += [f"{middle['seconds']:.1f}", f"{middle['peak_mib']:.0f}", f"{middle['attack_mib']:.0f}"]
    return "| " + " | ".join(values) + " |"


def title(cell: Cell) -> str:
    """What to call a cell."""
    return cell.model if cell.restarts == 1 else f"{cell.model}, {cell.restarts} restarts"


if __name__ == "__main__":
    main()
