"""Who attacks and who defends: Byzantine clients, a curious server, and what the server does about the former."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from fedsec.plugins import registry
from fedsec.plugins.wording import Problem, shown, wrong
from fedsec.scenario.federation_config import CENTRALIZED, GROUP_TRANSFER
from fedsec.scenario.named_sections import Count, Label, NamedSection, Section, known_entry

NO_ATTACK = "none"
NO_DEFENSE = "none"
INVERSIONS = ("Inversion", "FeatureInversion")
"""Interfaces of attacks by which a curious server reconstructs a client's images; no client is Byzantine then."""

_SENDS_UPDATES = ("fedavg", "fedprox", "fedsgd")
ALGORITHMS_OF: dict[str, tuple[str, tuple[str, ...]]] = {
    "Inversion": ("reconstructs images from updates", _SENDS_UPDATES),
    "FeatureInversion": ("reconstructs images from feature maps", (GROUP_TRANSFER,)),
    "KnowledgePoisoning": ("poisons feature maps and logits", (GROUP_TRANSFER,)),
    "UpdatePoisoning": ("poisons updates", _SENDS_UPDATES),
    "DataPoisoning": ("poisons a client's data", (*_SENDS_UPDATES, GROUP_TRANSFER)),
}
"""Interface of an attack -> what it does, and the algorithms where there is something to do it to."""


class TargetConfig(Section):
    """Whose message a curious server looks at, and when."""

    client: int = Field(default=0, ge=0, le=10**6, description="Number of the client, from 0.")
    rounds: list[Count] = Field(default_factory=lambda: [1], description="Rounds whose message is inverted.")
    images: Count | None = Field(
        default=None,
        description="How many of the client's images to reconstruct; by default all, of feature maps at most 8.",
    )

    @field_validator("rounds", mode="before")
    @classmethod
    def _rounds(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or not all(type(one) is int and 1 <= one <= 10**9 for one in value):
            raise wrong(((), f"expected a list of rounds, each an integer of at least 1, got {shown(value)}"))
        if not value or len(set(value)) < len(value):
            raise wrong(((), f"expected at least one round, each of them once, got {shown(value)}"))
        return sorted(value)


class KnowledgeConfig(Section):
    """What a curious server knows beside the message."""

    labels: bool = Field(default=False, description="Whether it knows the images' labels.")
    bn_statistics: Literal["none", "running", "batch"] = Field(
        default="none",
        description="none: its own images make the statistics of batch normalization; running: it takes the broadcast "
        "averages for them; batch: it has those of the client's batch.",
    )
    defense: bool = Field(
        default=True,
        description="Whether it knows how clients defend their updates, and attacks accordingly: what a defense is "
        "worth shows against who knows it.",
    )
    extractor: Literal["known", "initial"] | None = Field(
        default=None,
        description="For feature maps: the client's extractor itself, or only what it started from (default known).",
    )


class AttackConfig(NamedSection):
    """What the Byzantine clients do and how many there are, or what a curious server reconstructs."""

    kind = "attack"
    nothing = (NO_ATTACK,)
    yielding = ("target", "knowledge")

    name: str = Field(default=NO_ATTACK, description="An attack, or none; see `fedsec list attacks`.")
    label: Label | None = Field(default=None, description="How tables call it.")
    fraction: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Share of Byzantine clients, rounded down to whole clients; excludes num_byzantine."
    )
    num_byzantine: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Number of Byzantine clients; excludes fraction."
    )
    target: TargetConfig | None = Field(default=None, description="Of an inversion: whose images are reconstructed.")
    knowledge: KnowledgeConfig | None = Field(default=None, description="Of an inversion: what the server knows.")

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Check that the number of attackers is given once, and only where there are any; fill in an inversion's."""
        data, found = super().prepare(data)
        name = data.get("name", NO_ATTACK)
        sizes = [key for key in SIZES if data.get(key) is not None]
        aims = [key for key in AIMS if data.get(key) is not None]
        entry = known_entry("attack", name)
        if name == NO_ATTACK:
            found += [((key,), "there is no attack; expected a name beside it, or nothing") for key in [*sizes, *aims]]
            return {**data, **dict.fromkeys(AIMS)}, found
        if entry is None:
            return {**data, **dict.fromkeys(AIMS)}, found
        if entry.base in INVERSIONS:
            message = f"{name!r} is what a curious server does to one client's message; expected target, not {{}}"
            found += [((key,), message.format(key)) for key in sizes]
            data |= {key: {} for key in AIMS if key not in aims} | dict.fromkeys(SIZES)
            found += _fill_in_knowledge(data, entry)
            return data, found
        message = f"goes with inversions such as dlg; expected no such key with {name!r}"
        found += [((key,), message) for key in aims]
        if len(sizes) == 2:
            found.append((("num_byzantine",), "excludes fraction; expected one of the two"))
        elif not sizes:
            found.append(((), f"attack {name!r} needs fraction or num_byzantine: how many clients are Byzantine"))
        return {**data, **dict.fromkeys(AIMS)}, found

    def count(self, num_clients: int) -> int:
        """Number of Byzantine clients among `num_clients`: as given, or floor(fraction * num_clients)."""
        if self.num_byzantine is not None:
            return self.num_byzantine
        return int((self.fraction or 0.0) * num_clients + 1e-9)

    @property
    def interface(self) -> str:
        """The base of the attack's class (`DataPoisoning`, `Inversion`, ...); nothing without an attack."""
        return "" if self.name == NO_ATTACK else registry.entry("attack", self.name).base

    @property
    def inverts(self) -> bool:
        """Whether a curious server reconstructs images, instead of clients misbehaving."""
        return self.interface in INVERSIONS


