"""A mod for nodes that lie about their updates."""

from collections.abc import Collection

from flwr.app import ArrayRecord, Context
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.flower.arrays import record_of, state_of
from fedsec.flower.byzantine_nodes import ByzantineNodes
from fedsec.flower.update_mod import NodeUpdate, UpdateMod
from fedsec.seeds import Streams
from fedsec.threat import AttackerView, DataPoisoning, UpdatePoisoning

__all__ = ["byzantine_mod"]

_LAST = "last parameters"


class byzantine_mod(UpdateMod):  # noqa: N801, named as Flower's mods are
    """Byzantine nodes send what an attack makes of their updates; all others are left alone.

        app = ClientApp(mods=[byzantine_mod(SignFlip(), partitions=range(4))])

    A node knows its own update, the model that came and the one before; it sees no other node. Attackers who agree with
    each other, see the honest updates or try the server's rule are played by `RobustStrategy(attack=...)`; attacks on
    data by `poisoned`.

    Args:
        attack: on updates, of own knowledge: `SignFlip()`, `Gaussian()`, `IPM(knowledge="own")`, ...
        nodes: ids of Byzantine nodes.
        partitions: partition ids of Byzantine nodes.
        num_clients: how many nodes take part in a round, as the attacker knows; for attacks that outweigh the others.
        seed: of attacks that draw.

    Raises:
        InputError: an attack that a node alone cannot carry out, or nobody who would.
    """

    def __init__(
        self,
        attack: UpdatePoisoning,
        *,
        nodes: Collection[int] | None = None,
        partitions: Collection[int] | None = None,
        num_clients: int = 1,
        seed: int = 0,
    ) -> None:
        name = type(attack).__name__
        if not isinstance(attack, UpdatePoisoning) or not attack.forges:
            hint = "; expected poisoned in the ClientApp" if isinstance(attack, DataPoisoning) else ""
            raise InputError(f"byzantine_mod: {name} is no attack on updates{hint}")
        if attack.trains:
            raise InputError(f"byzantine_mod: {name} trains on the node's data, which a mod does not have")
        if attack.knowledge != "own" or attack.knows_defense:
            raise InputError(
                f"byzantine_mod: {name} knows what a node alone does not; expected knowledge='own', or "
                "RobustStrategy(attack=...), where all updates are seen"
            )
        if num_clients < 1:
            raise InputError(f"byzantine_mod: num_clients must be at least 1, got {num_clients}")
        attack.check_clients(num_clients, 1)
        self._byzantine, self._attack = ByzantineNodes(nodes, partitions), attack
        self._num_clients, self._streams = num_clients, Streams(seed)

    def concerns(self, context: Context) -> bool:
        return self._byzantine.holds(context)

    def changed(self, update: NodeUpdate) -> Float[Tensor, "parameters"]:
        own, context = update.row[None], update.context
        self._recall(context)
        view = AttackerView(
            own=own,
            honest=own[:0],
            parameters=update.received,
            num_clients=self._num_clients,
            num_byzantine=1,
            round=update.round,
            generator=self._streams.torch("attack", context.node_id, "round", update.round),
            last_aggregate=self._last_aggregate(update),
        )
        forged = self._attack.craft(view)[0]
        if state := self._attack.state():
            context.state[self.key] = record_of(state)
        return forged

    def _recall(self, context: Context) -> None:
        """A node's process may be another one in each round: what the attack remembers lies in its context."""
        record = context.state.get(self.key)
        self._attack.restore(state_of(record, self.key) if isinstance(record, ArrayRecord) else {})

    def _last_aggregate(self, update: NodeUpdate) -> Tensor | None:
        """What the server made of the round before, which whoever receives both models can tell."""
        if not self._attack.needs_last_aggregate:
            return None
        state, key = update.context.state, f"{self.key}.{_LAST}"
        before = state.get(key)
        state[key] = record_of({_LAST: update.received})
        if not isinstance(before, ArrayRecord):
            return None
        return update.received - state_of(before, key)[_LAST]
