"""GAS, gradient splitting: who is far from what a robust rule makes of parts of the updates is left out.

Reference: Liu, Chen, Lyu, Wu, Wu, Chen, Byzantine-robust learning on heterogeneous data via gradient splitting, ICML
2023, arXiv:2302.06079.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from fedsec.defense import Aggregator, Cohort, Gram, RuleWrapper
from fedsec.defense.byzantine_count import checked_num_byzantine
from fedsec.errors import InputError


class GAS(RuleWrapper):
    """Mean of the n - f updates that lie nearest to what another rule gives for each group of coordinates.

    The coordinates are divided into p groups; the rule combines each; score_i = sum over the groups q of
    ||x_i^q - rule(x^q)||; the mean of the n - f rows of smallest score. In a scenario's list the rule follows:
    `[{name: gas, num_byzantine: 4}, median]`; in Python it is the first argument: `GAS(Median(), num_byzantine=4)`.

    Withstands f Byzantine clients of n >= 2f + 1, as far as the rule does. Of equal scores the first row's counts.
    Ignores the clients' weights. Every row rejected as not finite counts as Byzantine, so f is then one less.

    Args:
        rule: what combines the groups; one without memory, noise or need of whole updates.
        num_byzantine: f, how many Byzantine clients to withstand.
        num_groups: p, at most the number of coordinates; then each is a group.
        groups: `random`, drawn anew at every call, or `contiguous`, which reads the updates in order and is faster.

    Raises:
        InputError: a number out of range, or a rule that cannot be asked about a part of the parameters.

    Cost:
        What the other rule costs, on p groups of d / p coordinates; then one pass for the distances, and one for the
        mean.

    Limits:
        As good as the rule that it asks: attackers who lead that one astray in each group stand near what it gives. f
        updates are always left out.

    Reference: Liu et al., ICML 2023, arXiv:2302.06079
    """

    detects = True

    def __init__(
        self,
        rule: Aggregator | None = None,
        *,
        num_byzantine: int,
        num_groups: int = 10,
        groups: Literal["random", "contiguous"] = "random",
    ) -> None:
        if num_groups < 1:
            raise InputError(f"GAS: num_groups must be at least 1, but is {num_groups}")
        if groups not in ("random", "contiguous"):
            raise InputError(f"GAS: groups must be random or contiguous, not {groups!r}")
        self.num_byzantine = checked_num_byzantine("GAS", num_byzantine)
        self.num_groups, self.groups = num_groups, groups
        super().__init__(rule)

    @property
    def _draws(self) -> bool:
        return self.groups == "random"

    def max_rejected(self, num_clients: int) -> int:
        """The number of Byzantine clients that it is set up for, or less where the rule loses no more."""
        fewest = 2 * self.num_byzantine + 1
        if num_clients < fewest:
            raise InputError(f"GAS: num_byzantine {self.num_byzantine} needs at least {fewest} rows, not {num_clients}")
        return min(self.num_byzantine, self.rule.max_rejected(num_clients))

    def weights(self, gram: Gram, cohort: Cohort) -> Float64[Tensor, "rows"]:
        unit = 1.0
        if cohort.updates.dtype == torch.float64:  # whose squares float64 may not hold
            unit = float(cohort.updates.abs().amax()) or 1.0
        scores = torch.zeros(cohort.num_rows, dtype=torch.float64)
        for columns in self._groups(cohort):
            rows = cohort.rows(columns)
            center = self._center(rows, columns, cohort).double()
            scores += torch.stack([(row.double() / unit - center / unit).norm() for row in rows]).cpu()
        count = cohort.num_rows - max(0, self.num_byzantine - cohort.num_rejected)
        weights = torch.zeros_like(scores)
        weights[scores.sort(stable=True).indices[:count]] = 1.0
        return weights

    def _groups(self, cohort: Cohort) -> Iterator[slice | Tensor]:
        dimension, device = cohort.updates.shape[1], cohort.updates.device
        size = -(-dimension // self.num_groups)
        if self.groups == "contiguous":
            yield from (slice(start, min(start + size, dimension)) for start in range(0, dimension, size))
        else:
            order = torch.randperm(dimension, generator=cohort.generator)
            yield from (columns.to(device) for columns in torch.split(order, size))

    def _center(self, rows: Tensor, columns: slice | Tensor, cohort: Cohort) -> Tensor:
        """What the rule makes of a group."""
        server = None if cohort.server_update is None else cohort.server_update[columns]
        generator = cohort.generator if self.rule.draws else None
        weights = (1 / len(rows),) * len(rows)
        group = Cohort(
            rows,
            weights,
            cohort.num_rejected,
            generator,
            clients=cohort.clients,
            server_update=server,
            rejected_weight=cohort.rejected_weight,
        )
        return self.rule.combine(self.rule.staged(group))
