"""MoNNA: the mean of the updates that are nearest to one that is trusted.

Reference: Farhadkhani, Guerraoui, Gupta, Hoang, Pinot, Stephan, Robust collaborative learning with linear gradient
overhead, ICML 2023, arXiv:2209.10931.
"""

from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense import Cohort, Gram, GramRule
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.errors import AggregationError, InputError


@final
class MoNNA(GramRule):
    """Mean of the n - f updates nearest to a trusted one, for f Byzantine clients of n > 2f.

    In the paper every client does so about its own model, which is one of the n - f; in federations without a server
    that is what this rule does without `trusted` (nearest-neighbor averaging). Elsewhere a server does, about the
    update of a client that it trusts, or about that from data of its own, which then is no part of the mean. Ignores
    the clients' weights. Every row rejected as not finite counts as Byzantine, so f is then one less. Of equal
    distances the first row's counts.

    Args:
        num_byzantine: f, how many Byzantine clients to withstand.
        trusted: the number of the trusted client; null: the server's own update is trusted or, without a server, each
            client's own model.

    Raises:
        InputError: a number is negative, or num_byzantine no whole number.

    Cost:
        n^2 d for the inner products of all updates, in one pass over them; then n log n. Where the server's own update
        is trusted, its training as well.

    Limits:
        If the trusted client is Byzantine, so is the result. Updates as near to the trusted one as honest ones are
        count, and honest clients with other data do not.

    Reference: Farhadkhani et al., ICML 2023, arXiv:2209.10931
    """

    single_clients = "may trust one client"
    detects = True
    trusts_nearness = True
    """Whether one's own row, which is zero among neighbors, can be what is trusted."""
    by_columns = True

    def __init__(self, num_byzantine: int, trusted: int | None = None) -> None:
        if trusted is not None and trusted < 0:
            raise InputError(f"MoNNA: trusted is the number of a client, from 0, and cannot be {trusted}")
        self.num_byzantine = checked_num_byzantine("MoNNA", num_byzantine)
        self.trusted = trusted
        self.needs_server_update = trusted is None
        self.by_columns = self.by_columns and trusted is not None

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for."""
        if num_clients <= 2 * self.num_byzantine:
            raise InputError(
                f"MoNNA: num_byzantine {self.num_byzantine} needs at least {2 * self.num_byzantine + 1} rows, not "
                f"{num_clients}"
            )
        return self.num_byzantine

    def references(self, cohort: Cohort) -> Float[Tensor, "references parameters"] | None:
        return None if self.trusted is not None or cohort.server_update is None else cohort.server_update[None]

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        trusted = len(gram) if self.trusted is None else self._trusted_row(cohort)
        distances = gram.squared_distances(references=True)[trusted]
        distances[trusted] = -1.0  # itself first, also among equal rows
        num_counting = len(gram) - self.num_byzantine + cohort.num_rejected
        weights = torch.zeros(len(gram), dtype=torch.float64)
        weights[distances[: len(gram)].sort(stable=True).indices[:num_counting]] = 1.0
        return weights

    def _trusted_row(self, cohort: Cohort) -> int:
        if not _each_in_its_place(cohort):
            raise InputError(
                f"MoNNA: no row is that of client {self.trusted} any more, where {len(cohort.updates)} updates were "
                f"mixed into {cohort.num_rows}; expected no bucketing before it"
            )
        if self.trusted not in cohort.clients:
            raise AggregationError(
                f"MoNNA: there are finite updates of clients {list(cohort.clients)}, but none of client "
                f"{self.trusted}, which it trusts"
            )
        return cohort.clients.index(self.trusted)


def _each_in_its_place(cohort: Cohort) -> bool:
    """Whether each row that the rule sees is a client's, or a mixture of it with others, in the clients' order."""
    if cohort.num_rows != len(cohort.updates):
        return False
    return cohort.parts is None or bool((cohort.parts.diagonal() > 0).all())
