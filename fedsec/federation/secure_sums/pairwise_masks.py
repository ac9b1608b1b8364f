"""Secure aggregation by pairwise masks, of all pairs (Bonawitz et al. 2017) or of neighbors in a graph (Bell et al.).

Every pair of neighbors agrees on a seed; of the two masks that it makes, one client adds it and the other subtracts it,
so that they cancel in the sum. A mask of its own on top hides a client whose vector arrives too late. Both secrets are
dealt among neighbors in shares, of which `threshold` give one back:

1. *keys*: each client advertises two public keys, and receives those of its neighbors;
2. *shares*: each deals shares of its secret key and of the seed of its own mask, encrypted, by way of the server;
3. *upload*: each sends x_u + PRG(b_u) + sum_{v > u} PRG(s_uv) - sum_{v < u} PRG(s_uv) in Z_{2^bits};
4. *unmasking*: who is left gives the server shares: of b_u for everybody whose vector arrived, of the secret key for
   everybody whose vector did not. The server makes the masks that did not cancel, and takes them off.

With n clients, all of them neighbors, and m numbers, a client sends and receives 2 n a_K + (5 n - 4) a_S + m bits
altogether (a_K, a_S: a key's and a share's size). With k neighbors it is 2 (k + 1) a_K + (5 k + 1) a_S + m bits.

**Deviations.** A simulation without security: see the package. The exchange of keys is Diffie-Hellman's algebra in the
additive group of integers modulo 2^31 - 1, where it hides nothing (public key g a, agreed seed g a b, in four limbs);
masks come from NumPy's SFC64. The round of signatures against servers that lie about who is left is left out. The graph
is Bell et al.'s ring of nearest neighbors in a random order (a Harary graph); their analysis of how many neighbors are
enough is not: the number is a setting.

References: Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth, Practical secure aggregation for
privacy-preserving machine learning, CCS 2017, table 1 and figure 4; Bell, Bonawitz, Gascon, Lepoint, Raykova, Secure
single-server aggregation with (poly)logarithmic overhead, CCS 2020
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt64

from fedsec.errors import InputError
from fedsec.federation.secure_sums.costs import KEY_BYTES, SHARE_BYTES, PhaseCost, ProtocolCost, vector_bytes
from fedsec.federation.secure_sums.dropouts import Absence
from fedsec.federation.secure_sums.finite_field import product, uniform
from fedsec.federation.secure_sums.protocol import AbortedError, SecureSum, SumProtocol
from fedsec.federation.secure_sums.shamir import dealt, reconstructed

__all__ = ["PairwiseMasks", "neighborhoods"]

_LIMBS = 4
"""Elements of a secret, 31 bits each."""
_GENERATOR = np.uint64(7)
"""Of the group in which clients agree on seeds."""


def neighborhoods(present: Collection[int], neighbors: int | None, rng: np.random.Generator) -> dict[int, list[int]]:
    """Who masks with whom, and keeps shares of whom.

    Args:
        present: the clients' places.
        neighbors: of each client, an even number; all others for None, or where there are no more.
        rng: of the order in which clients stand in the ring.
    """
    places = sorted(present)
    if neighbors is None or neighbors >= len(places) - 1:
        return {place: [other for other in places if other != place] for place in places}
    order = [places[index] for index in rng.permutation(len(places)).tolist()]
    steps = [step for distance in range(1, neighbors // 2 + 1) for step in (distance, -distance)]
    return {place: sorted(order[(number + step) % len(order)] for step in steps) for number, place in enumerate(order)}


@dataclass(frozen=True)
class PairwiseMasks(SumProtocol):
    """Pairwise masks, masks of one's own, and Shamir's shares of both.

    Args:
        bits: of a number in the ring Z_{2^bits}.
        threshold: share of a neighborhood (the client itself included) that must be left, and one client more.
        neighbors: of each client, an even number; None for all others.

    Raises:
        InputError: settings out of range.
    """

    bits: Literal[32, 64] = 32
    threshold: float = 2 / 3
    neighbors: int | None = None

    def __post_init__(self) -> None:
        if self.bits not in (32, 64):
            raise InputError(f"secure_aggregation: bits must be 32 or 64, got {self.bits}")
        if not 0 <= self.threshold < 1:
            raise InputError(f"secure_aggregation: threshold must lie in [0, 1), got {self.threshold}")
        if self.neighbors is not None and (self.neighbors < 2 or self.neighbors % 2):
            raise InputError(f"secure_aggregation: neighbors must be even and at least 2, got {self.neighbors}")

    @property
    def modulus(self) -> int:
        return 1 << self.bits

    def needed(self, clients: int) -> int:
        """How many of a neighborhood must be left, of so many clients that were invited; a sum of one hides nobody."""
        size = clients if self.neighbors is None else min(self.neighbors + 1, clients)
        return max(2, min(size, int(self.threshold * size + 1e-9) + 1))

    def run(
        self, vectors: UInt64[np.ndarray, "clients numbers"], absence: Absence, generator: np.random.BitGenerator
    ) -> SecureSum:
        clients, needed = len(vectors), self.needed(len(vectors))
        present = [place for place in range(clients) if place not in absence.before_sharing]
        if len(present) < needed:
            raise AbortedError(f"{len(present)} of {clients} clients came, and {needed} are needed")
        circle = neighborhoods(present, self.neighbors, np.random.Generator(generator))
        keys, own = uniform(generator, clients, _LIMBS), uniform(generator, clients, _LIMBS)
        points = np.arange(1, clients + 1, dtype=np.uint64)
        shares = {}
        for place in present:
            holders = np.array(sorted([*circle[place], place]))
            secrets = np.concatenate([keys[place], own[place]])
            shares[place] = (holders, dealt(secrets, points[holders], needed, generator))
        uploading = [place for place in present if place not in absence.before_upload]
        if len(uploading) < needed:
            raise AbortedError(f"{len(uploading)} of {clients} clients uploaded, and {needed} are needed")
        uploads = self._uploads(vectors, uploading, circle, keys, own)
        left = {place for place in uploading if place not in absence.before_unmasking}
        total = uploads.sum(0, dtype=uploads.dtype)
        arrived = set(uploading)
        for place in present:
            if place in arrived or arrived.intersection(circle[place]):
                holders, dealt_shares = shares[place]
                helping = [row for row, holder in enumerate(holders.tolist()) if holder in left]
                if len(helping) < needed:
                    raise AbortedError(
                        f"of the {len(holders)} clients that hold shares of client {place}'s secrets {len(helping)} "
                        f"are left, and {needed} are needed"
                    )
                # As many as are needed, and no more: what the server does with the rest is nothing.
                helping = helping[:needed]
                part = slice(_LIMBS, None) if place in arrived else slice(0, _LIMBS)
                secret = reconstructed(dealt_shares[helping, part], points[holders[helping]])
                if place in arrived:
                    total -= self._mask(secret, vectors.shape[1])
                    continue
                for other in arrived.intersection(circle[place]):
                    mask = self._mask(_agreed(secret, _public(keys[other])), vectors.shape[1])
                    total += mask if other > place else -mask
        cost = self._cost(clients, vectors.shape[1], circle, uploading, left)
        return SecureSum(total.astype(np.uint64), tuple(uploading), cost, uploads)

    def _uploads(
        self,
        vectors: UInt64[np.ndarray, "clients numbers"],
        uploading: list[int],
        circle: dict[int, list[int]],
        keys: UInt64[np.ndarray, "clients limbs"],
        own: UInt64[np.ndarray, "clients limbs"],
    ) -> np.ndarray:
        """The masked vectors. A pair's mask is made once here for both of its clients."""
        uploads = vectors[uploading].astype(np.uint32 if self.bits == 32 else np.uint64)
        row_of = {place: row for row, place in enumerate(uploading)}
        for place, neighbors in circle.items():
            for other in (other for other in neighbors if other > place):
                if place not in row_of and other not in row_of:
                    continue
                mask = self._mask(_agreed(keys[place], _public(keys[other])), vectors.shape[1])
                if place in row_of:
                    uploads[row_of[place]] += mask
                if other in row_of:
                    uploads[row_of[other]] -= mask
        for row, place in enumerate(uploading):
            uploads[row] += self._mask(own[place], vectors.shape[1])
        return uploads

    def _mask(self, seed: UInt64[np.ndarray, "limbs"], numbers: int) -> np.ndarray:
        words = -(-numbers * self.bits // 64)
        raw = np.random.SFC64(np.random.SeedSequence(seed.tolist())).random_raw(words)
        return np.asarray(raw, np.uint64).view(np.uint32 if self.bits == 32 else np.uint64)[:numbers]

    def _cost(
        self, clients: int, numbers: int, circle: dict[int, list[int]], uploading: list[int], left: set[int]
    ) -> ProtocolCost:
        phases = [PhaseCost(name, clients) for name in ("keys", "shares", "upload", "unmasking")]
        keys, shares, upload, unmasking = phases
        for place, neighbors in circle.items():
            keys.up(place, 2 * KEY_BYTES)
            keys.down(place, 2 * KEY_BYTES * len(neighbors))
            shares.up(place, 2 * SHARE_BYTES * len(neighbors))
            shares.down(place, 2 * SHARE_BYTES * len(neighbors))
        for place in uploading:
            upload.up(place, vector_bytes(numbers, self.bits))
        for place in left:
            unmasking.up(place, SHARE_BYTES * (len(circle[place]) + 1))
        return ProtocolCost(phases)


def _public(key: UInt64[np.ndarray, "limbs"]) -> UInt64[np.ndarray, "limbs"]:
    return product(key, _GENERATOR)


def _agreed(key: UInt64[np.ndarray, "limbs"], public: UInt64[np.ndarray, "limbs"]) -> UInt64[np.ndarray, "limbs"]:
    """The seed of a pair, from one's secret key and the other's public one."""
    return product(key, public)
