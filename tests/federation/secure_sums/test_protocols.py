"""Both protocols: sums exact to the bit whoever drops out, aborts below the threshold, and what they cost."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.errors import InputError
from fedsec.federation.secure_sums.costs import vector_bytes
from fedsec.federation.secure_sums.dropouts import Absence, Dropouts
from fedsec.federation.secure_sums.pairwise_masks import PairwiseMasks, neighborhoods
from fedsec.federation.secure_sums.protocol import AbortedError, SumProtocol
from fedsec.federation.secure_sums.turbo_aggregate import TurboAggregate

PROTOCOLS: tuple[SumProtocol, ...] = (
    PairwiseMasks(32),
    PairwiseMasks(64, threshold=0.5),
    PairwiseMasks(32, threshold=0.4, neighbors=4),
    TurboAggregate(),
    TurboAggregate(group_size=3),
)


def vectors(protocol: SumProtocol, clients: int, numbers: int, seed: int = 0) -> np.ndarray:
    """Any elements of the ring, the largest among them."""
    raw = np.random.default_rng(seed).integers(0, protocol.modulus, (clients, numbers), np.uint64)
    raw[0, 0] = protocol.modulus - 1
    return raw


def plain_sum(rows: np.ndarray, places: tuple[int, ...], modulus: int) -> list[int]:
    return [sum(int(rows[place, column]) for place in places) % modulus for column in range(rows.shape[1])]


@settings(max_examples=30, deadline=None)
@given(
    protocol=st.sampled_from(PROTOCOLS),
    clients=st.integers(2, 11),
    data=st.data(),
    seed=st.integers(0, 2**32),
)
def test_sums_are_exact_or_there_is_none(protocol: SumProtocol, clients: int, data: st.DataObject, seed: int) -> None:
    # One in twelve leaves in each phase, so that most runs come to an end.
    fates = data.draw(st.lists(st.integers(0, 11), min_size=clients, max_size=clients))
    leaving = [frozenset(place for place, fate in enumerate(fates) if fate == phase) for phase in range(3)]
    absence, rows = Absence(*leaving), vectors(protocol, clients, 5, seed % 97)
    counted = tuple(place for place in range(clients) if place not in absence.uncounted)
    try:
        ours = protocol.run(rows, absence, np.random.SFC64(seed))
    except AbortedError:
        assert any(leaving)
        return
    assert ours.counted == counted
    assert ours.total.tolist() == plain_sum(rows, counted, protocol.modulus)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_every_single_dropout_is_recovered_from(protocol: SumProtocol) -> None:
    rows = vectors(protocol, 8, 3)
    for phase, place in itertools.product(("before_sharing", "before_upload", "before_unmasking"), range(8)):
        absence = Absence(**{phase: frozenset({place})})
        ours = protocol.run(rows, absence, np.random.SFC64(5))
        counted = tuple(other for other in range(8) if other != place or phase == "before_unmasking")
        assert ours.counted == counted
        assert ours.total.tolist() == plain_sum(rows, counted, protocol.modulus)


def test_pairwise_masks_abort_below_the_threshold_in_every_phase_and_not_at_it() -> None:
    protocol, rows = PairwiseMasks(threshold=0.5), vectors(PairwiseMasks(), 6, 2)
    assert protocol.needed(6) == 4
    for phase in ("before_sharing", "before_upload", "before_unmasking"):
        enough, few = (Absence(**{phase: frozenset(range(gone))}) for gone in (2, 3))
        protocol.run(rows, enough, np.random.SFC64(0))
        with pytest.raises(AbortedError, match="and 4 are needed"):
            protocol.run(rows, few, np.random.SFC64(0))


def test_turbo_aggregate_loses_half_of_a_group_and_no_more() -> None:
    protocol, rows = TurboAggregate(group_size=4), vectors(TurboAggregate(), 12, 2)
    ring = protocol.ring(list(range(12)), np.random.Generator(np.random.SFC64(3)))
    for group in ring:
        ours = protocol.run(rows, Absence(before_upload=frozenset(group[:2])), np.random.SFC64(3))
        assert ours.total.tolist() == plain_sum(rows, ours.counted, protocol.modulus)
    with pytest.raises(AbortedError, match="1 of the 4 clients of group 2 of the ring are left"):
        protocol.run(rows, Absence(before_upload=frozenset(ring[1][:3])), np.random.SFC64(3))
    with pytest.raises(AbortedError, match="1 of the 4 clients of the last group are left"):
        protocol.run(rows, Absence(before_unmasking=frozenset(ring[0][:3])), np.random.SFC64(3))
    with pytest.raises(AbortedError, match="one vector at most is left"):
        protocol.run(rows[:4], Absence(before_upload=frozenset(range(4))), np.random.SFC64(3))


def test_long_vectors_go_around_the_ring_in_blocks() -> None:
    protocol = TurboAggregate(group_size=2)
    rows = vectors(protocol, 4, 20_000)
    ours = protocol.run(rows, Absence(), np.random.SFC64(0))
    np.testing.assert_array_equal(ours.total, rows.sum(0, dtype=np.uint64) % np.uint64(protocol.modulus))


@pytest.mark.parametrize("bits", [32, 64])
def test_uploads_look_like_noise_and_depend_on_who_takes_part(bits: int) -> None:
    protocol, zeros = PairwiseMasks(bits), np.zeros((4, 4000), np.uint64)  # type: ignore[arg-type]
    first, again = (protocol.run(zeros, Absence(), np.random.SFC64(seed)).uploads for seed in (1, 2))
    assert first is not None
    assert again is not None
    assert not (first == again).any(1).all()
    for row in first:
        mean = (row / protocol.modulus).mean()
        assert abs(mean - 0.5) < 5 / math.sqrt(12 * 4000)  # of uniform numbers, in standard errors
    pairs = np.corrcoef(first / protocol.modulus)
    assert np.abs(pairs - np.eye(4)).max() < 5 / math.sqrt(4000)
    # Without one's own mask two uploads would add up to two vectors: pairwise masks cancel between two clients.
    two = protocol.run(zeros[:2], Absence(), np.random.SFC64(1)).uploads
    assert two is not None
    assert two.sum(0, dtype=two.dtype).any()


@pytest.mark.parametrize(("clients", "numbers", "bits"), [(5, 100, 32), (9, 33, 64)])
def test_pairwise_masks_cost_what_the_papers_say(clients: int, numbers: int, bits: int) -> None:
    protocol = PairwiseMasks(bits)  # type: ignore[arg-type]
    cost = protocol.run(vectors(protocol, clients, numbers), Absence(), np.random.SFC64(0)).cost
    a_key, a_share = 32, 32
    expected = 2 * clients * a_key + (5 * clients - 4) * a_share + numbers * bits // 8
    assert (cost.sent + cost.received).tolist() == [expected] * clients
    assert cost.server_sent + cost.server_received == clients * expected
    assert cost.rounds == 4
    neighbors = PairwiseMasks(bits, neighbors=2)  # type: ignore[arg-type]
    cost = neighbors.run(vectors(protocol, clients, numbers), Absence(), np.random.SFC64(0)).cost
    expected = 2 * 3 * a_key + (5 * 2 + 1) * a_share + numbers * bits // 8
    assert (cost.sent + cost.received).tolist() == [expected] * clients


@pytest.mark.parametrize(("log_clients", "log_numbers", "factor"), [(10, 20, 1.73), (14, 24, 1.98)])
def test_the_expansion_of_bonawitz_et_al(log_clients: int, log_numbers: int, factor: float) -> None:
    # Their abstract, for vectors of 16-bit numbers; the ring holds sums of all clients' numbers.
    clients, numbers = 2**log_clients, 2**log_numbers
    keys_and_shares = 2 * clients * 32 + (5 * clients - 4) * 32
    total = keys_and_shares + vector_bytes(numbers, 16 + log_clients)
    assert total / vector_bytes(numbers, 16) == pytest.approx(factor, abs=0.005)


def test_clients_that_left_send_and_receive_less() -> None:
    protocol, rows = PairwiseMasks(threshold=0.5), vectors(PairwiseMasks(), 7, 10)
    absence = Absence(frozenset({0}), frozenset({1}), frozenset({2}))
    cost = protocol.run(rows, absence, np.random.SFC64(0)).cost
    keys, shares, upload, unmasking = cost.phases
    assert keys.sent.tolist() == [0, *[64] * 6]
    assert shares.received.tolist() == [0, *[2 * 5 * 32] * 6]
    assert upload.sent.tolist() == [0, 0, *[40] * 5]
    assert unmasking.sent.tolist() == [0, 0, 0, *[6 * 32] * 4]
    assert cost.messages == 6 + 6 + 6 + 6 + 5 + 4


def test_turbo_aggregate_costs_four_vectors_for_each_client_of_the_next_group() -> None:
    protocol, numbers = TurboAggregate(group_size=4), 16
    cost = protocol.run(vectors(protocol, 12, numbers), Absence(), np.random.SFC64(0)).cost
    size, ring = vector_bytes(numbers, 31), protocol.ring(list(range(12)), np.random.Generator(np.random.SFC64(0)))
    for place in range(12):
        first = place in ring[0]
        # The first group has nothing to pass on yet, and closes the ring in the end.
        assert cost.sent[place] == (2 * 4 * size + 2 * size if first else 4 * 4 * size)
    assert cost.rounds == 1 + 3 + 1
    assert cost.messages == 12 + 12 * 4 + 4
    assert cost.server_received == 4 * 2 * size


def test_vectors_per_client_grow_with_the_logarithm_of_clients() -> None:
    for clients, group in ((8, 3), (64, 6)):
        cost = TurboAggregate().run(vectors(TurboAggregate(), clients, 8), Absence(), np.random.SFC64(0)).cost
        assert cost.sent.max() <= 4 * (group + 1) * vector_bytes(8, 31)


def test_neighbors_are_mutual_and_as_many_as_asked() -> None:
    circle = neighborhoods(range(11), 4, np.random.default_rng(0))
    for place, neighbors in circle.items():
        assert len(set(neighbors)) == 4
        assert place not in neighbors
        assert all(place in circle[other] for other in neighbors)
    assert all(len(others) == 4 for others in neighborhoods(range(5), 4, np.random.default_rng(0)).values())


def test_dropouts_are_shares_of_those_still_there_or_clients_by_number() -> None:
    absence = Dropouts(0.25, 0.5, (30,)).drawn(range(8), np.random.default_rng(0))
    assert [len(absence.before_sharing), len(absence.before_upload)] == [2, 3]
    assert not absence.before_sharing & absence.before_upload
    named = Dropouts(before_upload=(30, 99), before_unmasking=(30, 10)).drawn([10, 20, 30], np.random.default_rng(0))
    assert (named.before_upload, named.before_unmasking) == ({2}, {0})
    assert not Dropouts().any
    with pytest.raises(InputError, match=r"dropouts.before_upload must lie in \[0, 1\], got 2"):
        Dropouts(before_upload=2.0)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: PairwiseMasks(16), "bits must be 32 or 64, got 16"),  # type: ignore[arg-type]
        (lambda: PairwiseMasks(threshold=1.0), r"threshold must lie in \[0, 1\), got 1"),
        (lambda: PairwiseMasks(neighbors=3), "neighbors must be even and at least 2, got 3"),
        (lambda: TurboAggregate(1), "group_size must be at least 2, got 1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: object, why: str) -> None:
    with pytest.raises(InputError, match=why):
        wrong()  # type: ignore[operator]
