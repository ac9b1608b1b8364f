"""Turbo-Aggregate: groups of clients in a ring pass a masked sum on, with redundancy for those who drop out.

n clients stand in L groups of some N = log n. In group l client i splits its masked vector into additive shares, one
for each client j of the next group, xt_ij = x_i + u_i + r_ij with sum_j r_ij = 0, and codes them: xb_ij is the value at
beta_j of the polynomial that has the values xt_ij at the points alpha_j (Lagrange coding). It passes both on, and
beside them what it holds itself: its share s_i of the sum so far, and its coded share sb_i. Client j of the next group
then holds

    s_j = mean of the previous group's shares + sum_i xt_ij,    sb_j = the same mean + sum_i xb_ij

where i is over those who did not drop out, and shares of those who did are computed from the others' coded ones: any
N_l of 2 N_l values are enough, so half of a group may drop out. The mean of a group's shares is the sum of all masked
vectors before it. At the ring's end the server receives the shares of a last group and subtracts the masks u_i, whose
seeds it chose.

Of m numbers a client sends 4 m N to the next group (2 m N in the first): O(m n log n) altogether, in place of the
server's O(m n^2) for masks of pairs that it must make when clients drop out; but many more bytes of each client.

**Choices that the paper leaves open.** Groups of log2 n clients (the paper: a constant times log n, which follows from
the drop-out rate and from how sure one must be), of equal size up to one client. The last stage, for which the paper
takes any clients that are left, takes those of the first group.

**Deviations.** A simulation without security: see the package. Numbers are elements of the field of integers modulo
2^31 - 1 (coding needs a field), rounded to a grid and not at random. The server hands out seeds of 16 bytes in place of
vectors u_i. A client that drops out before its group's turn takes no part; one that drops out before the end matters
only in the last group. The paper's generalized protocol, whose coding adds random vectors against clients that collude
and packs several shares into one, is left out, and so is its analysis of the time that groups wait for each other.

Reference: So, Guler, Avestimehr, Turbo-Aggregate: breaking the quadratic aggregation barrier in secure federated
learning, IEEE JSAIT 2 (1), 2021, arXiv:2002.04156
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt64

from fedsec.errors import InputError
from fedsec.federation.secure_sums.costs import PhaseCost, ProtocolCost, vector_bytes
from fedsec.federation.secure_sums.dropouts import Absence
from fedsec.federation.secure_sums.finite_field import PRIME, combined, inverse, lagrange, product, reduced, uniform
from fedsec.federation.secure_sums.protocol import AbortedError, SecureSum, SumProtocol

__all__ = ["TurboAggregate"]

_SEED_BYTES = 16
_BLOCK = 1 << 13
"""Numbers that go around the ring at once: so that a group's shares stay in a processor's cache."""

Shares = UInt64[np.ndarray, "members numbers"]


@dataclass(frozen=True)
class TurboAggregate(SumProtocol):
    """Groups in a ring, additive shares, and Lagrange coding.

    Args:
        group_size: clients of a group in the ring, at least two; None for log2 of how many take part, rounded up.

    Raises:
        InputError: groups of one client, which would hand its vector to others as it is.
    """

    group_size: int | None = None

    def __post_init__(self) -> None:
        if self.group_size is not None and self.group_size < 2:
            raise InputError(f"secure_aggregation: group_size must be at least 2, got {self.group_size}")

    @property
    def modulus(self) -> int:
        return int(PRIME)

    @property
    def bits(self) -> int:
        """Of an element."""
        return 31

    def ring(self, present: Sequence[int], rng: np.random.Generator) -> list[list[int]]:
        """The groups, in their order.

        Args:
            present: the clients' places.
            rng: of the order.
        """
        size = self.group_size or max(2, math.ceil(math.log2(max(2, len(present)))))
        count = max(1, len(present) // size)
        order = [present[index] for index in rng.permutation(len(present)).tolist()]
        return [sorted(order[first::count]) for first in range(count)]

    def run(
        self, vectors: UInt64[np.ndarray, "clients numbers"], absence: Absence, generator: np.random.BitGenerator
    ) -> SecureSum:
        clients, numbers = vectors.shape
        present = [place for place in range(clients) if place not in absence.before_sharing]
        if len(present) < 2:
            raise AbortedError(f"{len(present)} of {clients} clients came, and a sum of one hides nobody")
        ring = self.ring(present, np.random.Generator(generator))
        here = [[place for place in group if place not in absence.before_upload] for group in ring]
        counted = sorted(place for left in here for place in left)
        if len(counted) < 2:
            raise AbortedError("one vector at most is left, and a sum of one hides nobody")
        # Those of the first group that are left close the ring.
        groups = [*ring, here[0]]
        left = [*here, [place for place in here[0] if place not in absence.before_unmasking]]
        for number in range(1, len(groups)):
            if 2 * len(left[number]) < len(groups[number]) or not left[number]:
                name = "the last group" if number == len(ring) else f"group {number + 1} of the ring"
                raise AbortedError(
                    f"{len(left[number])} of the {len(groups[number])} clients of {name} are left, and half of them "
                    "are needed"
                )
        total = np.empty(numbers, np.uint64)
        for start in range(0, numbers, _BLOCK):
            block = slice(start, start + _BLOCK)
            total[block] = _passed_on(vectors[:, block], groups, left, generator)
        return SecureSum(total, tuple(counted), self._cost(clients, numbers, groups, left))

    def _cost(
        self, clients: int, numbers: int, groups: Sequence[Sequence[int]], left: Sequence[Sequence[int]]
    ) -> ProtocolCost:
        size, seeds, last = vector_bytes(numbers, self.bits), PhaseCost("seeds", clients), PhaseCost("last", clients)
        for group in groups[:-1]:
            for place in group:
                seeds.down(place, _SEED_BYTES)
        phases = [PhaseCost(f"group {number + 1}", clients) for number in range(len(groups) - 1)]
        for number, phase in enumerate(phases):
            for place in left[number]:
                phase.across(place, groups[number + 1], size * (4 if number else 2))
        for place in left[-1]:
            last.up(place, 2 * size)
        return ProtocolCost([seeds, *phases, last])


def _passed_on(
    vectors: UInt64[np.ndarray, "clients numbers"],
    groups: Sequence[Sequence[int]],
    left: Sequence[Sequence[int]],
    generator: np.random.BitGenerator,
) -> UInt64[np.ndarray, "numbers"]:
    """The sum of some columns, as it goes around the ring.

    Args:
        vectors: of all clients.
        groups: in their order, the one that reports to the server last.
        left: who of them does not drop out.
        generator: of masks and shares.
    """
    masks = uniform(generator, *vectors.shape)
    so_far, unmask = np.zeros(vectors.shape[1], np.uint64), np.zeros(vectors.shape[1], np.uint64)
    for number, receivers in enumerate(groups[1:]):
        held = np.zeros((len(receivers), vectors.shape[1]), np.uint64)
        for place in left[number]:
            _add_shares(held, vectors[place] + masks[place], generator)
            unmask += masks[place]
        held = reduced(held)
        # Coding is linear: the sum of coded shares is the coded sum of shares, and is computed once.
        coded = combined(lagrange(*_points(len(receivers))), held)
        held, coded = reduced(held + so_far), reduced(coded + so_far)
        arriving = [row for row, place in enumerate(receivers) if place in left[number + 1]]
        so_far = _mean(held, coded, arriving)
    return reduced(so_far + PRIME - reduced(unmask))


def _points(size: int) -> tuple[UInt64[np.ndarray, "size"], UInt64[np.ndarray, "size"]]:
    """Where shares of so many clients stand, and coded shares."""
    points = np.arange(1, 2 * size + 1, dtype=np.uint64)
    return points[:size], points[size:]


def _add_shares(held: Shares, vector: UInt64[np.ndarray, "numbers"], generator: np.random.BitGenerator) -> None:
    """Add to what receivers hold a vector plus random ones that sum to zero, one for each; not reduced yet.

    Args:
        held: by each receiver; below 2^64 for as many as a billion senders.
        vector: of the sender.
        generator: of the random vectors.
    """
    drawn = uniform(generator, len(held) - 1, len(vector))
    held[1:] += drawn
    held[0] += np.uint64(len(held)) * PRIME - drawn.sum(0, dtype=np.uint64)
    held += vector


def _mean(held: Shares, coded: Shares, arriving: Sequence[int]) -> UInt64[np.ndarray, "numbers"]:
    """The mean of a group's shares, of which those in some rows arrive, with their coded ones: half of them suffice."""
    size = len(held)
    own, code = _points(size)
    missing = [row for row in range(size) if row not in arriving]
    shares = held[arriving]
    if missing:
        points = np.concatenate([own[arriving], code[arriving]])[:size]
        values = np.concatenate([held[arriving], coded[arriving]])[:size]
        shares = np.concatenate([shares, combined(lagrange(points, own[missing]), values)])
    total = reduced(shares.sum(0, dtype=np.uint64))
    return product(total, inverse(np.array([size], np.uint64))[0])
