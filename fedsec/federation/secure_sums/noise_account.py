"""Noise that clients add to their own updates, as part of a sum's: how much of it the smallest sum surely has."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedsec.defense.updates import UpdateTransform
from fedsec.errors import InputError
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.user_privacy import Releases
from fedsec.threat import UpdatePoisoning

if TYPE_CHECKING:
    from fedsec.federation.guards import Problem, RunDescription

__all__ = ["noise_account", "noise_problems"]

_FINEST = 100
"""Steps of the grid that a client's noise spans at least, so that rounding is nothing beside it."""
_TAIL = 8
"""Standard deviations of noise that the range of the grid leaves beside an update."""


def noise_account(run: "RunDescription") -> Releases | None:
    """What the released sums spend of every client's privacy; None where no account of clients' noise is kept."""
    transform, noises = _accounted(run), _noises(run)
    share = None if transform is None else transform.noise_share
    return None if share is None or noises < 1 else Releases.of_noises(share, run.clients, noises)


def noise_problems(run: "RunDescription") -> Iterator["Problem"]:
    """Why no account of clients' noise would hold."""
    transform, algorithm = _accounted(run), run.algorithm
    if transform is None or not isinstance(algorithm, UpdateAlgorithm):
        return
    name = type(transform).__name__
    if run.transforms[-1] is not transform:
        yield "defense", f"{name} is accounted for as the last that happens to an update; expected nothing after it"
    if run.secure_aggregation is not None and algorithm.weighting != "uniform":
        yield (
            "federation.weighting",
            f"{name} bounds updates, and weights by examples would stretch them again; expected weighting: uniform",
        )
    if not algorithm.private_clients:
        yield (
            "defense",
            f"{name}: no account of user-level privacy is known to hold for what the server of {run.name} sees; "
            "expected an algorithm such as FedAvg",
        )
    if run.running_statistics and run.bn != "local":
        yield (
            "defense",
            f"{name}: running statistics of batch normalization would leave the clients without noise, and void "
            "epsilon; expected norm: gn, or bn: local",
        )
    if run.private or run.inspector is not None:
        yield (
            "defense",
            f"{name}: clients that take no part for lack of a budget, or since they refuse a model, take their noise "
            "with them; expected neither DP-SGD nor inspect_model beside it",
        )
    if isinstance(run.attack, UpdatePoisoning) and run.num_byzantine and run.attack.knowledge == "omniscient":
        yield (
            "defense",
            f"{name}: {type(run.attack).__name__} looks at single updates, which have the noise of one client only; "
            "expected an attack that knows its own clients",
        )
    elif _noises(run) < 1:
        yield (
            "defense",
            f"{name}: of the smallest sum's {_fewest(run)} clients {run.num_byzantine} may be Byzantine and add no "
            "noise, so that none is sure; expected larger sums",
        )
    yield from _grid_problems(run, transform)


def _grid_problems(run: "RunDescription", transform: UpdateTransform) -> Iterator["Problem"]:
    sums = None if run.secure_aggregation is None else run.secure_aggregation.protocol
    share, name = transform.noise_share, type(transform).__name__
    if run.secure_aggregation is None or sums is None or share is None or not share.std:
        return
    if sums.clip < share.bound + _TAIL * share.std:
        yield (
            "federation.secure_aggregation.clip",
            f"cuts updates and noise to +-{sums.clip:g}, and {name} sends up to {share.bound + _TAIL * share.std:.3g}: "
            "no account holds for noise that is cut; expected as much",
        )
        return
    try:  # all weigh alike
        bits = sums.grid(max(1, run.secure_aggregation.largest(run.cohort))).fraction_bits
    except InputError:
        return  # complained about when the federation is built
    if _FINEST * 2.0**-bits > share.std:
        yield (
            "federation.secure_aggregation.fraction_bits",
            f"steps of 2^-{bits} are not small beside {name}'s noise of {share.std:.3g}, which they round; expected a "
            f"{_FINEST}th of it at most, or more bits",
        )


def _accounted(run: "RunDescription") -> UpdateTransform | None:
    return next((transform for transform in run.transforms if transform.noise_share is not None), None)


def _fewest(run: "RunDescription") -> int:
    """Clients of the smallest sum that the server may see."""
    return 1 if run.secure_aggregation is None else run.secure_aggregation.fewest


def _noises(run: "RunDescription") -> int:
    """Of how many clients the smallest sum surely has the noise."""
    forging = isinstance(run.attack, UpdatePoisoning) and run.attack.forges
    return _fewest(run) - (run.num_byzantine if forging else 0)
