"""What Byzantine clients do, and what clients and the server do about attackers of any kind."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from fedsec.plugins import registry
from fedsec.plugins.wording import Problem, shown, wrong
from fedsec.scenario.federation_config import exchanging, traits_of
from fedsec.scenario.named_sections import Count, Label, NamedSection, either, known_entry

NO_ATTACK = "none"
NO_DEFENSE = "none"
SIZES = ("fraction", "num_byzantine")
"""Keys that say how many clients are Byzantine."""
SCHEDULE = {"since": None, "until": None, "redraw": "once", "claimed_examples": 1.0, "claimed_loss": 1.0, "speed": 1.0}
"""Keys that say when they attack, who they are then, and what they claim; each with the value that says nothing."""


class AttackConfig(NamedSection):
    """What the Byzantine clients do and how many there are."""

    kind = "attack"
    nothing = (NO_ATTACK,)

    name: str = Field(default=NO_ATTACK, description="An attack, or none; see `fedsec list attacks`.")
    label: Label | None = Field(default=None, description="How tables call it.")
    fraction: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Share of Byzantine clients, rounded down to whole clients; excludes num_byzantine."
    )
    num_byzantine: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Number of Byzantine clients; excludes fraction."
    )
    since: Count | None = Field(default=None, description="The first round with an attack; they are honest before.")
    until: Count | None = Field(
        default=None,
        description="The last round with an attack; they stay, and are honest afterwards. No end by default.",
    )
    redraw: Literal["once", "each_round"] = Field(
        default="once", description="once: the same clients all along; each_round: as many others in every round."
    )
    claimed_examples: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Byzantine clients claim so many times the examples they have, for rules with weights."
    )
    claimed_loss: Annotated[float, Field(gt=0)] = Field(
        default=1.0,
        description="Byzantine clients state so many times the loss they have, where a server chooses by it "
        "(federation.selection: power_of_choice).",
    )
    speed: Annotated[float, Field(gt=0)] = Field(
        default=1.0,
        description="Byzantine clients train so many times as fast as others, where a clock is simulated (async).",
    )

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Check that the number of attackers is given once, and only where there are any."""
        name = data.get("name", NO_ATTACK)
        entry = known_entry("attack", name)
        options = {parameter.name for parameter in entry.parameters} if entry else set()
        misplaced = [key for key in ("target", "knowledge") if key in data and key not in options]
        data, problems = super().prepare({key: value for key, value in data.items() if key not in misplaced})
        if entry is not None or name == NO_ATTACK:
            message = "is about a curious server; expected it under `inversion`"
            problems += [((key,), message) for key in misplaced]
        sizes = [key for key in SIZES if data.get(key) is not None]
        if name == NO_ATTACK:
            problems += [((key,), "there is no attack; expected a name beside it, or nothing") for key in sizes]
            keys = [key for key, neutral in SCHEDULE.items() if data.get(key, neutral) not in (None, neutral)]
            problems += [((key,), "there is no attack; expected a name beside it, or nothing") for key in keys]
        elif entry is not None and len(sizes) == 2:
            problems.append((("num_byzantine",), "excludes fraction; expected one of the two"))
        elif entry is not None and not sizes:
            problems.append(((), f"attack {name!r} needs fraction or num_byzantine: how many clients are Byzantine"))
        return data, problems

    def count(self, num_clients: int) -> int:
        """Number of Byzantine clients among `num_clients`: as given, or floor(fraction * num_clients)."""
        if self.num_byzantine is not None:
            return self.num_byzantine
        return int((self.fraction or 0.0) * num_clients + 1e-9)

    @property
    def role(self) -> str:
        """What it acts on: `data`, `updates`, `knowledge` or `activations`; nothing without an attack."""
        return "" if self.name == NO_ATTACK else registry.entry("attack", self.name).role


Role = Literal["inspection", "local", "update", "pre_aggregation", "wrapper", "rule", "knowledge", "activations"]
"""Who acts, in the order in which defenses act: clients before they train, in their training, and on their updates; the
server on all updates before its rule, around its rule, and by it; a server that learns from feature maps and logits,
and aggregates nothing; or whoever sends something across the cut of a network."""
WITHOUT_RULES = ("knowledge", "activations")
"""What is exchanged where nothing is aggregated: the roles of defenses are called alike."""


class DefenseConfig(NamedSection):
    """What clients do in their training or to their updates, or how the server aggregates them."""

    kind = "defense"
    nothing = (NO_DEFENSE,)
    elsewhere: ClassVar[Mapping[str, str]] = {"num_byzantine": "federation.declared_byzantine"}

    name: str = Field(default="mean", description="See `fedsec list defenses`; none where nothing is aggregated.")
    label: Label | None = Field(default=None, description="How tables call it.")

    @property
    def role(self) -> Role:
        """Who acts."""
        return "rule" if self.name == NO_DEFENSE else cast(Role, registry.entry("defense", self.name).role)


