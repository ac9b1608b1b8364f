"""A round of local training on a GPU: vectorized cohorts against the plain loop, on random images.

    uv run python benchmarks/gpu_cohort.py            # needs CUDA; --device cpu only shows that it runs

The 28,938-parameter CNN at batch 20, 10 steps, 20 to 500 clients; milliseconds a round (median of several, after
one warm-up, synchronized), the ratio within the run, and the largest difference between the two engines' updates.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from fedsec.data import normalization
from fedsec.data.datasets import Split
from fedsec.federation import CohortTrainer, LocalTraining, ResidentData
from fedsec.federation.batches import plan_batches
from fedsec.models import build

LOCAL = LocalTraining(steps=10, batch_size=20, lr=0.01, momentum=0.9)


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clients", type=int, nargs="*", default=[20, 100, 500])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {LOCAL}\n")
    print("| clients | vectorized, ms | loop, ms | ratio | largest difference |")
    print("|---|---|---|---|---|")
    for clients in options.clients:
        row = compare(clients, device, options.rounds)
        print("| {} | {:.1f} | {:.1f} | {:.1f} | {:.1e} |".format(clients, *row), flush=True)


def compare(clients: int, device: torch.device, rounds: int) -> tuple[float, float, float, float]:
    """Milliseconds of both engines, their ratio, and how far their updates differ."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (clients * 100, 1, 28, 28), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 10, (len(images),), generator=generator))
    parts = list(np.arange(len(images)).reshape(clients, -1))
    data = ResidentData.build(split, parts, normalization("unit"), device)
    torch.manual_seed(0)
    module = build("cnn", (1, 28, 28), 10)
    plans = [plan_batches(part, LOCAL, np.random.default_rng(i)) for i, part in enumerate(parts)]
    trainers = [CohortTrainer(module, data, engine=engine) for engine in ("vectorized", "loop")]
    start = trainers[0].layout.flatten(module).to(device)
    updates = [trainer.train(start, plans, LOCAL) for trainer in trainers]
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for trainer, milliseconds in zip(trainers, times, strict=True):
            before = time.perf_counter()
            trainer.train(start, plans, LOCAL)
            if device.type == "cuda":
                torch.cuda.synchronize()
            milliseconds.append(1e3 * (time.perf_counter() - before))
    vectorized, loop = map(statistics.median, times)
    return vectorized, loop, loop / vectorized, (updates[0] - updates[1]).abs().max().item()


if __name__ == "__main__":
    main()
