"""Secure sums, simulated, beside the plain sum of the same ring elements: seconds of one round.

uv run python benchmarks/secure_sums.py --clients 20 --numbers 1000000
"""

import argparse
import time

import numpy as np

from fedsec.federation.secure_sums.dropouts import Absence
from fedsec.federation.secure_sums.pairwise_masks import PairwiseMasks
from fedsec.federation.secure_sums.protocol import SumProtocol
from fedsec.federation.secure_sums.turbo_aggregate import TurboAggregate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--numbers", type=int, default=1_000_000)
    arguments = parser.parse_args()
    clients, numbers = arguments.clients, arguments.numbers
    gone = Absence(before_upload=frozenset(range(clients // 10)))
    protocols: dict[str, SumProtocol] = {
        "pairwise masks, 32 bits": PairwiseMasks(32),
        "pairwise masks, 64 bits": PairwiseMasks(64),
        "pairwise masks, 8 neighbors": PairwiseMasks(32, neighbors=8),
        "Turbo-Aggregate": TurboAggregate(),
    }
    for name, protocol in protocols.items():
        rows = np.random.default_rng(0).integers(0, protocol.modulus, (clients, numbers), np.uint64)
        begun = time.perf_counter()
        rows.sum(0, dtype=np.uint64)
        plain = time.perf_counter() - begun
        for what, absence in (("all stay", Absence()), ("a tenth drops out", gone)):
            begun = time.perf_counter()
            outcome = protocol.run(rows, absence, np.random.SFC64(0))
            seconds = time.perf_counter() - begun
            megabytes = (outcome.cost.sent.mean() + outcome.cost.received.mean()) / 1e6
            print(
                f"{name:28} {what:18} {seconds:6.2f} s, {seconds / plain:5.0f} x the plain sum, "
                f"{megabytes:6.1f} MB a client, {outcome.cost.rounds} rounds"
            )


if __name__ == "__main__":
    main()