SIZES = ("fraction", "num_byzantine")
"""Keys of attacks by Byzantine clients."""
AIMS = ("target", "knowledge")
"""Keys of inversions."""


def _fill_in_knowledge(data: dict[str, Any], entry: registry.Entry) -> list[Problem]:
    """Fill in the extractor where one is looked through, and refuse what the other kind of inversion knows."""
    knowledge = data["knowledge"]
    if not isinstance(knowledge, dict):
        return []  # said when it is checked, or checked already
    found: list[Problem] = []
    if entry.base == "FeatureInversion":
        if knowledge.get("extractor") is None:
            data["knowledge"] = {**knowledge, "extractor": "known"}
        if knowledge.get("bn_statistics") == "batch":
            message = f"{entry.name!r} sees feature maps and no batch statistics; expected none, got 'batch'"
            found.append((("knowledge", "bn_statistics"), message))
        if knowledge.get("labels") is True:
            found.append((("knowledge", "labels"), "clients send labels with their feature maps; expected no such key"))
        if knowledge.get("defense") is False:
            message = "clients do nothing to their feature maps that could be known; expected no such key"
            found.append((("knowledge", "defense"), message))
    elif knowledge.get("extractor") is not None:
        message = f"{entry.name!r} sees updates and no feature maps; expected no such key"
        found.append((("knowledge", "extractor"), message))
    return found


Role = Literal["local", "update", "pre_aggregation", "rule", "knowledge"]
"""Who acts, in the order in which defenses act: clients in their training, clients on their updates, the server on all
updates before its rule and by it; or a server that learns from feature maps and logits, and aggregates nothing."""
_ROLES: dict[str, Role] = {
    "LocalDefense": "local",
    "UpdateTransform": "update",
    "PreAggregator": "pre_aggregation",
    "KnowledgeDefense": "knowledge",
}


