"""A list of defenses as one aggregator: what clients do to their updates, mixtures of rows, and the server's rule."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense.aggregation import Aggregator
from fedsec.defense.cohort import Cohort, relative_parts
from fedsec.defense.gram import GramRule, PreAggregator
from fedsec.defense.gram_matrix import Gram
from fedsec.defense.private_aggregation import PrivateAggregator
from fedsec.defense.updates import UpdateTransform, compose
from fedsec.errors import InputError

__all__ = ["Pipeline"]

_SLACK = 1e-9
"""Parts that sum to less than one by rounding alone are those of a whole row."""

Member = UpdateTransform | PreAggregator | Aggregator


@final
class Pipeline(Aggregator):
    """Several defenses, applied in order, as one rule for any loop.

        Pipeline([ClipUpdate(1.0), NNM(num_byzantine=2), Median()])(updates)

    Each client's update goes through the transforms, rows that are not finite are held back, pre-aggregators mix the
    others, and the rule combines what they made. Influences are the clients' own: those of mixed rows go back to the
    clients by their parts in them. The numbers are those of a scenario with the same list.

    Args:
        members: transforms (`UpdateTransform`), then pre-aggregators (`PreAggregator`), each any number, then one rule.
        shapes: the parameters that an update consists of, by name, in their order in a row, where a call does not say
            them. Without any it counts as one parameter, which matters to transforms that treat parameters one by one
            (`prune`, `sign`, `quantize`).

    Attributes:
        transforms: what clients do.
        pre_aggregators: what mixes rows at the server.
        rule: what combines them.
        server: pre-aggregators and rule, for a loop in which clients transform their updates themselves.

    Raises:
        InputError: no rule, several, or another order.
    """

    def __init__(
        self,
        members: Sequence[Member],
        shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        members = [part for member in members for part in _parts(member)]
        kinds = [_place(member) for member in members]
        if kinds.count(_RULE) != 1 or kinds != sorted(kinds):
            names = ", ".join(type(member).__name__ for member in members) or "nothing"
            raise InputError(
                f"Pipeline: expected transforms of updates, then pre-aggregators, then one rule at the end, got {names}"
            )
        self.transforms = tuple(member for member in members if isinstance(member, UpdateTransform))
        self.pre_aggregators = tuple(member for member in members if isinstance(member, PreAggregator))
        (self.rule,) = (member for member in members if isinstance(member, Aggregator))
        self.shapes = None if shapes is None else {name: tuple(shape) for name, shape in shapes.items()}
        if self.pre_aggregators and isinstance(self.rule, PrivateAggregator):
            raise InputError(
                f"Pipeline: {type(self.rule).__name__} accounts for clients that move one row each, and "
                f"{type(self.pre_aggregators[0]).__name__} mixes rows; expected no pre-aggregator before it"
            )
        self._transform = compose(self.transforms)
        self.uses_weights, self.needs_global_model = self.rule.uses_weights, self.rule.needs_global_model
        self.needs_server_update, self.needs_shapes = self.rule.needs_server_update, self.rule.needs_shapes
        self.detects, self.needs_losses = self.rule.detects, self.rule.needs_losses
        drawing = [member.draws for member in self.transforms] + [member.draws for member in self.pre_aggregators]
        self.draws = self.rule.draws or any(drawing)
        reading = self.rule.reads_products or any(member.reads_products for member in self.pre_aggregators)
        self.reads_products = reading and not self.transforms  # those are about other rows
        by_columns = self.rule.by_columns and all(member.by_columns for member in self.pre_aggregators)
        self.by_columns = by_columns and not self.transforms

    @property
    def server(self) -> Aggregator:
        """The part that the server does: the rule itself, or a pipeline without transforms."""
        return Pipeline([*self.pre_aggregators, self.rule]) if self.pre_aggregators else self.rule

    def sent(
        self,
        updates: Float[Tensor, "clients parameters"],
        generators: Sequence[torch.Generator] | None = None,
    ) -> Float[Tensor, "clients parameters"]:
        """What the clients send: their rows, each through the transforms.

        Args:
            updates: one row for each client; left unchanged.
            generators: each client's own, on the CPU; for transforms that draw.

        Raises:
            InputError: a transform draws or needs the client's data, or rows do not go with the shapes.
        """
        return self._sent(updates, generators, self.shapes)

    def _sent(
        self,
        updates: Float[Tensor, "clients parameters"],
        generators: Sequence[torch.Generator] | None,
        shapes: Mapping[str, Sequence[int]] | None,
    ) -> Float[Tensor, "clients parameters"]:
        if not self.transforms:
            return updates
        if generators is None and any(member.draws for member in self.transforms):
            raise InputError("Pipeline: a transform draws random numbers; expected a generator for each client")
        if generators is not None and len(generators) != len(updates):
            raise InputError(f"Pipeline: {len(generators)} generators do not go with {len(updates)} clients")
        rows = []
        for place, row in enumerate(updates):
            generator = torch.Generator().manual_seed(place) if generators is None else generators[place]
            sent = self._transform(_named(row, shapes), generator=generator)
            rows.append(torch.cat([tensor.flatten() for tensor in sent.values()]))
        return torch.stack(rows)

    def max_rejected(self, num_clients: int) -> int:
        """What the rule can lose of the mixed rows; a row that is lost may be missing in each of them.

        More rows than clients are copies of theirs, which Byzantine clients may have sent, and help against nobody.
        """
        num_rows = num_clients
        for member in self.pre_aggregators:
            num_rows = member.num_mixed(num_rows)
        return min(self.rule.max_rejected(count) for count in {num_rows, min(num_rows, num_clients)})

    def staged(self, cohort: Cohort) -> Cohort:
        updates = cohort.updates
        if self.transforms:
            updates = self._sent(updates, _each_own(cohort.generator, len(updates)), cohort.shapes or self.shapes)
            if not bool(updates.isfinite().all()):
                raise InputError("Pipeline: a transform made finite updates NaN or infinite")
        cohort = replace(cohort, updates=updates, shapes=cohort.shapes or _sizes(self.shapes))
        if isinstance(self.rule, GramRule) and cohort.references is None:
            cohort = replace(cohort, references=self.rule.checked_references(cohort))
        # Rows may be mixtures already: those of an attacker who tries this defense are.
        before = None if cohort.mixing is None else cohort.mixing.cpu()
        gram = cohort.gram or Gram.of(updates, cohort.references, cohort.weights, products=cohort.products)
        parts: Float64[Tensor, "mixed rows"] | None = None
        for member in self.pre_aggregators:
            mixing = parts if before is None else before if parts is None else parts @ before
            matrix = member.checked_mixing(gram, replace(cohort, mixing=mixing, gram=gram))
            parts = matrix if parts is None else matrix @ parts
            gram = gram.mixed(matrix)
        if parts is not None:
            mixing = (parts if before is None else parts @ before).to(updates.device)
            weights = _weights_of_mixed(parts, cohort.weights)
            cohort = replace(cohort, weights=weights, mixing=mixing, parts=parts.to(updates.device))
            if not self.rule.sees_mixtures:
                cohort = replace(cohort, updates=cohort.rows(slice(None)), mixing=None)
        return self.rule.staged(replace(cohort, gram=gram))

    def combine(self, cohort: Cohort) -> Float[Tensor, "parameters"]:
        return self.rule.combine(cohort)

    def shares(self, cohort: Cohort) -> Float[Tensor, "clients"]:
        return self.client_shares(self.row_shares(cohort), cohort)

    def row_shares(self, cohort: Cohort) -> Float[Tensor, "rows"]:
        return self.rule.shares(cohort).double()

    def client_shares(self, shares: Float[Tensor, "rows"], cohort: Cohort) -> Float[Tensor, "clients"]:
        if cohort.parts is None:
            return shares
        own = shares @ cohort.parts.to(shares)
        return torch.tensor(relative_parts(own.tolist()), dtype=torch.float64, device=own.device)

    def suspects(self, cohort: Cohort) -> Sequence[int]:
        """The clients that the rule suspects; of mixed rows, the clients with no part in one that it does not."""
        suspects = self.rule.suspects(cohort)
        if cohort.parts is None:
            return suspects
        others = [row for row in range(len(cohort.parts)) if row not in {*suspects}]
        return [client for client, part in enumerate(cohort.parts[others].sum(0).tolist()) if part == 0]

    def remember(self, cohort: Cohort, vector: Float[Tensor, "parameters"]) -> None:
        self.rule.remember(cohort, vector)

    def state(self) -> dict[str, Tensor]:
        stages = enumerate(self._stages())
        return {f"{place}.{name}": held for place, stage in stages for name, held in stage.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        stages = self._stages()
        unknown = sorted(name for name in state if name.split(".")[0] not in map(str, range(len(stages))))
        if unknown:
            raise InputError(f"Pipeline: no stage of {len(stages)} remembers {unknown}; expected what state() gave")
        for place, stage in enumerate(stages):
            tag = f"{place}."
            stage.restore({name.removeprefix(tag): held for name, held in state.items() if name.startswith(tag)})

    def _stages(self) -> list[PreAggregator | Aggregator]:
        return [*self.pre_aggregators, self.rule]


def _named(row: Tensor, shapes: Mapping[str, Sequence[int]] | None) -> dict[str, Tensor]:
    if shapes is None:
        return {"update": row}
    sizes = [torch.Size(shape).numel() for shape in shapes.values()]
    if sum(sizes) != len(row):
        raise InputError(f"Pipeline: shapes of {sum(sizes)} numbers do not go with rows of {len(row)}")
    parts = zip(shapes.items(), torch.split(row, sizes), strict=True)
    return {name: part.view(torch.Size(shape)) for (name, shape), part in parts}


_TRANSFORM, _PRE_AGGREGATOR, _RULE = range(3)


def _place(member: object) -> int:
    for place, kind in enumerate((UpdateTransform, PreAggregator, Aggregator)):
        if isinstance(member, kind):
            return place
    raise InputError(
        f"Pipeline: {type(member).__name__} changes neither single updates nor rows, and is no rule; expected an "
        "UpdateTransform, a PreAggregator or an Aggregator"
    )


def _parts(
    member: UpdateTransform | PreAggregator | Aggregator,
) -> Sequence[UpdateTransform | PreAggregator | Aggregator]:
    """A pipeline within a pipeline is what it consists of."""
    if isinstance(member, Pipeline):
        return *member.transforms, *member.pre_aggregators, member.rule
    return (member,)


def _sizes(shapes: Mapping[str, Sequence[int]] | None) -> dict[str, torch.Size] | None:
    return None if shapes is None else {name: torch.Size(shape) for name, shape in shapes.items()}


def _each_own(generator: torch.Generator | None, count: int) -> list[torch.Generator] | None:
    """A generator for each client, seeded by the given one."""
    if generator is None:
        return None
    seeds = torch.randint(2**62, (count,), generator=generator).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _weights_of_mixed(parts: Tensor, weights: Sequence[float]) -> tuple[float, ...]:
    """Each mixed row weighs what its rows do on average, however much it was shortened; they sum to one.

    Args:
        parts: [mixed, rows] of the rows in the mixed ones.
        weights: of the rows.
    """
    sums = parts.sum(1, keepdim=True)
    whole = torch.where(sums < 1 - _SLACK, parts / sums, parts)
    whole = torch.where(sums > 0, whole, 1 / parts.shape[1])  # where nothing is left of a row, what all do on average
    mixed = whole @ torch.tensor(weights, dtype=torch.float64)
    total = float(mixed.sum())
    return tuple((mixed / total).tolist()) if total > 0 else (1 / len(mixed),) * len(mixed)
