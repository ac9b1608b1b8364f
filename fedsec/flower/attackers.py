"""Nodes that attack together, simulated where all updates are seen: in the strategy.

A mod on a node knows that node's update alone. Attackers who agree on what to send, or who see what the honest nodes
sent, are played here: the strategy replaces the updates of some nodes, which trained honestly, by what such attackers
would have sent.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import AggregatorTrial
from fedsec.errors import InputError
from fedsec.federation.forgery import Forgery
from fedsec.seeds import Streams
from fedsec.threat import DataPoisoning, UpdatePoisoning

__all__ = ["Attackers"]


class Attackers:
    """Who attacks, and how.

    Args:
        attack: on updates; what trains on the attackers' own data cannot be played by a server.
        nodes: ids of the Byzantine nodes, or how many of the connected ones are; those are then drawn in the first
            round and stay the same.
        streams: the strategy's.

    Attributes:
        nodes: ids; None until the drawn ones are known.

    Raises:
        InputError: no such attack, or nodes without an attack.
    """

    def __init__(self, attack: UpdatePoisoning | None, nodes: int | Collection[int], streams: Streams) -> None:
        _check(attack, nodes)
        self._streams, self._how_many = streams, nodes if isinstance(nodes, int) else None
        self.nodes: frozenset[int] | None = None if isinstance(nodes, int) and nodes else frozenset(_ids(nodes))
        self._met = False
        self.forgery = Forgery(attack, ("update",), streams, lambda clients, number: ())

    def choose(self, connected: Iterable[int]) -> None:
        """Draw the Byzantine nodes, where only their number was given and they are not known yet.

        Raises:
            InputError: fewer nodes than that are connected, or none of those that were given by their ids.
        """
        candidates, wanted = sorted(connected), self._how_many or 0
        if self.nodes is not None:
            self._met = self._met or not self.nodes or not self.nodes.isdisjoint(candidates)
            if not self._met:
                more = " and others" if len(candidates) > 4 else ""
                raise InputError(
                    f"RobustStrategy: byzantine_nodes names {sorted(self.nodes)[:4]}, and none of them is connected, "
                    f"but {candidates[:4]}{more}; expected node ids, which Flower draws for each run, or how many "
                    "nodes attack"
                )
            return
        if len(candidates) < wanted:
            raise InputError(
                f"RobustStrategy: byzantine_nodes says {wanted}, and only {len(candidates)} are connected; expected "
                "min_available_nodes to wait for more"
            )
        order = self._streams.numpy("attack", "nodes").permutation(len(candidates))
        self.nodes = frozenset(candidates[place] for place in order[:wanted])

    def places(self, nodes: Sequence[int]) -> list[int]:
        """Where in a round's nodes the Byzantine ones are."""
        return [place for place, node in enumerate(nodes) if node in (self.nodes or ())]

    def forged(
        self,
        rows: Float[Tensor, "nodes parameters"],
        numbers: Sequence[int],
        byzantine: Sequence[int],
        parameters: Float[Tensor, "parameters"],
        round_number: int,
        rule: Callable[[Sequence[int], torch.Generator], AggregatorTrial | None],
        weights: Sequence[float],
    ) -> Float[Tensor, "nodes parameters"]:
        """What the server receives in place of honest updates.

        Args:
            rows: honest updates, a node each; left unchanged.
            numbers: of the nodes.
            byzantine: places of the Byzantine ones.
            parameters: of the model that was sent.
            round_number: from 1.
            rule: the server's, to try out, from the places of honest and Byzantine rows and a random stream.
            weights: of the nodes, summing to one.
        """

        def trial(name: str, places: Sequence[int], generator: torch.Generator) -> AggregatorTrial | None:
            return rule(places, generator)

        sent = {"update": rows}
        return self.forgery(sent, numbers, byzantine, parameters, round_number, trial, weights)["update"]


def _ids(nodes: int | Collection[int]) -> Collection[int]:
    return () if isinstance(nodes, int) else nodes


def _check(attack: object, nodes: int | Collection[int]) -> None:
    many = nodes if isinstance(nodes, int) else len(nodes)
    if attack is None:
        if many:
            raise InputError("RobustStrategy: byzantine_nodes do nothing without an attack; expected attack=...")
        return
    name = type(attack).__name__
    if not isinstance(attack, UpdatePoisoning) or not attack.forges:
        if isinstance(attack, DataPoisoning):
            raise InputError(
                f"RobustStrategy: {name} poisons data, which only the nodes have; expected an attack on updates, or "
                "fedsec.flower.poisoned in the ClientApp"
            )
        raise InputError(f"RobustStrategy: {name} is no attack on updates")
    if attack.trains:
        raise InputError(f"RobustStrategy: {name} trains on the attackers' data, which the server does not have")
    if many < 1:
        raise InputError(f"RobustStrategy: {name} is carried out by nobody; expected byzantine_nodes")
