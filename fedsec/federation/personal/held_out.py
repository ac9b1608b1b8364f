"""Test examples of each client's own: held out of its share before anything is trained."""

from collections.abc import Sequence

import numpy as np

from fedsec.errors import InputError
from fedsec.seeds import Streams


def hold_out(
    shares: Sequence[np.ndarray], fraction: float, streams: Streams
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Divide each client's share; a larger fraction holds out the same examples and more.

    Args:
        shares: numbers of each client's examples.
        fraction: of each share, rounded down, but at least one example; in (0, 1). A client with a single example
            keeps it to train on, and has nothing to be tested on.
        streams: of the data's seed; each client's draw is its own.

    Returns:
        What each client trains on, and what it is tested on.

    Raises:
        InputError: the fraction is out of range.
    """
    if not 0 < fraction < 1:
        raise InputError(f"client_test: fraction must lie in (0, 1), got {fraction}")
    trained, tested = [], []
    for client, share in enumerate(shares):
        count = min(len(share) - 1, max(1, int(fraction * len(share) + 1e-9)))
        order = streams.numpy("client_test", client).permutation(len(share))
        trained.append(np.sort(share[order[count:]]))
        tested.append(np.sort(share[order[:count]]))
    return trained, tested
