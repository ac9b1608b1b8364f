"""What goes through a server's rule in one round: the rows that it sees, and what it gives of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense.gram_matrix import Gram
from fedsec.defense.order_statistics import accumulator_dtype
from fedsec.errors import AggregationError, InputError
from fedsec.threat.rows import as_tensor

__all__ = [
    "Aggregate",
    "Cohort",
    "RoundContext",
    "Weights",
    "check_bearable",
    "check_context",
    "check_needs",
    "check_majority",
    "relative_parts",
    "relative_weights",
]

Weights = Tensor | np.ndarray | Sequence[float] | None
"""Relative weights of the clients; None for equal ones."""


_SLACK = 1e-9
"""Half of the weight may sum to a little less."""


class RoundContext(TypedDict, total=False):
    """What a rule may need to know of a round beside its updates; each key may be left out.

    Keys:
        generator: of the random numbers of a rule that `draws`, on the CPU; never twice the same.
        clients: the numbers of the rows' clients, each once, for rules that remember them; 0, 1, ... by default.
        server_update: [parameters] what the server's own data make of the global model, for rules that trust it.
        shapes: the shape of every parameter by name, in their order in a row, for rules that treat layers one by one.
        losses: [clients] of the global model on each client's examples, as the client says, for rules that ask.
    """

    generator: torch.Generator | None
    clients: Sequence[int] | None
    server_update: Tensor | None
    shapes: Mapping[str, Sequence[int]] | None
    losses: Tensor | None


@dataclass(frozen=True, eq=False)
class Aggregate:
    """One aggregation and the verdict on every client.

    Attributes:
        vector: the aggregated update.
        influence: which part of the vector each client contributed; sums to one, or to zero where none counted; zero
            for rejected rows.
        rejected: numbers of the rows that were not finite.
        suspected: numbers of the rows that the rule takes for Byzantine and leaves out, rejected ones included; None of
            a rule that does not say.
        weights: by which the clients counted, and the rule's breakdown counts: equal ones of a rule that ignores what
            was given; zero for rejected rows; they sum to one.
    """

    vector: Float[Tensor, "parameters"]
    influence: Float64[Tensor, "clients"]
    rejected: tuple[int, ...]
    suspected: tuple[int, ...] | None = None
    weights: Float64[Tensor, "clients"] | None = None


@dataclass(frozen=True, eq=False)
class Cohort:
    """The rows that passed the gate, and what a rule sees of them.

    Attributes:
        updates: finite rows, at least one.
        weights: one for each row that the rule sees, summing to one; not negative but where a rule has set them.
        num_rejected: how many further rows the gate held back.
        generator: of rules that draw random numbers, on the CPU; None for the others.
        mixing: where rows were mixed before the rule, it sees `mixing @ updates`, of which nobody makes a copy.
        gram: inner products of the rows that the rule sees, for those that ask; not worked out before.
        products: `swift_products(updates)`, where the gate has worked it out.
        parts: where rows were mixed, each client's part in each row that the rule sees.
        clients: the numbers of the clients of `updates`.
        server_update: what the server's own data make of the global model; None where it has none.
        shapes: of the parameters by name, in their order in a row; None where nobody said.
        references: further points that a rule thinks with, such as a center of its own; see `GramRule.references`.
        reference_weights: how much each of them counts in the result.
        losses: of the global model on the clients' examples; None where nobody said.
        rejected_weight: which part of all clients' weight the rejected rows had, for rules that count by weight.
    """

    updates: Float[Tensor, "clients parameters"]
    weights: tuple[float, ...]
    num_rejected: int
    generator: torch.Generator | None = None
    mixing: Float64[Tensor, "mixed clients"] | None = None
    gram: Gram | None = None
    products: Float64[Tensor, "clients clients"] | None = None
    parts: Float64[Tensor, "mixed clients"] | None = None
    clients: tuple[int, ...] = ()
    server_update: Float[Tensor, "parameters"] | None = None
    shapes: Mapping[str, torch.Size] | None = None
    references: Float[Tensor, "references parameters"] | None = None
    reference_weights: tuple[float, ...] = ()
    losses: Float[Tensor, "clients"] | None = None
    rejected_weight: float = 0.0

    @property
    def num_rows(self) -> int:
        """How many rows the rule sees."""
        return len(self.updates) if self.mixing is None else len(self.mixing)

    @property
    def equal_weights(self) -> bool:
        """Whether all rows that the rule sees have the same weight, but for rounding."""
        return max(self.weights) - min(self.weights) <= _SLACK / len(self.weights)

    @property
    def num_references(self) -> int:
        """How many further points there are."""
        return 0 if self.references is None else len(self.references)

    def row_weights(self) -> Float64[Tensor, "clients"]:
        """What `weights`, of the rows that the rule sees, make of the rows of `updates`."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return weights if self.mixing is None else weights @ self.mixing.cpu()

    def rows(self, columns: slice | Tensor) -> Float[Tensor, "rows columns"]:
        """Some columns of the rows that the rule sees, or those of a list of numbers; must not be written to."""
        chunk = self.updates[:, columns]
        if self.mixing is None:
            return chunk
        wide = chunk.to(accumulator_dtype(chunk.dtype))
        largest = torch.finfo(chunk.dtype).max  # rounding may carry a mixture of the largest numbers beyond them
        return (self.mixing.to(wide) @ wide).clamp(-largest, largest).to(chunk.dtype)


