"""One round of local training, side by side: fedsec, a plain PyTorch loop, pfl-research, Flower's simulation.

20 clients x 10 SGD steps (lr 0.01, momentum 0.9) of batch 20, a CNN with 28,938 parameters on 28x28, all on the same
cores. Every contender starts from the same parameters and sees the same batches in the same order; the distance
between its final model and the plain loop's, relative to how far that one moved, tells whether it computed the same
thing. Runs of the contenders take turns, so that whatever else the machine does hits all alike. Peers live in
environments of their own under `benchmarks/.envs/`, made by uv on the first run; none is a dependency of fedsec. Run
it with

    uv run python benchmarks/cohort.py

and see `--help` for more rounds, more repetitions, or some contenders only.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".envs"
TOLERANCE = 0.001
"""Sums in another order move the final model by less than this share of its way; a wrong optimizer by far more."""


@dataclass
class Contender:
    """One row of the table.

    Args:
        name: what to call it.
        script: file in `contenders/`.
        requirements: of its environment; empty for the one that runs this script.
        options: more arguments for the script.
        processes: above one, torchrun starts this many.
    """

    name: str
    script: str
    requirements: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    processes: int = 1
    runs: list[dict] = field(default_factory=list)
    problem: str = ""

    @property
    def milliseconds(self) -> list[float]:
        return [value for run in self.runs for value in run["milliseconds"]]

    def python(self) -> str:
        """The interpreter of its environment, which is made if need be."""
        if not self.requirements:
            return sys.executable
        folder = ENVIRONMENTS / self.script.removesuffix(".py")
        python = folder / "bin" / "python"
        marker = folder / "requirements.txt"
        wanted = "\n".join(self.requirements)
        if not marker.exists() or marker.read_text() != wanted:
            _call(["uv", "venv", "--clear", "--python", sys.executable, str(folder)], "uv venv")
            _call(["uv", "pip", "install", "--python", str(python), *self.requirements], "uv pip install")
            marker.write_text(wanted)
        return str(python)


class ContenderError(Exception):
    """A contender could not be installed or run; the text says why."""


def contenders(threads: int) -> dict[str, Contender]:
    """All rows; peers get fedsec's own version of PyTorch."""
    torch = f"torch=={version('torch').partition('+')[0]}"
    pfl, flower = (torch, "numpy", "pfl"), (torch, "numpy", "flwr[simulation]")
    rows = {
        "vectorized": Contender("fedsec, vectorized", "fedsec_engine.py", (), ("--engine", "vectorized")),
        "loop": Contender("fedsec, loop", "fedsec_engine.py", (), ("--engine", "loop")),
        "plain": Contender("plain PyTorch loop", "plain_loop.py"),
        "pfl": Contender("pfl-research, one process", "pfl_research.py", pfl),
        "flower": Contender(f"Flower simulation, {threads} Ray workers", "flower_simulation.py", flower),
    }
    if threads > 1:
        rows["pfl-processes"] = Contender(f"pfl-research, {threads} processes", "pfl_research.py", pfl, (), threads)
    return rows


def main() -> None:
    """Install what is missing, take turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="measured rounds in each run (default 20)")
    parser.add_argument("--warmup", type=int, default=3, help="rounds before them (default 3)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender, taking turns (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="cores for each contender (default 2)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of: vectorized loop plain pfl pfl-processes flower")
    parser.add_argument("--json", type=Path, help="also write all measurements to this file")
    options = parser.parse_args()
    if min(options.rounds, options.warmup, options.repeats, options.threads) < 1:
        parser.error("rounds, warmup, repeats and threads must be at least 1")
    if hasattr(os, "sched_setaffinity"):  # children inherit it: nobody gets more cores than the others
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < options.threads:
            parser.error(f"{options.threads} threads were asked for, but only {len(cores)} cores are available")
        os.sched_setaffinity(0, cores[: options.threads])
    rows = contenders(options.threads)
    if unknown := set(options.only or ()) - set(rows):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(rows)}")
    rows = {name: row for name, row in rows.items() if not options.only or name in options.only}

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        sys.path.insert(0, str(HERE / "contenders"))
        from workload import write_data

        write_data(data)
        for repeat in range(options.repeats):
            for row in rows.values():
                if not row.problem:
                    print(f"run {repeat + 1} of {options.repeats}: {row.name}", file=sys.stderr, flush=True)
                    _run(row, data, options)
    print(markdown(rows, options))
    if options.json:
        content = {
            name: {"problem": row.problem, "runs": [{k: v for k, v in run.items() if k != "moved"} for run in row.runs]}
            for name, row in rows.items()
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n")


def _run(row: Contender, data: Path, options: argparse.Namespace) -> None:
    out = data.parent / "out.json"
    out.unlink(missing_ok=True)
    try:
        command = [row.python()]
        if row.processes > 1:
            command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={row.processes}"]
        command += [str(HERE / "contenders" / row.script), "--data", str(data), "--out", str(out)]
        command += [f"--{name}={getattr(options, name)}" for name in ("rounds", "warmup", "threads")]
        _call([*command, *row.options], row.script, threads=options.threads // row.processes)
        with np.load(out.with_suffix(".npz")) as file:
            moved = np.concatenate([file[name].ravel() for name in sorted(file.files)])
        row.runs.append(json.loads(out.read_text()) | {"moved": moved})
    except (ContenderError, OSError) as error:
        row.problem = str(error)


def _call(command: list[str], what: str, threads: int | None = None) -> None:
    """Run a child, on as many cores as it may use threads; its output is shown only if it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    environment |= {"CUDA_VISIBLE_DEVICES": ""}
    if threads:
        environment |= {"OMP_NUM_THREADS": str(max(1, threads)), "MKL_NUM_THREADS": str(max(1, threads))}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    except subprocess.TimeoutExpired as error:
        raise ContenderError(f"{what} took longer than half an hour") from error
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ContenderError(f"{what} failed: {words[-1] if words else done.returncode}")


def markdown(rows: dict[str, Contender], options: argparse.Namespace) -> str:
    """The table, with the machine and the versions below."""
    first = next((row for row in rows.values() if row.runs), None)
    if first is None:
        return "\n".join(f"{row.name}: {row.problem}" for row in rows.values())
    plain = rows.get("plain", first)
    reference = (plain if plain.runs else first).runs[0]["moved"]
    base = statistics.median(first.milliseconds)
    lines = [
        f"| contender | ms a round, min | median | times {first.name} | start-up, s | deviation |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows.values():
        if not row.runs:
            lines.append(f"| {row.name} | not measured: {row.problem} | | | | |")
            continue
        middle, startup = statistics.median(row.milliseconds), statistics.median(r["startup_seconds"] for r in row.runs)
        deviation = float(np.linalg.norm(row.runs[0]["moved"] - reference) / np.linalg.norm(reference))
        verdict = f"{deviation:.0e}" if deviation < TOLERANCE else f"{deviation:.0e}: not the same computation!"
        numbers = f"{min(row.milliseconds):.0f} | {middle:.0f} | {middle / base:.2f} | {startup:.1f} | {verdict}"
        lines.append(f"| {row.name} | {numbers} |")
    versions: dict[str, str] = {}
    for row in rows.values():
        for run in row.runs:
            versions |= run["versions"]
    listed = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    lines += [
        "",
        f"{options.repeats} runs of {options.rounds} rounds after {options.warmup} to warm up, taking turns; "
        f"{options.threads} cores each; {_processor()}; Python {platform.python_version()}, {listed}.",
    ]
    return "\n".join(lines)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