def fitting(defenses: tuple[DefenseConfig, ...], algorithm: str) -> tuple[DefenseConfig, ...]:
    """The defenses without `none`, if they are what the algorithm can use; the mean follows where no rule is named.

    Raises:
        PydanticCustomError: they are not; for validators.
    """
    traits = traits_of(algorithm)
    if traits["exchanges"] in WITHOUT_RULES:
        return _without_rules(defenses, traits["exchanges"])
    problems: list[Problem] = []
    for index, part in enumerate(defenses):
        if part.name == NO_DEFENSE:
            problems.append(((index, "name"), f"{algorithm} has to combine updates somehow; expected mean, got 'none'"))
        elif part.role in WITHOUT_RULES:
            message = f"{_DEFENDS[part.role].format(learning=_learning(part.role))} and aggregates no updates; "
            message += "expected a rule such as mean"
            problems.append(((index, "name"), f"{message}, got {shown(part.name)}"))
    rules = [index for index, part in enumerate(defenses) if part.role == "rule"]
    private = [index for index, part in enumerate(defenses) if part.role == "local"]
    if len(rules) > 1:
        problems.append(((), f"expected exactly one aggregation rule, got {len(rules)}"))
    elif rules and rules[0] != len(defenses) - 1 and not problems:
        message = f"the server's rule acts last; expected {defenses[rules[0]].name} at the end of the list"
        problems.append(((rules[0], "name"), message))
    for index, part in enumerate(defenses):
        after = [following.role for following in defenses[index + 1 : index + 2]]
        if part.role == "wrapper" and after not in (["wrapper"], ["rule"]):
            message = f"asks another rule; expected one, such as median, right after {part.name}"
            problems.append(((index, "name"), message))
    if len(private) > 1:
        problems.append(((), f"expected at most one defense of clients' training, got {len(private)}"))
    elif private and any(part.role not in ("inspection", "local") for part in defenses[: private[0]]):
        message = f"acts while clients train; expected {defenses[private[0]].name} at the beginning of the list"
        problems.append(((private[0], "name"), message))
    inspecting = [index for index, part in enumerate(defenses) if part.role == "inspection"]
    if len(inspecting) > 1:
        problems.append(((), f"expected at most one inspection of received models, got {len(inspecting)}"))
    elif inspecting and inspecting[0] != 0:
        message = f"acts before clients train; expected {defenses[inspecting[0]].name} at the beginning of the list"
        problems.append(((inspecting[0], "name"), message))
    acting = [part.role for part in defenses]
    before_updates = acting[: len(acting) - acting[::-1].index("update")] if "update" in acting else []
    if "pre_aggregation" in before_updates and not problems:
        index = acting.index("pre_aggregation")
        message = "mixes what the server received; expected it after what clients do to their updates"
        problems.append(((index, "name"), f"{message}, got {shown(defenses[index].name)} before that"))
    if traits["pooled"] and not problems:
        for index, part in enumerate(defenses):
            if part.role not in ("local", "rule") or (part.role == "rule" and part.name != "mean"):
                message = f"centralized training exchanges nothing; expected mean, got {shown(part.name)}"
                problems.append(((index, "name"), message))
    if problems:
        raise wrong(*problems)
    return defenses if rules else (*defenses, DefenseConfig())


_WITHOUT_UPDATES: dict[Role, str] = {
    "rule": "aggregates updates, and {learning} exchanges none",
    "wrapper": "combines updates by a rule, and {learning} exchanges none",
    "pre_aggregation": "mixes updates, and {learning} exchanges none",
    "update": "changes updates, and {learning} exchanges none",
    "inspection": "looks at received models, and {learning} sends none to look at",
    "local": "hides examples in updates, and {learning}'s clients send feature maps of single examples, so its claim "
    "would be void",
    "knowledge": "defends a server that learns from knowledge, and {learning} exchanges none",
    "activations": "defends the cut of a network, and {learning} cuts none",
}


_DEFENDS: dict[str, str] = {"knowledge": "defends {learning}'s server", "activations": "defends the cut of {learning}"}


def _learning(exchanged: str) -> str:
    """The algorithms that exchange something, as a sentence lists them."""
    return either(exchanging(exchanged))


def _without_rules(defenses: tuple[DefenseConfig, ...], exchanged: str) -> tuple[DefenseConfig, ...]:
    problems: list[Problem] = []
    for index, part in enumerate(defenses):
        if part.name == NO_DEFENSE and len(defenses) > 1:
            problems.append(((index, "name"), "stands beside other defenses; expected none alone, or not at all"))
        elif part.name != NO_DEFENSE and part.role != exchanged:
            why = _WITHOUT_UPDATES[part.role].format(learning=_learning(exchanged))
            message = f"{why}; expected none or defenses of {exchanged}"
            problems.append(((index, "name"), f"{message}, got {shown(part.name)}"))
    if problems:
        raise wrong(*problems)
    return tuple(part for part in defenses if part.name != NO_DEFENSE)
