"""What each client makes of the models that it receives: a rule over their differences to its own, forged or not."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from fedsec.defense import Aggregator, AggregatorTrial, RoundContext
from fedsec.errors import AggregationError, InputError, count_of
from fedsec.federation.gossip.conditions import trusts_oneself
from fedsec.federation.user_privacy import tagged, untagged
from fedsec.seeds import Streams
from fedsec.threat import AttackerView, UpdatePoisoning
from fedsec.threat.rows import finite_rows

_RULE = "rule of client"


@dataclass(eq=False)
class Mixed:
    """What a gossip step left.

    Attributes:
        models: of all clients.
        influence: how much of each client's model went into those of honest clients, on average: sums to one.
        rejected: clients of whom somebody received a model that was not finite.
        report: what the attack on updates had to say, and how close attackers are.
    """

    models: Float[Tensor, "clients parameters"]
    influence: Float64[np.ndarray, "clients"]
    rejected: set[int] = field(default_factory=set)
    report: dict[str, float | str] = field(default_factory=dict)


class Neighborhoods:
    """The clients' neighborhoods and their rules; each client has a rule of its own, so that memories do not mix.

    A client's rule sees a row for itself, which is zero, and one for each neighbor: the model received less its own.
    What the rule makes of them it adds to its model: of the weighted mean that is sum_j W_ij x_j. Rules that use no
    weights count all rows alike, and what they tolerate is a number of rows of one neighborhood.

    A Byzantine client sends each honest neighbor another model: its attack forges rows for one receiver at a time, and
    sees that neighborhood's rows as far as its knowledge reaches. Attackers send each other what they trained.

    Args:
        weights: the mixing matrix.
        rule: of every client; copied.
        linear: whether the rule is the weighted mean: without forged rows a step is then one product of matrices.
        attack: what Byzantine clients do; only attacks on updates do anything here.
        streams: the experiment's.
        shapes: of the parameters by name, in their order in a row.

    Raises:
        InputError: a client has too few neighbors for the rule.
    """

    def __init__(
        self,
        weights: Float64[np.ndarray, "clients clients"],
        rule: Aggregator,
        *,
        linear: bool,
        attack: object | None,
        streams: Streams,
        shapes: Mapping[str, torch.Size],
    ) -> None:
        check_rule(rule, weights > 0)
        self.weights, self.linear, self._streams, self._shapes = weights, linear, streams, shapes
        self.members = [np.flatnonzero((row > 0) | (np.arange(len(row)) == place)) for place, row in enumerate(weights)]
        self._rules = [copy.deepcopy(rule) for _ in weights]
        self._attack = attack if isinstance(attack, UpdatePoisoning) and attack.forges else None

    def __call__(
        self, models: Float[Tensor, "clients parameters"], byzantine: frozenset[int], round_number: int
    ) -> Mixed:
        """One gossip step.

        Args:
            models: what each client trained; left unchanged.
            byzantine: clients that attack in this round.
            round_number: from 1.

        Raises:
            AggregationError: a client's rule cannot work with what it received; names the round and the client.
        """
        count, forging = len(models), self._attack is not None and bool(byzantine)
        finite = finite_rows(models)
        influence, mixed = np.zeros((count, count)), Mixed(models, np.zeros(count))
        if self.linear and not forging and bool(finite.all()):
            product = torch.from_numpy(self.weights).to(models) @ models
            mixed.models, influence = product, self.weights
        else:
            mixed.models, reports = models.clone(), list[Mapping[str, float | str]]()
            for client in np.flatnonzero(finite.cpu().numpy()).tolist():  # others have no own model to hold on to
                row = self._step(client, models, byzantine, round_number, mixed, reports)
                influence[client, self.members[client]] = row
            mixed.report = summary(reports)
        honest = [client for client in range(count) if client not in byzantine] or list(range(count))
        mixed.influence = influence[honest].sum(0) / (influence[honest].sum() or 1.0)
        mixed.rejected |= set(np.flatnonzero(~finite.cpu().numpy()).tolist())
        mixed.report |= self.closeness(byzantine)
        return mixed

    def _step(
        self,
        client: int,
        models: Tensor,
        byzantine: frozenset[int],
        round_number: int,
        mixed: Mixed,
        reports: list[Mapping[str, float | str]],
    ) -> Float64[np.ndarray, "members"]:
        """Move one client's model in `mixed`; how much of each member of its neighborhood went into it."""
        members, rule = self.members[client].tolist(), self._rules[client]
        rows = models[members] - models[client]
        weights = torch.from_numpy(self.weights[client, members]).to(models)
        context = self._context(client, models[client])
        if client not in byzantine:
            rows = self._received(client, rows, members, weights, byzantine, round_number, reports, models[client])
        mixed.rejected |= {members[place] for place in np.flatnonzero(~finite_rows(rows).cpu().numpy())}
        if rule.draws:
            context["generator"] = self._streams.torch("noise", "client", client, "round", round_number)
        try:
            aggregate = rule.aggregate(rows, weights if rule.uses_weights else None, **context)
        except AggregationError as error:
            raise AggregationError(f"round {round_number}, neighbors of client {client}: {error}") from error
        mixed.models[client] = models[client] + aggregate.vector
        return np.asarray(aggregate.influence.cpu().numpy(), np.float64)

    def of_one(
        self,
        pair: tuple[int, int],
        own: Float[Tensor, "parameters"],
        theirs: Float[Tensor, "parameters"],
        byzantine: frozenset[int],
        round_number: int,
        number: int,
        reports: list[Mapping[str, float | str]],
    ) -> Float[Tensor, "parameters"]:
        """What a client receives of a single neighbor, less its own model: forged where only the neighbor attacks.

        Args:
            pair: the client and its neighbor.
            own: the client's model.
            theirs: what the neighbor has, and sends if it is honest.
            byzantine: clients that attack in this round.
            round_number: from 1.
            number: of their exchanges in this round.
            reports: what the attack has to say is added to them.
        """
        rows, client = torch.stack([torch.zeros_like(own), theirs - own]), pair[0]
        if client not in byzantine:
            halves, stream = rows.new_full((2,), 0.5), (() if number == 0 else ("exchange", number))
            rows = self._received(client, rows, pair, halves, byzantine, round_number, reports, own, stream)
        return rows[1]

    def _context(self, client: int, own: Tensor) -> RoundContext:
        """What a client's rule may need to know: where it trusts something, that is its own model, a row of zeros."""
        context: RoundContext = {"clients": self.members[client].tolist(), "shapes": self._shapes}
        if trusts_oneself(self._rules[client]):
            context["server_update"] = torch.zeros_like(own)
        return context

    def _received(
        self,
        client: int,
        rows: Tensor,
        members: Sequence[int],
        weights: Tensor,
        byzantine: frozenset[int],
        round_number: int,
        reports: list[Mapping[str, float | str]],
        own: Tensor,
        stream: tuple[str | int, ...] = (),
    ) -> Tensor:
        """The rows that an honest client receives: its Byzantine neighbors' are forged for it alone."""
        attack, places = self._attack, [place for place, member in enumerate(members) if member in byzantine]
        if attack is None or not places:
            return rows
        try:
            attack.check_clients(len(members), len(places))
        except InputError as error:  # so few neighbors: it sends this one what it trained
            reports.append({"remark": str(error)})
            return rows
        honest = [place for place in range(len(members)) if place not in places]
        generator = self._streams.torch("attack", "round", round_number, "client", client, *stream)
        trial = None
        if attack.knows_defense:
            context = self._context(client, own)
            order = [*honest, *places]
            trial = AggregatorTrial(self._rules[client], generator, places=order, weights=weights, context=context)
        seen = [] if attack.knowledge == "own" else honest
        view = AttackerView(
            own=rows[places],
            honest=rows[seen],
            parameters=own,
            num_clients=len(members),
            num_byzantine=len(places),
            round=round_number,
            generator=generator,
            defense=trial,
            clients=tuple(members[place] for place in seen),
            leverage=tuple(weights[places].tolist()),
        )
        received = rows.clone()
        received[places] = attack.craft(view)
        reports.append(view.report)
        return received

    def closeness(self, byzantine: frozenset[int]) -> dict[str, float | str]:
        """How much of honest clients' neighborhoods attackers hold, and whether they cut the honest apart."""
        count, attackers = len(self.weights), sorted(byzantine)
        honest = [client for client in range(count) if client not in byzantine]
        if not attackers or not honest:
            return {}
        shares = self.weights[np.ix_(honest, attackers)].sum(1)
        report: dict[str, float | str] = {
            "largest weight of Byzantine neighbors": float(shares.max()),
            "mean weight of Byzantine neighbors": float(shares.mean()),
        }
        parts = num_parts(self.weights[np.ix_(honest, honest)] > 0)
        if parts > 1:
            report["remark"] = f"the attackers cut the honest clients' graph into {count_of(parts, 'part')}"
        return report

    def state(self) -> dict[str, Tensor]:
        """What the rules remember, by name."""
        states = (tagged(rule.state(), f"{_RULE} {client}") for client, rule in enumerate(self._rules))
        return {name: tensor.clone() for state in states for name, tensor in state.items()}

    def names(self, state: Mapping[str, Tensor]) -> set[str]:
        """Which names of a federation's state are the rules'."""
        return {name for name in state if name.startswith(f"{_RULE} ")}

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Take over what `state` gave.

        Args:
            state: on any device; other names than the rules' may be among it.
            device: of the federation's tensors.

        Raises:
            InputError: it is not what a rule remembers.
        """
        for client, rule in enumerate(self._rules):
            memory = untagged(state, f"{_RULE} {client}")
            rule.restore({name: tensor.to(device, copy=True) for name, tensor in memory.items()})


def check_rule(rule: Aggregator, adjacency: Bool[np.ndarray, "clients clients"]) -> None:
    """Refuse a rule that cannot work with so few rows as some client has: its neighbors' and its own.

    Args:
        rule: of every client.
        adjacency: who is whose neighbor; the diagonal does not matter.

    Raises:
        InputError: it cannot; names the client with the fewest neighbors.
    """
    degrees = (adjacency & ~np.eye(len(adjacency), dtype=bool)).sum(1)
    client = int(degrees.argmin())
    neighbors = int(degrees[client])
    try:
        rule.max_rejected(neighbors + 1)
    except InputError as error:
        raise InputError(
            f"defense: client {client} has {count_of(neighbors, 'neighbor')}, {neighbors + 1} rows with its own: "
            f"{error}"
        ) from error


def num_parts(adjacency: Bool[np.ndarray, "clients clients"]) -> int:
    """Into how many parts without a path between them a graph falls."""
    left, parts = set(range(len(adjacency))), 0
    while left:
        parts, border = parts + 1, {left.pop()}
        while border:
            client = border.pop()
            border |= (beside := set(np.flatnonzero(adjacency[client]).tolist()) & left)
            left -= beside
    return parts


def summary(reports: Sequence[Mapping[str, float | str]]) -> dict[str, float | str]:
    """Of what an attack said of each receiver the means of numbers, and the first words."""
    summary: dict[str, float | str] = {}
    for name in dict.fromkeys(name for report in reports for name in report):
        values = [report[name] for report in reports if name in report]
        numbers = [value for value in values if not isinstance(value, str) and math.isfinite(value)]
        words = [value for value in values if isinstance(value, str)]
        summary[name] = words[0] if words else fmean(numbers) if numbers else math.nan
    return summary
