"""Independent, named random streams derived from one root seed.

A stream is named by a purpose and any number of keys, as in ``("client", 7, "round", 3)``. Two
different names never share random numbers, and asking for one stream never advances another, so
changing the attack cannot change the data split, the initial model or the batches. Streams hold no
state between rounds: an interrupted run needs no generator in its checkpoint.

**What a stream tells of the others.** Whoever sees numbers of one stream, such as an attacker its generator's, can try
all small roots until one gives those numbers, and then knows every other stream, batches and private noise among them.
No way of deriving streams helps against that: ten thousand seeds are tried in a second. A root of 64 bits and more that
nobody else knows cannot be tried out, and its streams are keyed hashes of their names (BLAKE2b), of which none can be
computed from any others. Smaller roots, for experiments that all may repeat, keep the numbers that they always had.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from fedsec.errors import InputError

if TYPE_CHECKING:
    import torch

Key = str | int

_SECRET_ROOT = 64
"""Roots of more bits can be secrets."""

_LARGEST_ROOT = 512
"""Bits of the longest key that BLAKE2b takes."""


@dataclass(frozen=True)
class Streams:
    """All random streams of one experiment.

    Args:
        root: the experiment's seed, a non-negative integer. One of 64 bits and more that is drawn at random and kept
            secret makes streams of which none tells anything of another one.
    """

    root: int

    def __post_init__(self) -> None:
        if not 0 <= self.root < 1 << _LARGEST_ROOT:
            raise InputError(f"Streams: expected a root from 0 to 2^{_LARGEST_ROOT} - 1, got {self.root}")

    def sequence(self, *name: Key) -> np.random.SeedSequence:
        """The seed sequence of one named stream."""
        named = "/".join(map(str, name)).encode()
        if self.root >= 1 << _SECRET_ROOT:
            key = self.root.to_bytes(_LARGEST_ROOT // 8, "little")
            return np.random.SeedSequence(int.from_bytes(hashlib.blake2b(named, key=key).digest(), "little"))
        digest = hashlib.blake2b(named, digest_size=16).digest()
        return np.random.SeedSequence(self.root, spawn_key=tuple(np.frombuffer(digest, dtype="<u4").tolist()))

    def branch(self, *name: Key) -> "Streams":
        """Streams of their own, under this name: none of them is one that anybody else asks for."""
        return _Branch(self.root, name)

    def numpy(self, *name: Key) -> np.random.Generator:
        """A NumPy generator at the start of the named stream."""
        return np.random.default_rng(self.sequence(*name))

    def seed(self, *name: Key) -> int:
        """A 63-bit integer seed of the named stream, for libraries that take one."""
        return int(self.sequence(*name).generate_state(1, np.uint64)[0] >> 1)

    def key(self, *name: Key) -> int:
        """128 bits that are the named stream's alone, for `noise_generator`."""
        return int.from_bytes(self.sequence(*name).generate_state(4).astype("<u4").tobytes(), "little")

    def noise(self, *name: Key) -> "torch.Generator":
        """A CPU torch generator of private noise at the start of the named stream; see `noise_generator`."""
        return noise_generator(self.key(*name))

    def torch(self, *name: Key) -> "torch.Generator":
        """A CPU torch generator at the start of the named stream."""
        import torch

        return torch.Generator().manual_seed(self.seed(*name))


@dataclass(frozen=True)
class _Branch(Streams):
    """Streams whose names all begin alike."""

    prefix: tuple[Key, ...] = ()

    def sequence(self, *name: Key) -> np.random.SeedSequence:
        return super().sequence(*self.prefix, *name)


STATE_WORDS = 624
"""Of the Mersenne Twister, 32 bits each."""
STATE_BEGINS = 24
"""Where PyTorch's CPU generator keeps them in the bytes of its state, each in eight bytes."""


def noise_generator(key: int) -> "torch.Generator":
    """A CPU generator of private noise, which different keys never share.

    `torch.Generator.manual_seed` keeps 32 bits of a seed on a CPU, so that among a hundred thousand streams some are
    equal, and their noise cancels in a difference. Here NumPy's `SeedSequence` fills all 624 words of the Mersenne
    Twister.

    Args:
        key: not negative; from `Streams.key`.

    Raises:
        RuntimeError: this PyTorch keeps the state of its generator in another form.
    """
    import torch

    _check_layout()
    generator = torch.Generator()
    words = np.random.SeedSequence(key).generate_state(STATE_WORDS)
    words[0] |= np.uint32(1 << 31)  # of the first word that bit alone counts; a state of zeros would stay zero
    state = generator.get_state()
    _words(state.numpy())[:] = words
    return generator.set_state(state)


def _words(state: np.ndarray) -> np.ndarray:
    return state[STATE_BEGINS : STATE_BEGINS + 8 * STATE_WORDS].view("<u8")


@cache
def _check_layout() -> None:
    """Compare a seeded state with NumPy's, which seeds the same generator in the same way."""
    import torch

    state = torch.Generator().manual_seed(5489).get_state().numpy()
    expected = np.random.RandomState(5489).get_state(legacy=False)["state"]["key"]
    if len(state) < STATE_BEGINS + 8 * STATE_WORDS or not np.array_equal(_words(state), expected):
        raise RuntimeError(
            f"PyTorch {torch.__version__} keeps the state of its CPU generator in another form than fedsec knows, and "
            "private noise cannot be seeded; expected 624 words of 64 bits after 24 bytes"
        )
