"""Aggregation rules, side by side: fedsec, ByzFL, one pass over the data, and one Gram matrix.

Every combination of n clients and d parameters is one float32 matrix of normal numbers, which all contenders get in
the same process, with the same PyTorch and the same number of threads. They take turns, rule by rule, so that whatever
else the machine does hits all alike; each cell is the fastest of several runs and, in brackets, the median; ratios are
of the fastest. "pass" is `updates.sum(0)`, every number read once; "Gram" is `updates @ updates.T`. A fifth of the
clients are taken for Byzantine. Memory is the peak beyond the input, the result included. Results are compared with
ByzFL's: where it is a step of an iteration short, or draws numbers, they differ.

    uv run python benchmarks/aggregators.py                                    # everything: hours
    uv run python benchmarks/aggregators.py --clients 20 --parameters 1000000 --rules krum median

ByzFL lives in an environment of its own under `benchmarks/.envs/`, which uv makes on the first run; it is no
dependency of fedsec. Combinations that do not fit into memory are skipped, and the table says so. ByzPy 0.1.4 is not
among them: it needs a PyTorch before 2.6, which would have to run in another process.
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
    parser.add_argument("--seconds", type=float, default=20, help="stop a rule's turns after this (default 20)")
    parser.add_argument("--rules", nargs="+", metavar="PART", help="only rules whose names hold one of these")
    parser.add_argument(
        "--processor",
        action="store_true",
        help="the processor's time instead of the wall's: for one thread, beside others",
    )
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
    wanted = [
        f"torch=={version('torch').partition('+')[0]}",
        "numpy",
        "jaxtyping",
        "scikit-learn",
        "platformdirs",
        "filelock",
        BYZFL,
    ]
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
    unit = "processor milliseconds" if options.processor else "milliseconds"
    print(
        f"PyTorch {torch.__version__}, {BYZFL.replace('==', ' ')}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}; "
        f"{unit}, fastest (median)\n"
    )
    heading = ["n", "d", "rule", "fedsec", "ByzFL", "ByzFL / fedsec", "fedsec / pass", "fedsec / Gram"]
    heading += ["fedsec / rule alone", "memory / input", "largest difference"]
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
            combination(updates, options)
            del updates


def combination(updates: Any, options: argparse.Namespace) -> None:
    """Print the table's lines for one matrix."""
    sys.path.insert(0, str(HERE / "contenders"))
    from rules import contests

    clients, parameters = updates.shape
    size = str(clients), f"{parameters:.0e}".replace("e+0", "e")
    fits = BYZFL_BYTES * clients * parameters < 0.9 * (free_memory() + 4 * clients * parameters)
    alone: dict[str, list[float]] = {}
    for name, contest in contests(clients, parameters).items():
        wanted = not options.rules or any(part in name for part in options.rules)
        if not wanted or ("compiled" in name and clients > options.compile_up_to):
            continue
        calls: dict[str, Callable[[], Any]] = {
            "fedsec": partial(contest.own, updates),
            "pass": partial(updates.sum, 0),
            "Gram": lambda: updates @ updates.T,
        }
        if contest.peer is not None and fits:
            calls["ByzFL"] = partial(contest.peer, updates)
        try:
            times, results = take_turns(calls, options)
            memory = peak_bytes(calls["fedsec"]) / (4 * clients * parameters)
        except Exception as error:  # one rule's condition, or one peer's memory, does not end the table
            print(*size, name, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", sep=" | ", flush=True)
            continue
        own, peer = times["fedsec"], times.get("ByzFL")
        alone[name] = own
        difference = float((results["fedsec"] - results["ByzFL"]).abs().max()) if peer else None
        missing = "does not fit" if contest.peer is not None and not fits else ""
        ratios = [ratio(own, times["pass"]), ratio(own, times["Gram"]), ratio(own, alone.get(contest.alone))]
        line = [*size, name, shown(own), shown(peer) or missing, ratio(peer, own), *ratios, f"{memory:.1%}"]
        print(*line, "" if difference is None else f"{difference:.1e}", sep=" | ", flush=True)


def peak_bytes(call: Callable[[], Any]) -> int:
    """How much memory a call takes at most beyond what is there already, its result included."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark reads /proc/self/status, so it needs Linux")


def take_turns(
    calls: dict[str, Callable[[], Any]], options: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Milliseconds of every run, and the results of the unmeasured first one."""
    clock = time.process_time if options.processor else time.perf_counter
    results = {name: call() for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for turn in range(options.repeats):
        for name, call in calls.items():
            before = clock()
            call()
            times[name].append(1000 * (clock() - before))
        if turn and time.perf_counter() - start > options.seconds:
            break
    return times, results


def shown(times: list[float] | None) -> str:
    """Fastest (median)."""
    return "" if times is None else f"{min(times):.3g} ({median(times):.3g})"


def ratio(first: list[float] | None, second: list[float] | None) -> str:
    """How many times as long the first takes, by the fastest runs."""
    return "" if first is None or second is None else f"{min(first) / min(second):.2f}"


def free_memory() -> int:
    """Bytes that can be allocated without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark reads /proc/meminfo, so it needs Linux")


if __name__ == "__main__":
    main()
