"""Who is Byzantine in which round, what they do then, and whose data they corrupt."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from fedsec.engine.resident_data import ResidentData
from fedsec.errors import InputError
from fedsec.seeds import Streams
from fedsec.threat import ActivationPoisoning, DataPoisoning, KnowledgePoisoning, UpdatePoisoning

Attack = DataPoisoning | UpdatePoisoning | KnowledgePoisoning | ActivationPoisoning
Redraw = Literal["once", "each_round"]
"""once: the same clients are Byzantine in all rounds; each_round: as many others in every round."""


@dataclass(frozen=True)
class AttackRounds:
    """When there are Byzantine clients, and how they are chosen.

    Args:
        since: the first round in which they attack; they are honest before.
        until: the last one; they are honest afterwards, and stay in the federation. None for no end.
        redraw: see `Redraw`.

    Raises:
        InputError: rounds that are none, or a redraw that is none.
    """

    since: int = 1
    until: int | None = None
    redraw: Redraw = "once"

    def __post_init__(self) -> None:
        if self.since < 1 or (self.until is not None and self.until < self.since):
            raise InputError(f"attack: expected rounds 1 <= since <= until, got {self.since} and {self.until}")
        if self.redraw not in get_args(Redraw):
            raise InputError(f"attack: redraw must be one of {', '.join(get_args(Redraw))}, got {self.redraw!r}")

    def covers(self, round_number: int) -> bool:
        """Whether anybody attacks in a round."""
        return self.since <= round_number and (self.until is None or round_number <= self.until)


ALWAYS = AttackRounds()


@dataclass(frozen=True, eq=False)
class Draws:
    """How the Byzantine clients of each round are drawn anew.

    Args:
        num_byzantine: how many there are in a round, of all clients, sampled or not.
        num_clients: of the federation.
        streams: the experiment's; the `attack` stream of a round tells who they are.
    """

    num_byzantine: int
    num_clients: int
    streams: Streams

    def of_round(self, round_number: int) -> frozenset[int]:
        """The Byzantine clients of one round; a smaller number is a subset of a larger one."""
        order = self.streams.numpy("attack", "clients", "round", round_number).permutation(self.num_clients)
        return frozenset(order[: self.num_byzantine].tolist())


@dataclass(frozen=True)
class Threat:
    """Who is Byzantine, and what they do.

    Args:
        byzantine: client numbers, drawn once for the whole experiment; where they are drawn anew each round, everybody
            who may ever be one.
        attack: applied to their data before training, or to what they send; None for none.
        schedule: in which rounds they attack; where they are drawn anew each round, `draws` says how.
        claimed_examples: the Byzantine clients tell the server that they have so many times the examples they have,
            which counts with rules that use weights.
        draws: who is Byzantine in each round, where `schedule.redraw` is each_round.
        speed: how many times as fast as others they train, where a clock is simulated.
        claimed_loss: so many times the loss they have is what they state, where a server asks whom to choose.

    Raises:
        InputError: a factor that is not positive, or a redraw without draws.
    """

    byzantine: frozenset[int] = field(default_factory=frozenset)
    attack: Attack | None = None
    schedule: AttackRounds = ALWAYS
    claimed_examples: float = 1.0
    draws: Draws | None = None
    claimed_loss: float = 1.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        for name in ("claimed_examples", "claimed_loss", "speed"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"attack: {name} must be positive and finite, got {getattr(self, name)}")
        if (self.schedule.redraw == "each_round") != (self.draws is not None):
            raise InputError("attack: redraw each_round needs draws, and only that does; expected Threat.draw")

    @classmethod
    def draw(
        cls,
        attack: Attack | None,
        num_byzantine: int,
        num_clients: int,
        streams: Streams,
        *,
        schedule: AttackRounds = ALWAYS,
        claimed_examples: float = 1.0,
        claimed_loss: float = 1.0,
        speed: float = 1.0,
    ) -> "Threat":
        """Choose the Byzantine clients from the `attack` stream; a smaller number is a subset of a larger one.

        Args:
            attack: what they do.
            num_byzantine: how many they are.
            num_clients: of the federation.
            streams: the experiment's.
            schedule: in which rounds they do it.
            claimed_examples: see the class.
            claimed_loss: likewise.
            speed: likewise.

        Raises:
            InputError: as many Byzantine clients as there are clients, or more.
        """
        if not 0 <= num_byzantine < num_clients:
            raise InputError(f"num_byzantine must lie in [0, {num_clients}), got {num_byzantine}")
        if schedule.redraw == "each_round":
            draws = Draws(num_byzantine, num_clients, streams)
            everybody = frozenset(range(num_clients if num_byzantine else 0))
            return cls(everybody, attack, schedule, claimed_examples, draws, claimed_loss, speed)
        order = streams.numpy("attack", "clients").permutation(num_clients)
        byzantine = frozenset(order[:num_byzantine].tolist())
        return cls(byzantine, attack, schedule, claimed_examples, claimed_loss=claimed_loss, speed=speed)

    @property
    def num_byzantine(self) -> int:
        """How many clients are Byzantine in a round in which anybody is."""
        return len(self.byzantine) if self.draws is None else self.draws.num_byzantine

    @property
    def fixed(self) -> frozenset[int]:
        """The clients that are Byzantine whenever anybody is; nobody, where they are drawn anew each round."""
        return self.byzantine if self.draws is None else frozenset()

    def in_round(self, round_number: int) -> frozenset[int]:
        """The clients that are Byzantine in a round, whether they take part in it or not."""
        return self.controlled(round_number) if self.schedule.covers(round_number) else frozenset()

    def controlled(self, round_number: int) -> frozenset[int]:
        """The clients that an attacker has in a round, whether they attack in it or behave."""
        return self.byzantine if self.draws is None else self.draws.of_round(round_number)


def poison_data(data: ResidentData, threat: Threat, num_classes: int | None, streams: Streams) -> None:
    """Let the Byzantine clients corrupt their examples, once, before the first round; a second call does nothing.

    Clients keep their honest examples for rounds in which they do not attack, see `ResidentData.poison_only`.

    Raises:
        InputError: others have corrupted these data already.
    """
    if not isinstance(threat.attack, DataPoisoning) or not threat.byzantine:
        return
    if data.poisoned_by is not None:
        if data.poisoned_by != (threat.attack, threat.byzantine):
            raise InputError("these data were poisoned by another threat already; expected data of their own")
        return
    data.poisoned_by = threat.attack, threat.byzantine
    for place, client in enumerate(sorted(threat.byzantine)):
        images, labels = data.client_examples(client)
        generator = streams.torch("attack", "client", client)
        attack = threat.attack.part(place, threat.num_byzantine)
        new_images, new_labels = attack.poison(images, labels, num_classes=num_classes, generator=generator)
        if new_images is images:
            data.replace_labels(client, new_labels)
        else:
            data.replace_examples(client, new_images, new_labels)
    data.poison_only(threat.in_round(1))
