"""Aggregation rules, side by side: fedsec, ByzFL, and one pass over the data.

Every combination of n clients and d parameters is one float32 matrix of normal numbers, which all contenders get in
the same process, with the same PyTorch and the same number of threads. They take turns, so that whatever else the
machine does hits all alike; each cell is the fastest of several runs and, in brackets, the median. "pass" is
`updates.sum(0)`: every number is read once. The trimmed mean drops a fifth of the clients at each end. Results are
compared with ByzFL's.

    uv run python benchmarks/aggregators.py                                    # everything, about 15 minutes
    uv run python benchmarks/aggregators.py --clients 20 --parameters 1000000  # one row each, under a minute

ByzFL lives in an environment of its own under `benchmarks/.envs/`, which uv makes on the first run; it is no
dependency of fedsec. Combinations that do not fit into memory are skipped, and the table says so.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".envs" / "aggregators"
BYZFL = "byzfl==0.0.11"
INSIDE = "FEDSEC_AGGREGATORS_BENCHMARK"
BYZFL_BYTES = 4 + 4 + 8 + 4
"""What ByzFL needs for each number: the input, its sorted copy, 64-bit positions, and slack."""


def main() -> None:
    """Parse the command line; make the environment; run inside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 20, 50, 100], metavar="N")
    parser.add_argument("--parameters", type=int, nargs="+", default=[10**5, 10**6, 10**7], metavar="D")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each contender (default 7)")
    parser.add_argument("--seconds", type=float, default=60, help="stop a combination's turns after this (default 60)")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's threads (default 2)")
    parser.add_argument(
        "--compile-up-to", type=int, default=20, help="compile for at most so many clients (default 20)"
    )
    options = parser.parse_args()
    if INSIDE in os.environ:
        run(options)
        return
    environment = os.environ | {INSIDE: "1", "PYTHONPATH": str(HERE.parent)}
    raise SystemExit(subprocess.call([interpreter(), str(Path(__file__).resolve()), *sys.argv[1:]], env=environment))


def interpreter() -> str:
    """The environment's Python, with ByzFL and the version of PyTorch that fedsec itself has here."""
    wanted = [f"torch=={version('torch').partition('+')[0]}", "numpy", "jaxtyping", BYZFL]
    python, marker = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "requirements.txt"
    if not marker.exists() or marker.read_text().split() != wanted:
        subprocess.run(["uv", "venv", "--clear", "--python", sys.executable, str(ENVIRONMENT)], check=True)
        subprocess.run(["uv", "pip", "install", "--python", str(python), *wanted], check=True)
        marker.write_text("\n".join(wanted))
    return str(python)


def run(options: argparse.Namespace) -> None:
    """Measure every combination and print the table as it grows."""
    import torch

    torch.set_num_threads(options.threads)
    print(
        f"PyTorch {torch.__version__}, {BYZFL.replace('==', ' ')}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}; "
        "milliseconds, fastest (median)\n"
    )
    heading = ["n", "d", "rule", "fedsec", "compiled", "ByzFL", "pass", "fedsec vs ByzFL", "compiled vs ByzFL"]
    heading += ["fedsec / pass", "largest difference"]
    print(*heading, sep=" | ")
    print(*("---" for _ in heading), sep=" | ", flush=True)
    for parameters in options.parameters:
        for clients in options.clients:
            needed, available = 4 * clients * parameters * 1.5, free_memory()
            if needed > 0.8 * available:
                reason = f"skipped: needs {needed / 2**30:.0f} GiB, {available / 2**30:.0f} are free"
                print(clients, parameters, reason, sep=" | ", flush=True)
                continue
            updates = torch.randn(clients, parameters, generator=torch.Generator().manual_seed(0))
            for line in combination(updates, options):
                print(*line, sep=" | ", flush=True)
            del updates


def combination(updates: Any, options: argparse.Namespace) -> list[list[str]]:
    """The table's lines for one matrix."""
    import byzfl

    from fedsec.defenses import Mean, Median, TrimmedMean

    clients, parameters = updates.shape
    trim = clients // 5
    contenders: dict[tuple[str, str], Callable[[Any], Any]] = {
        ("median", "fedsec"): Median(),
        ("trimmed mean", "fedsec"): TrimmedMean(num_trimmed_per_side=trim),
        ("mean", "fedsec"): Mean(),
    }
    fits = BYZFL_BYTES * clients * parameters < 0.9 * (free_memory() + 4 * clients * parameters)
    if fits:
        contenders["median", "ByzFL"] = byzfl.Median()
        contenders["trimmed mean", "ByzFL"] = byzfl.TrMean(trim)
        contenders["mean", "ByzFL"] = byzfl.Average()
    if clients <= options.compile_up_to:
        contenders["median", "compiled"] = Median(compile=True)
        contenders["trimmed mean", "compiled"] = TrimmedMean(num_trimmed_per_side=trim, compile=True)
    contenders["", "pass"] = lambda matrix: matrix.sum(0)
    times, results = take_turns({name: partial(rule, updates) for name, rule in contenders.items()}, options)
    lines = []
    for rule in ("median", "trimmed mean", "mean"):
        reference = results.get((rule, "ByzFL"))
        difference = "" if reference is None else f"{float((results[rule, 'fedsec'] - reference).abs().max()):.1e}"
        if (rule, "compiled") in results and not results[rule, "fedsec"].equal(results[rule, "compiled"]):
            difference += " (compiled differs!)"
        own, compiled, peer = (times.get((rule, who)) for who in ("fedsec", "compiled", "ByzFL"))
        lines.append(
            [
                *(str(clients), f"{parameters:.0e}".replace("e+0", "e"), rule),
                *(shown(own), shown(compiled), shown(peer) if fits else "does not fit", shown(times["", "pass"])),
                *(ratio(peer, own, "x faster"), ratio(peer, compiled, "x faster"), ratio(own, times["", "pass"], "")),
                difference,
            ]
        )
    return lines


def take_turns(
    calls: dict[tuple[str, str], Callable[[], Any]], options: argparse.Namespace
) -> tuple[dict[tuple[str, str], list[float]], dict[tuple[str, str], Any]]:
    """Milliseconds of every run, and the results of the unmeasured first one."""
    results = {name: call() for name, call in calls.items()}
    times: dict[tuple[str, str], list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for turn in range(options.repeats):
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - before))
        if turn and time.perf_counter() - start > options.seconds:
            break
    return times, results


def shown(times: list[float] | None) -> str:
    """Fastest (median)."""
    return "" if times is None else f"{min(times):.3g} ({median(times):.3g})"


def ratio(first: list[float] | None, second: list[float] | None, unit: str) -> str:
    """How many times as long the first takes, by the fastest runs."""
    return "" if first is None or second is None else f"{min(first) / min(second):.1f}{unit}"


def free_memory() -> int:
    """Bytes that can be allocated without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark reads /proc/meminfo, so it needs Linux")


if __name__ == "__main__":
    main()