@runtime_checkable
class _Asking(Protocol):
    """A rule, by what it needs of a round."""

    draws: bool
    needs_server_update: bool
    needs_losses: bool
    needs_shapes: bool


def check_needs(rule: _Asking, context: RoundContext) -> None:
    """That a rule is told what it needs.

    Raises:
        InputError: it is not; names the rule.
    """
    name = type(rule).__name__
    if rule.draws and context.get("generator") is None:
        raise InputError(f"{name}: draws random numbers; expected a generator, a new one for each call")
    if rule.needs_server_update and context.get("server_update") is None:
        raise InputError(f"{name}: trusts data of the server's own; expected server_update, a row from them")
    if rule.needs_losses and context.get("losses") is None:
        raise InputError(f"{name}: asks each client for its loss; expected losses, a number a row")
    if rule.needs_shapes and context.get("shapes") is None:
        raise InputError(f"{name}: treats parameters one by one; expected shapes, by name in their order in a row")


def check_context(rule: str, context: RoundContext, updates: Float[Tensor, "clients parameters"]) -> None:
    """That what was said of a round goes with its updates.

    Raises:
        InputError: it does not; names the rule.
    """
    generator, clients = context.get("generator"), context.get("clients")
    if generator is not None and generator.device.type != "cpu":
        raise InputError(f"{rule}: generator must be on the CPU, not on {generator.device}")
    if clients is not None and (len(clients) != len(updates) or len({*clients}) != len(updates)):
        raise InputError(f"{rule}: clients must be {len(updates)} different numbers, one a row, not {list(clients)}")
    server = context.get("server_update")
    if server is not None:
        like = updates[0]
        if (server.shape, server.dtype, server.device) != (like.shape, like.dtype, like.device):
            raise InputError(
                f"{rule}: server_update must be like a row, {like.dtype} of shape {tuple(like.shape)} on "
                f"{like.device}, not {server.dtype} of shape {tuple(server.shape)} on {server.device}"
            )
        if not bool(server.isfinite().all()):
            raise InputError(f"{rule}: server_update holds NaN or infinity; expected finite numbers")
    losses = context.get("losses")
    if losses is not None and losses.shape != updates.shape[:1]:
        raise InputError(f"{rule}: losses must be {len(updates)} numbers, one a row, not {tuple(losses.shape)}")
    shapes = context.get("shapes")
    if shapes is not None:
        size = sum(torch.Size(shape).numel() for shape in shapes.values())
        if size != updates.shape[1]:
            raise InputError(f"{rule}: shapes of {size} numbers do not go with rows of {updates.shape[1]}")


def check_bearable(rule: str, rejected: Sequence[int], num_clients: int, max_rejected: int) -> None:
    """That the gate holds back no more rows than the rule can lose.

    Args:
        rule: for the message.
        rejected: numbers of the rows that are not finite.
        num_clients: how many rows there were.
        max_rejected: how many of them the rule can lose.

    Raises:
        AggregationError: it does.
    """
    if len(rejected) > max_rejected or len(rejected) == num_clients:
        raise AggregationError(
            f"{rule}: rows {list(rejected)} of {num_clients} hold NaN or infinity; at most "
            f"{min(max_rejected, num_clients - 1)} may be lost"
        )


def check_majority(rule: str, cohort: Cohort) -> None:
    """That the rows that passed the gate have more than half of the weight, as a rule of breakdown 1/2 must have them.

    Raises:
        AggregationError: they have not.
    """
    if cohort.rejected_weight >= 0.5 - _SLACK:
        raise AggregationError(
            f"{rule}: rows with {cohort.rejected_weight:.1%} of the weight hold NaN or infinity; less than half may "
            "be lost"
        )


def relative_parts(weights: Sequence[float]) -> tuple[float, ...]:
    """Magnitudes as parts of their sum; zeros where nothing counts."""
    magnitudes = [abs(weight) for weight in weights]
    total = sum(magnitudes)
    return tuple(magnitude / total for magnitude in magnitudes) if total > 0 else (0.0,) * len(magnitudes)


def relative_weights(rule: str, weights: Weights, num_clients: int) -> list[float]:
    """What somebody gave as clients' weights, the largest of them one.

    Args:
        rule: was given them, for messages.
        weights: see `Weights`.
        num_clients: how many they must be.

    Raises:
        InputError: they are not, or negative, or not finite, or all zero.
    """
    if weights is None:
        return [1.0] * num_clients
    values = as_tensor(f"{rule}: weights", weights).detach().double()
    if values.shape != (num_clients,) or not bool(values.isfinite().all()) or bool((values < 0).any()):
        raise InputError(
            f"{rule}: weights must be {num_clients} finite numbers, one for each client and none negative, not "
            f"{values.tolist()}"
        )
    if not bool(values.any()):
        raise InputError(f"{rule}: at least one weight must be positive")
    relative: list[float] = (values / values.max()).tolist()
    return relative
