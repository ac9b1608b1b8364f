"""What a round of an algorithm costs beside one of FedAvg, on the vectorized engine, in one process.

All federations have the same clients, batches and network, and play a round each in turns, the order changing from turn
to turn; what is told is processor time as a ratio to FedAvg's, by the median of the turns. Nothing is evaluated.

    uv run python benchmarks/algorithms.py                       # some minutes
    uv run python benchmarks/algorithms.py --turns 10 --model mlp --algorithm SCAFFOLD --algorithm FedDyn
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from fedsec.data.datasets import Normalization, Split
from fedsec.defenses import Mean
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.allocator import tune_allocator
from fedsec.federation import (
    FedAvg,
    FedDyn,
    Federation,
    FedNova,
    FedOpt,
    FedProx,
    LocalSGD,
    Scaffold,
    SlowMo,
    UpdateAlgorithm,
)
from fedsec.models import build
from fedsec.seeds import Streams

LOCAL = LocalTraining(steps=10, batch_size=20, lr=0.05)
MOMENTUM = LocalTraining(steps=10, batch_size=20, lr=0.05, momentum=0.9)
ALGORITHMS: dict[str, UpdateAlgorithm] = {
    "FedAvg": FedAvg(local=LOCAL),
    "FedAvg again": FedAvg(local=LOCAL),
    "FedProx": FedProx(local=LOCAL),
    "FedOpt, adam": FedOpt(local=LOCAL),
    "FedNova": FedNova(local=LOCAL),
    "SCAFFOLD": Scaffold(local=LOCAL),
    "FedDyn": FedDyn(local=LOCAL),
    "FedAvg, momentum": FedAvg(local=MOMENTUM),
    "SlowMo, momentum": SlowMo(local=MOMENTUM),
    "local SGD, buffers kept": LocalSGD(local=MOMENTUM, buffers="keep"),
}
LIMIT = 1.15
"""What a round of FedOpt, FedNova, SCAFFOLD and FedDyn should cost at most, in rounds of FedAvg."""


def main() -> None:
    """Parse the command line; play rounds in turns; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--model", action="append", help="of 28x28 images (default: mlp, lenet and pooled_cnn)")
    parser.add_argument("--algorithm", action="append", choices=[*ALGORITHMS], help="beside FedAvg (default: all)")
    options = parser.parse_args()
    tune_allocator()  # as every fedsec worker process does
    names = {"FedAvg", *(options.algorithm or ALGORITHMS)}
    print(
        "network | algorithm | ms a round, median | beside FedAvg | middle half of turns\n--- | --- | --- | --- | ---"
    )
    for model in options.model or ["mlp", "lenet", "pooled_cnn"]:
        plays = {name: federation(model, one, options).play for name, one in ALGORITHMS.items() if name in names}
        seconds = turns(plays, options.turns)
        base = seconds["FedAvg"]
        for name, own in seconds.items():
            ratios = np.array(own) / np.array(base)
            low, high = np.quantile(ratios, [0.25, 0.75])
            print(f"{model} | {name} | {1000 * median(own):.1f} | {median(ratios):.2f} | {low:.2f} to {high:.2f}")


def federation(model: str, algorithm: UpdateAlgorithm, options: argparse.Namespace) -> Federation:
    """Clients with 200 random images each."""
    generator = torch.Generator().manual_seed(0)
    count = 200 * options.clients
    images = torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 10, (count,), generator=generator))
    parts = list(np.arange(count).reshape(options.clients, 200))
    data = ResidentData.build(split, parts, Normalization((0.5,), (0.5,)), torch.device("cpu"))
    torch.manual_seed(0)
    module = build(model, (1, 28, 28), 10)
    trainer = CohortTrainer(module, data, engine="vectorized")
    test = Split(images[:20], split.targets[:20])
    rounds = options.turns + 3  # the last one would be evaluated
    return Federation(
        module,
        trainer,
        test,
        algorithm=algorithm,
        aggregator=Mean(),
        streams=Streams(0),
        rounds=rounds,
        num_classes=10,
        evaluate_every=rounds,
    )


def turns(plays: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Processor seconds of each round, after one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in plays}
    names = [*plays]
    for turn in range(count + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begun = time.process_time()
            plays[name]()
            if turn:
                seconds[name].append(time.process_time() - begun)
    return seconds


if __name__ == "__main__":
    main()
