"""What must not be combined with a server that sees sums of clients only."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.secure_aggregation import why_not_of_sums
from fedsec.threat import UpdatePoisoning

if TYPE_CHECKING:
    from fedsec.federation.guards import Problem, RunDescription


def sums_are_enough(run: "RunDescription") -> "Iterator[Problem]":
    """Under secure aggregation the server has sums of clients and must not need more."""
    protocol, algorithm, place = run.secure_aggregation, run.algorithm, "federation.secure_aggregation"
    if protocol is None:
        return
    if not isinstance(algorithm, UpdateAlgorithm) or algorithm.pooled:
        yield place, f"{run.name} sends no updates of clients that could be summed; expected fedavg, fedprox or fedsgd"
        return
    fewest = algorithm.fewest(run.cohort)
    if not (algorithm.forgets_rows or algorithm.sums_do) or len(algorithm.sends) > 1:
        yield (
            place,
            f"the server of {run.name} looks at what single clients sent; expected fedavg, fedprox or fedsgd",
        )
    if fewest < protocol.clients:
        yield place, f"a sum of {protocol.clients} clients needs as many in a round; {fewest} take part"
    largest = protocol.largest(fewest)
    if protocol.protocol is not None and largest:
        needed, left = protocol.protocol.protocol.needed(largest), protocol.protocol.dropouts.left(largest)
        if left < needed:
            yield (
                f"{place}.dropouts",
                f"of {largest} clients {left} stay to the protocol's end, and {needed} are needed: each round would "
                "abort; expected fewer, or a lower threshold",
            )
        for name, leaving in protocol.protocol.dropouts.named().items():
            if max(leaving) >= run.clients:
                yield (
                    f"{place}.dropouts",
                    f"{name} names client {max(leaving)}; expected numbers below {run.clients}, the number of clients",
                )
    if run.sampling == "poisson":
        yield place, "how many clients Poisson sampling draws is left to chance, too few for a sum; expected fixed"
    if run.running_statistics and run.bn != "local":
        yield (
            place,
            "running statistics of batch normalization are no part of the sum: each client would send its own; "
            "expected norm: gn, or bn: local",
        )
    if run.rule is None or fewest < protocol.clients:
        return
    for why in why_not_of_sums(run.rule, protocol.count(fewest)):
        yield "defense", why
    attack = run.attack
    if isinstance(attack, UpdatePoisoning) and attack.knows_defense and not run.rule.streams:
        yield (
            "attack",
            f"{type(attack).__name__} tries the server's rule on single updates, and it works on sums of groups that "
            "are drawn afterwards; expected an attack that does not try rules, or no secure_aggregation",
        )