class DefenseConfig(NamedSection):
    """What clients do in their training or to their updates, or how the server aggregates them."""

    kind = "defense"
    nothing = (NO_DEFENSE,)

    name: str = Field(default="mean", description="A defense; see `fedsec list defenses`; none for fedgkt.")
    label: Label | None = Field(default=None, description="How tables call it.")

    @property
    def role(self) -> Role:
        """Who acts."""
        return "rule" if self.name == NO_DEFENSE else _ROLES.get(registry.entry("defense", self.name).base, "rule")


def fitting(defenses: tuple[DefenseConfig, ...], algorithm: str) -> tuple[DefenseConfig, ...]:
    """The defenses without `none`, if they are what the algorithm can use; the mean follows where no rule is named.

    Raises:
        PydanticCustomError: they are not; for validators.
    """
    if algorithm == GROUP_TRANSFER:
        return _knowledge_defenses(defenses)
    found: list[Problem] = []
    for index, part in enumerate(defenses):
        if part.name == NO_DEFENSE:
            found.append(((index, "name"), f"{algorithm} has to combine updates somehow; expected mean, got 'none'"))
        elif part.role == "knowledge":
            message = f"defends {GROUP_TRANSFER}'s server and aggregates no updates; expected a rule such as mean"
            found.append(((index, "name"), f"{message}, got {shown(part.name)}"))
    rules = [index for index, part in enumerate(defenses) if part.role == "rule"]
    private = [index for index, part in enumerate(defenses) if part.role == "local"]
    if len(rules) > 1:
        found.append(((), f"expected exactly one aggregation rule, got {len(rules)}"))
    elif rules and rules[0] != len(defenses) - 1 and not found:
        message = f"the server's rule acts last; expected {defenses[rules[0]].name} at the end of the list"
        found.append(((rules[0], "name"), message))
    if len(private) > 1:
        found.append(((), f"expected at most one defense of clients' training, got {len(private)}"))
    elif private and private[0] != 0:
        message = f"acts while clients train; expected {defenses[private[0]].name} at the beginning of the list"
        found.append(((private[0], "name"), message))
    acting = [part.role for part in defenses]
    if "update" in acting and "pre_aggregation" in acting[: len(acting) - acting[::-1].index("update")] and not found:
        index = acting.index("pre_aggregation")
        message = "mixes what the server received; expected it after what clients do to their updates"
        found.append(((index, "name"), f"{message}, got {shown(defenses[index].name)} before that"))
    if algorithm == CENTRALIZED and not found:
        for index, part in enumerate(defenses):
            if part.role in ("update", "pre_aggregation") or (part.role == "rule" and part.name != "mean"):
                message = f"centralized training exchanges nothing; expected mean, got {shown(part.name)}"
                found.append(((index, "name"), message))
    if found:
        raise wrong(*found)
    return defenses if rules else (*defenses, DefenseConfig())


_WITHOUT_UPDATES: dict[Role, str] = {
    "rule": f"aggregates updates, and {GROUP_TRANSFER} exchanges none",
    "pre_aggregation": f"mixes updates, and {GROUP_TRANSFER} exchanges none",
    "update": f"changes updates, and {GROUP_TRANSFER} exchanges none",
    "local": f"hides examples in updates, and {GROUP_TRANSFER}'s clients send feature maps of single examples, so its "
    "claim would be void",
}


def _knowledge_defenses(defenses: tuple[DefenseConfig, ...]) -> tuple[DefenseConfig, ...]:
    found: list[Problem] = []
    for index, part in enumerate(defenses):
        if part.name == NO_DEFENSE and len(defenses) > 1:
            found.append(((index, "name"), "stands beside other defenses; expected none alone, or not at all"))
        elif part.name != NO_DEFENSE and part.role != "knowledge":
            message = f"{_WITHOUT_UPDATES[part.role]}; expected none or defenses of knowledge"
            found.append(((index, "name"), f"{message}, got {shown(part.name)}"))
    if found:
        raise wrong(*found)
    return tuple(part for part in defenses if part.name != NO_DEFENSE)
