"""Canaries: examples or clients that are included by chance, so that whoever tells them apart bounds epsilon."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from fedsec.plugins.wording import Problem, shown, wrong
from fedsec.scenario.named_sections import Count, Section

if TYPE_CHECKING:
    from fedsec.scenario.config import CellConfig

Unit = Literal["example", "client"]
Kind = Literal["mislabelled", "dirac", "blank", "natural", "direction"]
Score = Literal["white_box", "loss", "final"]
KINDS: dict[Unit, tuple[Kind, ...]] = {
    "example": ("mislabelled", "dirac", "blank", "natural"),
    "client": ("direction",),
}
"""What canaries of each unit can be, the default first."""
SCORES: dict[Unit, tuple[Score, ...]] = {"example": ("white_box", "loss"), "client": ("white_box", "final")}
"""How canaries of each unit are told apart: by all that is released, and by the final model."""


class CanaryConfig(Section):
    """Canaries, of which each is included with probability one half, and how they are told apart."""

    unit: Unit = Field(
        default="example",
        description="What is included or not: examples of clients, or clients whose updates are random directions.",
    )
    count: Count = Field(
        default=200,
        description="How many canaries there are, included or not. Examples take the place of so many of the "
        "client's own, so that its size, its sampling rate and its noise stay what they were; clients join the others.",
    )
    kind: Kind = Field(
        default="mislabelled",
        description="Of examples: mislabelled, own images with wrong labels; dirac, one bright pixel; blank, one "
        "level of gray, each with a label of its own; natural, own examples as they are. Of clients: direction.",
    )
    client: Annotated[int, Field(ge=0, le=10**6)] | list[Annotated[int, Field(ge=0, le=10**6)]] | Literal["all"] = (
        Field(
            default=0,
            description="Whose examples they are: a client, several, over which they are spread evenly, or all.",
        )
    )
    score: tuple[Score, ...] = Field(
        default=(),
        description="How they are told apart. Of examples: white_box, what the server sees of each update; loss, of "
        "the final model. Of clients: white_box, all models that the server releases; final, the last one. Each costs "
        "confidence of the others; by default both.",
    )
    threshold: Literal["bonferroni", "split"] = Field(
        default="bonferroni",
        description="How many guesses are made: bonferroni pays for trying several numbers in confidence, split "
        "chooses by half of the canaries and counts over the other half.",
    )
    delta: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="At which epsilon is bounded; by default that of the claim, or 1e-5 without one."
    )
    norm: Annotated[float, Field(gt=0, le=1e30)] | None = Field(
        default=None, description="Of canary clients' updates; by default the clipping bound of dp_fedavg."
    )

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in what depends on the unit, and refuse what belongs to the other one."""
        unit: Any = data.get("unit", "example")
        problems: list[Problem] = []
        if not isinstance(unit, str) or unit not in KINDS:
            return data, problems
        if not isinstance(data.get("score", ""), str):
            data["score"] = tuple(data["score"]) if isinstance(data["score"], list) else data["score"]
        elif "score" in data:
            data["score"] = (data["score"],)
        if not data.get("score"):
            data["score"] = SCORES[unit]
        data.setdefault("kind", KINDS[unit][0])
        for key, by_unit in (("kind", KINDS), ("score", SCORES)):
            words, others = by_unit[unit], {word for known in by_unit.values() for word in known}
            given = data[key] if isinstance(data[key], tuple) else (data[key],)
            for word in given:
                if isinstance(word, str) and word in others and word not in words:
                    message = f"expected {' or '.join(words)} of canaries that are {unit}s, got {shown(word)}"
                    problems.append(((key,), message))
        if unit == "client" and data.get("client", 0) != 0:
            problems.append((("client",), "canary clients hold no examples; expected no such key, or unit example"))
        if unit == "example" and data.get("norm") is not None:
            problems.append((("norm",), "examples send no updates; expected no such key, or unit client"))
        return data, problems

    @field_validator("client", mode="after")
    @classmethod
    def _distinct(cls, value: Any) -> Any:
        if isinstance(value, list) and (not value or len(set(value)) < len(value)):
            raise wrong(((), f"expected at least one client, each of them once, got {shown(value)}"))
        return sorted(value) if isinstance(value, list) else value

    @field_validator("score", mode="after")
    @classmethod
    def _each_once(cls, value: tuple[Score, ...]) -> tuple[Score, ...]:
        if len(set(value)) < len(value):
            raise wrong(((), f"expected each score once, got {shown(list(value))}"))
        return value

    def clients(self, num_clients: int) -> tuple[int, ...]:
        """The clients whose examples some canaries are; nobody where canaries are clients."""
        if self.unit == "client":
            return ()
        if self.client == "all":
            return tuple(range(num_clients))
        return (self.client,) if isinstance(self.client, int) else tuple(self.client)

    def shares(self, num_clients: int) -> dict[int, int]:
        """How many canaries each of these clients has."""
        clients = self.clients(num_clients)
        if not clients:
            return {}
        share, more = divmod(self.count, len(clients))
        return {client: share + (place < more) for place, client in enumerate(clients)}

    def no_room(self, sizes: Sequence[int]) -> str | None:
        """Why clients have too few examples for their canaries; None where they have enough.

        Args:
            sizes: examples of each client of the federation.
        """
        for client, number in self.shares(len(sizes)).items():
            if number >= sizes[client]:
                return (
                    f"client {client} has {sizes[client]} examples, and {number} of them were to be canaries; expected "
                    "fewer canaries, or more clients to spread them over"
                )
        return None


