"""ByzFL's sample configuration, end to end: in its own runner, and in fedsec on the same images.

Ten honest and two Byzantine clients, 200 steps of distributed SGD with worker momentum 0.9, learning rate 0.1, weight
decay 1e-4 and batches of 25; ByzFL's network for MNIST (431,080 parameters) on Fashion-MNIST, iid; ALIE with 1.5
standard deviations; nearest-neighbor mixing, then trimmed mean or Krum. Each contender is a process of its own, they
take turns, and preparing data and network is not timed; one evaluation of the 10,000 test images is, of either.

    uv run python benchmarks/byzantine_run.py                                  # half an hour on two quiet cores
    uv run python benchmarks/byzantine_run.py --steps 20 --repeats 1 --threads 1

Besides the seconds on the wall, the processor's are told: on a shared machine they are what to compare, with one
thread. ByzFL lives in an environment of its own under `benchmarks/.envs/`, the one of `aggregators.py`.
"""

import argparse
import gzip
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, median
from typing import Any

from aggregators import interpreter

HERE = Path(__file__).parent
FASHION = Path("/usr/share/datasets/fashion-mnist")
RAW = HERE / ".envs" / "images" / "FashionMNIST" / "raw"


def main() -> None:
    """Parse the command line; run all contenders in turns; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3, help="turns, each with a seed of its own (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's threads (default 2)")
    parser.add_argument("--data", type=Path, default=FASHION, help=f"Fashion-MNIST's four files (default {FASHION})")
    options = parser.parse_args()
    unpack(options.data)
    print("rule | contender | seconds, median | processor seconds, median | test accuracy, mean | accuracies")
    print("--- | --- | --- | --- | --- | ---", flush=True)
    for rule in ("TrMean", "Krum"):
        runs: dict[str, list[dict[str, Any]]] = {"fedsec": [], "ByzFL": []}
        for seed in range(options.repeats):
            for name, measured in runs.items():
                measured.append(run(name, rule, seed, options))
        for name, measured in runs.items():
            seconds, busy = (median(one[key] for one in measured) for key in ("seconds", "processor_seconds"))
            accuracies = [one["accuracy"] for one in measured]
            shown = " ".join(f"{accuracy:.3f}" for accuracy in accuracies)
            print(f"{rule} | {name} | {seconds:.1f} | {busy:.1f} | {mean(accuracies):.3f} | {shown}")
        ratios = [
            median(peer[key] / own[key] for own, peer in zip(runs["fedsec"], runs["ByzFL"], strict=True))
            for key in ("seconds", "processor_seconds")
        ]
        print(f"{rule} | ByzFL / fedsec | {ratios[0]:.2f} | {ratios[1]:.2f} | |", flush=True)


def run(name: str, rule: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """What one training measured."""
    common = ["--rule", rule, "--seed", str(seed), "--steps", str(options.steps), "--threads", str(options.threads)]
    command = [sys.executable, str(HERE / "contenders" / "byzantine_fedsec.py"), *common]
    if name == "ByzFL":
        script = HERE / "contenders" / "byzfl_run.py"
        command = [interpreter(), str(script), *common, "--data", str(RAW.parents[1])]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    measured: dict[str, Any] = json.loads(output.splitlines()[-1])
    return measured


def unpack(source: Path) -> None:
    """Lay out the images as torchvision's reader, which ByzFL uses, expects them."""
    RAW.mkdir(parents=True, exist_ok=True)
    for packed in sorted(source.glob("*-ubyte.gz")):
        target = RAW / packed.stem
        if not target.exists():
            target.write_bytes(gzip.decompress(packed.read_bytes()))
    if len(list(RAW.glob("*-ubyte"))) != 4:
        raise SystemExit(f"{source} lacks Fashion-MNIST's four files; give their folder with --data")


if __name__ == "__main__":
    main()
