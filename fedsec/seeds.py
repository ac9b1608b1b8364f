"""Independent, named random streams derived from one root seed.

A stream is named by a purpose and any number of keys, as in ``("client", 7, "round", 3)``. Two
different names never share random numbers, and asking for one stream never advances another, so
changing the attack cannot change the data split, the initial model or the batches. Streams hold no
state between rounds: an interrupted run needs no generator in its checkpoint.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Key = str | int


@dataclass(frozen=True)
class Streams:
    """All random streams of one experiment.

    Args:
        root: the experiment's seed, a non-negative integer.
    """

    root: int

    def sequence(self, *name: Key) -> np.random.SeedSequence:
        """The seed sequence of one named stream."""
        digest = hashlib.blake2b("/".join(map(str, name)).encode(), digest_size=16).digest()
        return np.random.SeedSequence(self.root, spawn_key=tuple(np.frombuffer(digest, dtype="<u4").tolist()))

    def numpy(self, *name: Key) -> np.random.Generator:
        """A NumPy generator at the start of the named stream."""
        return np.random.default_rng(self.sequence(*name))

    def seed(self, *name: Key) -> int:
        """A 63-bit integer seed of the named stream, for libraries that take one."""
        return int(self.sequence(*name).generate_state(1, np.uint64)[0] >> 1)

    def torch(self, *name: Key) -> "torch.Generator":
        """A CPU torch generator at the start of the named stream."""
        import torch

        return torch.Generator().manual_seed(self.seed(*name))
