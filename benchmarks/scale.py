"""What a client costs in rounds of 100, 1,000 and 10,000: processor time, peak memory, and the time before the first.

Fashion-MNIST, six images a client, the 28,938-parameter CNN, one local epoch of one batch. All clients take part, or
one in a hundred. Each line is a process of its own, so that peaks are honest; on a shared machine the seconds of the
processor are what to compare, with one thread.

    uv run python benchmarks/scale.py                            # some minutes on a quiet core
    uv run python benchmarks/scale.py --clients 100 1000 --rules mean
    uv run python benchmarks/scale.py --partitions               # 100,000 clients of ten synthetic examples

`start-up` is what a cell does before its first round, imports apart: reading the images, sharing them out, checking the
scenario, planning, and building the federation. A round's cost leaves evaluation out, which no client pays for.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

from fedsec.data.partitions import Dirichlet, Iid, Partition, Shards, client_indices
from fedsec.runs.experiment import build_experiment
from fedsec.scenario import load_scenario
from fedsec.scenario.plan import check_scenario, plan

IMAGES = 6
"""Of each client."""


def main() -> None:
    """Parse the command line; measure each case in a process of its own; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--rules", nargs="+", default=["mean", "median"])
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.01], help="of the clients in a round")
    parser.add_argument("--memory-gib", type=float, default=None, help="of a round's matrix; default what is free")
    parser.add_argument("--partitions", action="store_true", help="partitions alone")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measured(**options.one)))
        return
    if options.partitions:
        partitions()
        return
    print("rule | clients | in a round | ms a client | of which training | start-up s | peak GiB | updates")
    print("--- | ---: | ---: | ---: | ---: | ---: | ---: | ---", flush=True)
    for rule in options.rules:
        for share in options.shares:
            for clients in options.clients:
                case = {"rule": rule, "clients": clients, "share": share, "memory_gib": options.memory_gib}
                command = [sys.executable, __file__, "--one", json.dumps(case)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                line = json.loads(output.splitlines()[-1])
                costs = f"{line['client_ms']:.2f} | {line['training_ms']:.2f} | {line['startup']:.1f}"
                rest = f"{line['peak_gib']:.2f} | {line['updates']}"
                print(f"{rule} | {clients:,} | {line['cohort']:,} | {costs} | {rest}", flush=True)


def measured(rule: str, clients: int, share: float, memory_gib: float | None) -> dict[str, Any]:
    """One case, measured in this process.

    Args:
        rule: of the server.
        clients: of the federation.
        share: of them that takes part in a round.
        memory_gib: of a round's matrix.
    """
    torch.set_num_threads(1)
    cohort = max(1, round(share * clients))
    rounds = 1 + max(1, min(20, 200 // cohort))
    begun = time.process_time()
    scenario = load_scenario(
        {
            "name": "scale",
            "seed": 0,
            "dataset": {"name": "fashion_mnist", "train_size": min(60_000, IMAGES * clients)},
            "partition": {"name": "iid", "clients": clients},
            "model": "cnn",
            "federation": {
                "algorithm": "fedavg",
                "rounds": rounds + 1,  # so that the last one that is played is not evaluated
                "evaluate_every": rounds + 1,
                "clients_per_round": cohort,
                "local": {"epochs": 1, "batch_size": IMAGES, "lr": 0.05},
            },
            "defense": rule,
        }
    )
    check_scenario(scenario)
    plan(scenario)
    (cell,) = scenario.cells()
    experiment = build_experiment(cell.config, device=torch.device("cpu"), threads=1, memory_gib=memory_gib)
    startup = time.process_time() - begun
    federation: Any = experiment.federation
    spent = {"training": 0.0}
    train = federation.local_updates

    def timed(*arguments: Any) -> Any:
        before = time.process_time()
        result = train(*arguments)
        spent["training"] += time.process_time() - before
        return result

    federation.play()  # what is compiled, allocated and cached once
    federation.local_updates = timed
    begun = time.process_time()
    for _ in range(rounds - 1):
        federation.play()
    seconds = time.process_time() - begun
    trainings = cohort * (rounds - 1)
    return {
        "cohort": cohort,
        "client_ms": 1e3 * seconds / trainings,
        "training_ms": 1e3 * spent["training"] / trainings,
        "startup": startup,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "updates": federation.exchange.place().where,
    }


def partitions(clients: int = 100_000, examples: int = 1_000_000) -> None:
    """How long it takes to share synthetic examples of ten classes out, and to check what was given."""
    labels = np.random.default_rng(0).integers(0, 10, examples)
    cases: dict[str, Partition] = {
        "iid": Iid(),
        "dirichlet, per class, alpha 5": Dirichlet(5.0),
        "dirichlet, per client": Dirichlet(0.5, "per_client"),
        "shards": Shards(),
    }
    print("partition | processor seconds")
    print("--- | ---:", flush=True)
    for name, partition in cases.items():
        begun = time.process_time()
        client_indices(partition(labels, clients, num_classes=10, rng=np.random.default_rng(1)), examples)
        print(f"{name} | {time.process_time() - begun:.2f}", flush=True)


if __name__ == "__main__":
    main()
