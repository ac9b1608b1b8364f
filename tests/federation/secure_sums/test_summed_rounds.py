"""Rounds whose sums come from a simulated protocol: means on a grid, who drops out, aborts, and what rounds cost."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fedsec.attacks import NaN, SignFlip
from fedsec.defenses import Median
from fedsec.engine.local_training import LocalTraining
from fedsec.errors import InputError
from fedsec.federation import FedAvg, Federation, FedSGD, LocalOnly, Threat
from fedsec.federation.guards import RunDescription, problems
from fedsec.federation.secure_aggregation import SecureAggregation
from fedsec.federation.secure_sums.dropouts import Dropouts
from fedsec.federation.secure_sums.pairwise_masks import PairwiseMasks
from fedsec.federation.secure_sums.protocol import SumProtocol
from fedsec.federation.secure_sums.row_sums import RowSum, RowSums
from fedsec.federation.secure_sums.turbo_aggregate import TurboAggregate

LOCAL = LocalTraining(epochs=1, batch_size=4, lr=0.1)
PROTOCOLS: tuple[SumProtocol, ...] = (
    PairwiseMasks(threshold=0.5),
    PairwiseMasks(64, 0.4),
    TurboAggregate(group_size=2),
)


def summed(rows: torch.Tensor, weights: list[int], sums: RowSums, **more: Any) -> RowSum:
    grid = sums.grid(sum(weights))
    return sums.summed(rows, weights, range(len(rows)), grid, randomness=np.random.SeedSequence(0), **more)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
@pytest.mark.parametrize("bits", [None, 10])
def test_means_are_those_of_who_is_left_to_half_a_step(protocol: SumProtocol, bits: int | None) -> None:
    sums = RowSums(protocol, 2.0, bits, Dropouts((1,), (2,), (0,)))
    rows = torch.rand(7, 9, generator=torch.Generator().manual_seed(0)).double() * 4 - 2
    weights = [3, 1, 5, 2, 2, 8, 1]
    ours, grid = summed(rows, weights, sums), sums.grid(sum(weights))
    left, own = [0, 3, 4, 5, 6], torch.tensor(weights).double()
    assert (ours.counted, ours.weight, ours.clipped) == (tuple(left), 16, 0)
    assert ours.mean is not None
    assert (ours.mean - own[left] @ rows[left] / 16).abs().max() <= 2.0 ** -(grid.fraction_bits + 1)
    quantized = torch.round(rows * 2.0**grid.fraction_bits)
    assert torch.equal(ours.mean, own[left] @ quantized[left] / 2.0**grid.fraction_bits / 16)


def test_honest_clients_cut_what_they_send_and_others_stay_in_the_ring() -> None:
    rows, sums = torch.tensor([[0.5, 3.0], [0.5, 0.5], [1e9, -40.0]]), RowSums(PairwiseMasks(), 1.0)
    ours, grid = summed(rows, [1, 1, 1], sums, wild=[2]), sums.grid(3)
    assert ours.clipped == 0.25
    assert ours.mean is not None
    # A boosted update moves a mean by no more than half the ring, which the heaviest sum nearly fills.
    assert ours.mean.abs().max() <= 2**31 / 2.0**grid.fraction_bits / 3
    assert summed(rows, [1, 1, 1], sums).mean is not None
    torch.testing.assert_close(summed(rows, [1, 1, 1], sums).mean, torch.tensor([2.0, 0.5]) / 3)


def test_who_has_nothing_finite_drops_out() -> None:
    rows = torch.tensor([[0.5], [torch.nan], [0.25], [0.25]])
    ours = summed(rows, [1, 1, 1, 1], RowSums(PairwiseMasks(threshold=0.5)))
    assert ours.absence.before_upload == {1}
    torch.testing.assert_close(ours.mean, torch.tensor([1.0]) / 3)


def federation(build: Callable[..., Federation], sums: RowSums | None, clients: int = 4, **more: Any) -> Federation:
    protocol = None if sums is None else SecureAggregation(clients, sums)
    settings = {"algorithm": FedAvg(local=LOCAL), "clients_per_round": 4, "secure_aggregation": protocol, **more}
    return build(settings.pop("algorithm"), **settings)


@pytest.mark.parametrize("weighting", ["samples", "uniform", "population"])
@pytest.mark.parametrize("sums", [RowSums(PairwiseMasks(64)), RowSums(TurboAggregate())], ids=("pairs", "ring"))
def test_the_mean_does_not_notice_but_for_the_grid(
    build: Callable[..., Federation], sums: RowSums, weighting: Any
) -> None:
    algorithm = FedAvg(local=LOCAL, weighting=weighting)
    plain, ring = federation(build, None, algorithm=algorithm), federation(build, sums, 2, algorithm=algorithm)
    for _ in range(2):
        ours, theirs = ring.play(), plain.play()
        assert ours.influence == pytest.approx(theirs.influence)
    torch.testing.assert_close(ring.parameters, plain.parameters, atol=1e-5, rtol=0)
    assert ours.secure_sums is not None
    assert theirs.secure_sums is None


def test_who_drops_out_has_no_influence_and_the_others_share_it(build: Callable[..., Federation]) -> None:
    sums = RowSums(PairwiseMasks(64, threshold=0.4), dropouts=Dropouts(before_upload=(3,), before_unmasking=(0,)))
    ours = federation(build, sums)
    rows = list[torch.Tensor]()
    plain = federation(build, None)
    plain.row_observers.append(lambda number, clients, received: rows.append(received.clone()))
    plain.play()
    before, result = ours.parameters.clone(), ours.play()
    assert result.influence == pytest.approx([8 / 18, 4 / 18, 6 / 18, 0])
    assert (result.rejected, result.dropped) == ((), ())
    expected = torch.tensor([8.0, 4.0, 6.0]) @ rows[0][:3] / 18
    torch.testing.assert_close(ours.parameters - before, expected, atol=1e-5, rtol=0)
    assert result.secure_sums is not None
    assert (result.secure_sums["before_upload"], result.secure_sums["before_unmasking"]) == ([3], [0])


def test_a_group_without_a_sum_is_lost_and_the_others_go_on(build: Callable[..., Federation]) -> None:
    sums = RowSums(PairwiseMasks(), dropouts=Dropouts(before_upload=(1,)))
    result = federation(build, sums, 2).play()
    assert len(result.rejected) == 2
    assert 1 in result.rejected
    assert sum(result.influence) == pytest.approx(1)
    assert result.secure_sums is not None
    assert len(result.secure_sums["aborted"]) == 1


@pytest.mark.parametrize("broken_condition", ["stop", "relax", "skip"])
def test_a_round_without_any_sum_stops_the_run_or_is_skipped(
    build: Callable[..., Federation], broken_condition: Any
) -> None:
    sums = RowSums(PairwiseMasks(), dropouts=Dropouts(before_upload=(1, 2)))
    ours = federation(build, sums, broken_condition=broken_condition)
    if broken_condition != "skip":
        with pytest.raises(InputError, match="round 1: secure aggregation aborted: 2 of 4 clients uploaded"):
            ours.play()
        return
    before, result = ours.parameters.clone(), ours.play()
    assert torch.equal(ours.parameters, before)
    assert "aborted" in result.broken
    assert result.influence == (0, 0, 0, 0)


def test_an_attack_that_is_not_finite_takes_itself_out(build: Callable[..., Federation]) -> None:
    attack = Threat(frozenset({1}), NaN())
    result = federation(build, RowSums(PairwiseMasks(threshold=0.5)), threat=attack).play()
    assert not result.diverged
    assert result.influence[1] == 0


def test_a_boosted_update_moves_the_mean_no_further_than_the_ring(build: Callable[..., Federation]) -> None:
    attack, sums = Threat(frozenset({1}), SignFlip(scale=1e6)), RowSums(PairwiseMasks())
    free, ring = federation(build, None, threat=attack), federation(build, sums, threat=attack)
    before = ring.parameters.clone()
    free.play()
    ring.play()
    assert (free.parameters - before).abs().max() > 1e3
    assert ring.sums_grid is not None
    most = 2**31 / 2.0**ring.sums_grid.fraction_bits / 28  # of 28 examples
    assert (ring.parameters - before).abs().max() <= most * 1.001


def test_rounds_cost_what_the_protocol_sends(build: Callable[..., Federation]) -> None:
    plain, ring = federation(build, None).play(), federation(build, RowSums(PairwiseMasks())).play()
    assert plain.cost is not None
    assert ring.cost is not None
    parameters, clients = 15, 4
    keys_and_shares = 2 * clients * 32 + (5 * clients - 4) * 32
    total = ring.cost.upload_bytes + ring.cost.download_bytes
    assert total == plain.cost.download_bytes + keys_and_shares + 4 * (parameters + 1)
    assert ring.cost.upload_bytes == 64 + 2 * 3 * 32 + 4 * 32 + 4 * (parameters + 1)


def test_what_stays_at_home_is_in_no_message(build: Callable[..., Federation]) -> None:
    """Of the one layer nothing is left to send but the weight, and sums have their places all the same."""
    whole = federation(build, RowSums(PairwiseMasks()))
    own = federation(build, RowSums(PairwiseMasks()), algorithm=LocalOnly(local=LOCAL))
    before, sent, kept_back = own.parameters.clone(), whole.play().cost, own.play().cost
    assert sent is not None
    assert kept_back is not None
    assert sent.upload_bytes - kept_back.upload_bytes == 4 * 15
    assert torch.equal(own.parameters, before)


def test_rounds_are_the_same_again_and_go_on_from_a_state(build: Callable[..., Federation]) -> None:
    sums = RowSums(TurboAggregate(2), dropouts=Dropouts(before_upload=0.25))
    first, second = federation(build, sums, 4), federation(build, sums, 4)
    first.play()
    second.restore(first.state(), 1)
    ours, theirs = first.play(), second.play()
    assert torch.equal(first.parameters, second.parameters)
    assert ours.secure_sums == theirs.secure_sums


def test_sums_that_might_overflow_are_refused_before_the_first_round(build: Callable[..., Federation]) -> None:
    fine = RowSums(PairwiseMasks(), 1.0, 26)
    federation(build, fine, 4)  # 28 examples
    with pytest.raises(InputError, match="weights of 28 altogether takes"):
        federation(build, RowSums(PairwiseMasks(), 1.0, 27), 4)
    federation(build, RowSums(PairwiseMasks(), 1.0, 27), 4, algorithm=FedSGD(weighting="uniform"))
    threat = Threat(frozenset({0, 1, 2, 3}), SignFlip(), claimed_examples=2500)
    with pytest.raises(InputError, match="weights of 70,000 altogether"):
        federation(build, RowSums(PairwiseMasks(), 1.0, 15), 4, threat=threat)


def test_a_protocol_that_always_aborts_is_refused() -> None:
    def run(dropouts: Dropouts) -> list[tuple[str, str]]:
        sums = SecureAggregation(6, RowSums(PairwiseMasks(), dropouts=dropouts))
        return [*problems(RunDescription(FedAvg(), 12, 12, rule=Median(), secure_aggregation=sums))]

    assert run(Dropouts(before_upload=0.2)) == []
    ((place, why),) = run(Dropouts(before_upload=0.2, before_unmasking=0.2))
    assert place == "federation.secure_aggregation.dropouts"
    assert "of 6 clients 4 stay to the protocol's end, and 5 are needed" in why
    assert run(Dropouts(before_upload=(11,))) == []
    ((place, why),) = run(Dropouts(before_upload=(3, 12)))
    assert place == "federation.secure_aggregation.dropouts"
    assert why == "before_upload names client 12; expected numbers below 12, the number of clients"
