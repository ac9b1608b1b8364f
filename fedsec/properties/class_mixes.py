"""Does an update reveal its client's mix of classes? Estimated shares against true ones, and against exchanged clients.

The distance of two mixes is their total variation, half the sum of absolute differences: the share of examples that
would have to change their class. If estimates say nothing about whose they are, they can be exchanged among clients.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from fedsec.errors import InputError
from fedsec.properties.permutation import PermutationTest

__all__ = ["MixTest", "compare_mixes"]


@dataclass(frozen=True, eq=False)
class MixTest:
    """How far estimates are from the truth, and how far a guess is that looks at no update.

    Attributes:
        test: of the mean distance; small ones speak for leakage.
        distances: of each client.
        guess: the mean distance of the federation's own mix, which looks at no client.
        correlation: of estimated and true shares less the federation's, over all clients and classes; 0 where either
            does not vary.
    """

    test: PermutationTest
    distances: Float64[np.ndarray, "clients"]
    guess: float
    correlation: float


def compare_mixes(
    estimated: Float64[np.ndarray, "clients classes"],
    true: Float64[np.ndarray, "clients classes"],
    *,
    permutations: int,
    generator: np.random.Generator,
) -> MixTest:
    """Hold estimated shares of classes against true ones, and against those of exchanged clients.

    Args:
        estimated: shares, one in sum.
        true: likewise.
        permutations: how many exchanges.
        generator: of the exchanges.

    Raises:
        InputError: shapes that differ, or less than two clients.
    """
    if estimated.shape != true.shape or true.ndim != 2 or len(true) < 2:
        raise InputError(
            f"compare_mixes: expected shares [clients, classes] of two clients at least, got {estimated.shape} and "
            f"{true.shape}"
        )
    pairs = np.abs(estimated[:, None] - true[None]).sum(2) / 2
    places = np.arange(len(true))
    drawn = [pairs[places, generator.permutation(len(true))].mean() for _ in range(permutations)]
    pooled = true.mean(0)
    test = PermutationTest(float(np.diag(pairs).mean()), np.array(drawn), larger=False)
    deviations = (estimated - estimated.mean(0)).ravel(), (true - pooled).ravel()
    lengths = [float(np.linalg.norm(deviation)) for deviation in deviations]
    correlation = float(deviations[0] @ deviations[1] / (lengths[0] * lengths[1])) if min(lengths) > 1e-9 else 0.0
    guess = float(np.abs(true - pooled).sum(1).mean() / 2)
    return MixTest(test, np.diag(pairs).copy(), guess, correlation)
