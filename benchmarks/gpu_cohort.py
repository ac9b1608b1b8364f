"""A round of local training on a GPU: vectorized cohorts against the plain loop, on random images.

    uv run python benchmarks/gpu_cohort.py            # needs CUDA; --device cpu only shows that it runs
    uv run python benchmarks/gpu_cohort.py --models resnet8 resnet18 --clients 10 --precision tf32

The 28,938-parameter CNN (or the models named, on 3x32x32 images) at batch 20, 10 steps, 20 to 500 clients, in each
precision; milliseconds a round (median of several, after one warm-up, synchronized), how many times faster than the
loop without CUDA graphs, and the largest difference between the updates of the vectorized engine and of that loop.
Target: 15x with 100 clients in fp32.
"""

import argparse
import statistics
import time
from itertools import product

import numpy as np
import torch

from fedsec.data import normalization
from fedsec.data.datasets import Split
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.engine.batches import plan_batches
from fedsec.engine.precision import Compute
from fedsec.models import build

LOCAL = LocalTraining(steps=10, batch_size=20, lr=0.01, momentum=0.9)


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="*", default=["cnn"])
    parser.add_argument("--clients", type=int, nargs="*", default=[20, 100, 500])
    parser.add_argument("--precision", nargs="*", default=["fp32", "tf32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {LOCAL}\n")
    columns = "model | clients | precision | vectorized, ms | loop with graphs, ms | loop, ms"
    print(f"| {columns} | vectorized | graphs | difference |")
    print("|---" * 9 + "|")
    for model, clients, precision in product(options.models, options.clients, options.precision):
        (vectorized, graphs, loop), difference = compare(model, clients, precision, device, options.rounds)
        row = f"{vectorized:.1f} | {graphs:.1f} | {loop:.1f} | {loop / vectorized:.1f}x | {loop / graphs:.1f}x"
        print(f"| {model} | {clients} | {precision} | {row} | {difference:.1e} |", flush=True)


def compare(model: str, clients: int, precision: str, device: torch.device, rounds: int) -> tuple[list[float], float]:
    """Milliseconds of the engines (vectorized, loop with graphs, loop), and how far the first and the last differ."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 28, 28) if model == "cnn" else (3, 32, 32)
    images = torch.randint(0, 256, (clients * 100, *shape), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 10, (len(images),), generator=generator))
    parts = list(np.arange(len(images)).reshape(clients, -1))
    data = ResidentData.build(split, parts, normalization("unit"), device)
    torch.manual_seed(0)
    module = build(model, shape, 10, **({"activation": "sigmoid"} if model == "cnn" else {}))
    plans = [plan_batches(part, LOCAL, np.random.default_rng(i)) for i, part in enumerate(parts)]
    trainers = []
    for engine, graphs in (("vectorized", False), ("loop", True), ("loop", False)):
        compute = Compute(precision, cuda_graphs=graphs)  # type: ignore[arg-type]
        trainers.append(CohortTrainer(module, data, engine=engine, compute=compute))  # type: ignore[arg-type]
    start = trainers[0].start(module)
    updates = [trainer.train(start, plans, LOCAL).updates for trainer in trainers]
    times: list[list[float]] = [[] for _ in trainers]
    for _ in range(rounds):
        for trainer, milliseconds in zip(trainers, times, strict=True):
            before = time.perf_counter()
            trainer.train(start, plans, LOCAL)
            if device.type == "cuda":
                torch.cuda.synchronize()
            milliseconds.append(1e3 * (time.perf_counter() - before))
    return [statistics.median(each) for each in times], (updates[0] - updates[2]).abs().max().item()


if __name__ == "__main__":
    main()