def canary_cohort(canaries: CanaryConfig, clients: int, cohort: int) -> float:
    """How many clients a round has on average when canary clients have joined, at the rate that is declared."""
    return cohort * (clients + canaries.count) / clients


def canary_gradients(config: "CellConfig", examples: float | None) -> float:
    """How many gradients of single examples an audit by canaries computes in all rounds, on average.

    Args:
        config: of the cell.
        examples: of a client; None where nobody knows.
    """
    canaries = None if config.audit is None else config.audit.canaries
    if canaries is None or "white_box" not in canaries.score:
        return 0.0
    clients = len(canaries.clients(config.partition.clients))
    share = config.cohort / config.partition.clients
    return config.federation.rounds * share * clients * (examples or 0.0)


def contradictions(config: "CellConfig", canaries: CanaryConfig) -> Iterator[Problem]:
    """What canaries do not go with, with key paths from `audit.canaries`."""
    federation, clients = config.federation, config.partition.clients
    if config.pooled:
        yield (), f"{federation.algorithm} has no clients; expected an algorithm of federated clients"
        return
    if beyond := [client for client in canaries.clients(clients) if client >= clients]:
        yield ("client",), f"expected less than partition.clients = {clients}, got {beyond[0]}"
    if canaries.unit == "client":
        yield from _of_canary_clients(config, canaries)
        return
    inversion = config.inversion
    if inversion is not None and inversion.target.client in canaries.clients(clients):
        yield (
            ("client",),
            f"client {inversion.target.client} is whose images the inversion reconstructs, and canaries change them; "
            "expected another client",
        )
    if "white_box" in canaries.score and config.federation.secure_aggregation is not None:
        yield ("score",), "under secure_aggregation nobody sees the update of a single client; expected loss"
    if config.audit is not None and config.audit.membership is not None:
        yield (
            (),
            "changes examples that audit.membership takes for members; expected one of both, or two cells of a matrix",
        )


def _of_canary_clients(config: "CellConfig", canaries: CanaryConfig) -> Iterator[Problem]:
    clients, cohort = config.partition.clients, config.federation.clients_per_round
    if canaries.norm is None and not any(part.name == "dp_fedavg" for part in config.defense):
        yield ("norm",), "nothing says how long a canary client's update is; expected a norm, or dp_fedavg as defense"
    if cohort is not None and not canary_cohort(canaries, clients, cohort).is_integer():
        yield (
            ("count",),
            f"{canaries.count} canaries at the rate of {cohort} in {clients} clients are no whole number of clients in "
            f"a round; expected a multiple of {clients // math.gcd(clients, cohort)}",
        )
