"""Rounds in which the server sees sums of clients: plain sums, or those that a simulated protocol ends with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.federation.secure_aggregation import Groups, SecureAggregation
from fedsec.federation.secure_sums.fixed_point import FixedPoint
from fedsec.federation.secure_sums.row_sums import RowSums, SumsReport
from fedsec.federation.server_rules import Verdict

if TYPE_CHECKING:
    from fedsec.federation.updates import Federation

__all__ = ["judged_sums", "whole_weights", "widest_grid"]


def judged_sums(
    federation: "Federation",
    received: Mapping[str, Float[Tensor, "clients parameters"]],
    clients: Sequence[int],
    byzantine: Sequence[int],
    coefficients: Float[Tensor, "clients"],
    drawn: Mapping[str, torch.Generator | None],
    round_number: int,
) -> Verdict:
    """What the server makes of a round in which it sees sums of clients only.

    Args:
        federation: whose round it is.
        received: what clients sent, before it is summed.
        clients: in the order of the rows.
        byzantine: places of the Byzantine ones.
        coefficients: of the clients in the average.
        drawn: the random streams of the rules.
        round_number: from 1.

    Raises:
        InputError: the protocol aborted for all groups, and that stops the run.
    """
    assert federation.secure_aggregation is not None
    groups, protocol = federation.secure_aggregation.groups(len(clients), round_number, federation.streams), None
    lost = tuple[int, ...]()
    if federation.secure_aggregation.protocol is None:
        sums = {name: groups.sums(rows, coefficients) for name, rows in received.items()}
    else:
        wild = [*byzantine] if federation.forgery.forges else []
        protocol = _protocol_sums(federation, groups, received["update"], clients, wild, round_number)
        federation.sums_report, lost = protocol, protocol.lost
        if aborted := _aborted(federation, protocol, round_number):
            return Verdict({}, None, aborted, 0.0)
        nothing = torch.full_like(received["update"][0], torch.nan)
        sums = {"update": torch.stack([nothing if one.mean is None else one.mean for one in protocol.sums])}
        coefficients = coefficients.clone()
        coefficients[[*lost]] = 0
    members = [[clients[place] for place in places if place not in lost] for places in groups.places]
    for observer in federation.sum_observers:
        observer(round_number, members, sums["update"])
    weights, numbers = groups.weights(coefficients), range(len(groups.places))
    verdict = federation.rules(sums, weights, drawn, round_number, numbers, noun="sums")
    aggregates = {name: groups.of_clients(one, coefficients) for name, one in verdict.aggregates.items()}
    return replace(verdict, aggregates=aggregates, lost=lost)


def widest_grid(federation: "Federation", protocol: SecureAggregation) -> FixedPoint | None:
    """The numbers of a federation's sums, fine as the heaviest sum allows; None where no protocol is simulated.

    Raises:
        InputError: sums might overflow.
    """
    if protocol.protocol is None:
        return None
    heaviest = sorted(whole_weights(federation, range(federation.num_clients)), reverse=True)
    largest = protocol.largest(federation.clients_per_round)
    return protocol.protocol.grid(sum(heaviest[:largest]))


def whole_weights(federation: "Federation", clients: Sequence[int]) -> list[int]:
    """What clients multiply their rows by: how many examples they claim, or 1 where all weigh the same."""
    if federation.algorithm.weighting == "uniform":
        return [1] * len(clients)
    claimed, _ = federation.counted_by(clients)
    return [max(1, round(number)) for number in claimed.tolist()]


def _protocol_sums(
    federation: "Federation",
    groups: Groups,
    rows: Float[Tensor, "clients parameters"],
    clients: Sequence[int],
    wild: Sequence[int],
    round_number: int,
) -> SumsReport:
    assert federation.secure_aggregation is not None
    assert federation.sums_grid is not None
    protocol: RowSums | None = federation.secure_aggregation.protocol
    assert protocol is not None
    weights, sums = whole_weights(federation, clients), []
    home = federation.algorithm.at_home(federation.algorithm_state)
    shared = torch.ones(rows.shape[1], dtype=torch.bool, device=rows.device)
    if home is not None:
        shared[home] = False
    for number, places in enumerate(groups.places):
        one = protocol.summed(
            rows[[*places]][:, shared],  # what stays at home is in no message
            [weights[place] for place in places],
            [clients[place] for place in places],
            federation.sums_grid,
            wild=[own for own, place in enumerate(places) if place in wild],
            randomness=federation.streams.sequence("secure_aggregation", "masks", round_number, number),
        )
        if one.mean is not None:
            mean = rows.new_zeros(rows.shape[1])
            mean[shared] = one.mean
            one = replace(one, mean=mean)
        sums.append(one)
    return SumsReport(groups.places, sums, federation.sums_grid, clients)


def _aborted(federation: "Federation", report: SumsReport, round_number: int) -> str:
    """Why there is no sum at all; nothing where there is one.

    Raises:
        InputError: that stops the run.
    """
    if any(one.mean is not None for one in report.sums):
        return ""
    why = f"secure aggregation aborted: {report.sums[0].aborted}"
    if federation.rules.broken_condition != "skip":
        raise InputError(
            f"round {round_number}: {why}; expected fewer dropouts, a lower threshold, or broken_condition: skip"
        )
    return why
