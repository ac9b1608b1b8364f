"""What it costs an attacker to know the defense: one search in Gram space, beside the same trials as aggregations.

For each rule the adaptive attack crafts a round's rows once, n clients of d parameters, float32, a fifth of them
Byzantine. Beside it stand, in the same process: one Gram matrix of all the rows; one aggregation; and what the search's
trials would cost as whole aggregations, each with rows that are formed for it (a few of them are timed, the number of
trials is counted, and the product is given). Medians of several turns.

    uv run python benchmarks/adaptive.py
"""

import argparse
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from fedsec.attacks import Adaptive
from fedsec.defense import Aggregator, AggregatorTrial, Gram
from fedsec.defenses import NNM, GeometricMedian, Krum, Median, MultiKrum, Pipeline
from fedsec.threat import AttackerView, MixtureTrial

COLUMNS = ("rule", "Gram matrix", "one aggregation", "search", "search / Gram", "trials", "as aggregations", "gain")


class Counting(AggregatorTrial):
    """Counts the trials of a search."""

    count = 0

    def mixtures(self, points: Tensor, num_clients: int) -> MixtureTrial:
        mixtures, trial = super().mixtures(points, num_clients), self
        damage = mixtures.damage

        def counted(*arguments: Any) -> float:
            trial.count += 1
            return damage(*arguments)

        mixtures.damage = counted  # type: ignore[method-assign]
        return mixtures


def main() -> None:
    """Parse the command line and print a row for each rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--parameters", type=int, default=10**6)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    byzantine = options.clients // 5
    rules: list[tuple[str, Aggregator]] = [
        ("krum", Krum(byzantine)),
        ("multi_krum", MultiKrum(byzantine)),
        ("geometric_median", GeometricMedian()),
        ("nnm, krum", Pipeline([NNM(byzantine), Krum(byzantine)])),
        ("median", Median()),
        ("nnm, median", Pipeline([NNM(byzantine), Median()])),
    ]
    size = f"n = {options.clients}, d = {options.parameters:,}"
    print(f"{size}, {options.threads} threads of {os.cpu_count()} cores; seconds")
    print(*COLUMNS, sep=" | ")
    print(*("---" for _ in COLUMNS), sep=" | ", flush=True)
    rows = torch.randn(options.clients, options.parameters, generator=torch.Generator().manual_seed(0)) + 0.1
    for name, rule in rules:
        print(*measure(name, rule, rows, byzantine, options.repeats), sep=" | ", flush=True)


def measure(name: str, rule: Aggregator, rows: Tensor, byzantine: int, repeats: int) -> list[str]:
    """One row of the table."""
    honest, own = rows[byzantine:], rows[:byzantine]
    trial = Counting(rule, torch.Generator().manual_seed(1))
    view = AttackerView(
        own=own,
        honest=honest,
        parameters=torch.zeros(rows.shape[1]),
        num_clients=len(rows),
        num_byzantine=byzantine,
        round=1,
        generator=torch.Generator().manual_seed(2),
        defense=trial,
    )
    mean = honest.mean(0)

    def aggregated() -> float:
        forged = (mean - 1.5 * mean.sign()).expand(byzantine, -1)
        return trial.damage(torch.cat([honest, forged]), mean)

    gram, single, whole, search = [], [], [], []
    for _ in range(repeats):
        gram.append(seconds(lambda: Gram.of(rows).squared_distances()))
        single.append(seconds(lambda: rule(rows)))
        whole.append(seconds(aggregated))
        trial.count = 0
        search.append(seconds(lambda: Adaptive().craft(view)))
    total = trial.count * median(whole)
    times = [f"{median(values):.3f}" for values in (gram, single, search)]
    ratio, gain = median(search) / median(gram), total / median(search)
    return [name, *times, f"{ratio:.1f}", str(trial.count), f"{total:.1f}", f"{gain:.0f}x"]


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
