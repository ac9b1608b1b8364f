"""What is trained, exchanged and averaged: the model, local training, the algorithm and what belongs to it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from fedsec.plugins import registry
from fedsec.plugins.wording import Problem, shown, wrong
from fedsec.scenario.named_sections import Count, Label, NamedSection, Section, either, entry_name, known_entry
from fedsec.scenario.participation.graph_config import ExchangesConfig, GraphConfig
from fedsec.scenario.participation.grouping_config import GroupingConfig
from fedsec.scenario.participation.selection_config import SelectionConfig
from fedsec.scenario.participation.stragglers_config import StragglersConfig
from fedsec.scenario.training.local_config import LocalConfig, own_momentum
from fedsec.scenario.training.schedule_config import ScheduleConfig, until


class ModelConfig(NamedSection):
    """The network that is trained."""

    kind = "model"

    name: str = Field(default="mlp", description="A model; see `fedsec list models`.")
    label: Label | None = Field(default=None, description="How tables call it.")
    seed: Annotated[int, Field(ge=0, lt=2**128)] | None = Field(
        default=None, description="Of the initial weights; the cell's by default."
    )


class ServerModelConfig(ModelConfig):
    """The network that fedgkt's server trains on the clients' feature maps."""

    name: str = Field(default="resnet55", description="A network that takes feature maps; see `fedsec list models`.")


def _epochs(value: Any) -> Any:
    several = value if isinstance(value, list | tuple) else [value]
    if not several or not all(type(one) is int and 1 <= one <= 10**9 for one in several):
        raise wrong(
            ((), f"expected an integer of at least 1, or a list of them, one for each round; got {shown(value)}")
        )
    return list(several) if isinstance(value, list | tuple) else value


class ServerConfig(Section):
    """How fedgkt's server trains its network on what the clients sent."""

    model: ServerModelConfig = Field(default_factory=ServerModelConfig)
    epochs: Count | list[Count] = Field(
        default=20, description="Passes over what the clients sent; a list has one number a round, the last repeats."
    )
    batch_size: Count = Field(default=128, description="Examples in a batch.")
    optimizer: Literal["sgd", "adam"] = Field(default="adam", description="Its state is kept between rounds.")
    lr: float = Field(default=0.001, gt=0, description="Learning rate.")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Momentum of sgd.")
    weight_decay: float = Field(default=0.0001, ge=0, description="L2 penalty added to the gradient.")
    order: Literal["clients", "mixed"] = Field(
        default="clients", description="clients: one client's examples after another's; mixed: all together, shuffled."
    )
    patience: Count | None = Field(
        default=None,
        description="Rounds without a better training loss after which the rate is divided by ten; never by default.",
    )

    _listed = field_validator("epochs", mode="before")(_epochs)

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Refuse a momentum beside adam."""
        return data, own_momentum(data, default="adam")


class ServerDataConfig(Section):
    """Training examples that the server has for itself, and no client: public ones, or held with consent."""

    examples: Count = Field(default=100, description="How many; they are taken from the clients' shares.")
    bias: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Share of them that is of one class, drawn at random, and the rest of the others; drawn uniformly "
        "by default.",
    )


_Leaving = Annotated[float, Field(ge=0, le=1)] | list[Annotated[int, Field(ge=0)]]


class DropoutsConfig(Section):
    """Clients that leave the protocol: a share of those still there, or numbers of clients."""

    before_sharing: _Leaving = Field(default=0.0, description="Before they answer at all.")
    before_upload: _Leaving = Field(default=0.0, description="After masks were agreed on, before they send theirs.")
    before_unmasking: _Leaving = Field(
        default=0.0, description="After they sent theirs, before they help to take masks off."
    )


class SecureAggregationConfig(Section):
    """The server sees sums of clients only: a model of what a protocol shows it; no cryptography is executed."""

    clients: Annotated[int, Field(ge=2)] = Field(
        description="How many clients a sum has at least; as many as take part in a round for one sum of all."
    )
    protocol: Literal["pairwise_masks", "turbo_aggregate"] | None = Field(
        default=None,
        description="A protocol that is simulated: sums of a ring, clients that drop out of its phases, bytes and "
        "messages. By default sums are those of real numbers and nobody drops out.",
    )
    bits: Literal[32, 64] | None = Field(
        default=None, description="Of a number in the ring of pairwise_masks (default 32); turbo_aggregate has 31."
    )
    clip: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Largest absolute value of an update's coordinate in the ring (default 1)."
    )
    fraction_bits: Annotated[int, Field(ge=0, le=51)] | None = Field(
        default=None, description="Binary digits after the point; by default as many as the heaviest sum allows."
    )
    threshold: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="pairwise_masks: more than this share of a group must stay to the end, or else its sum is lost "
        "(default two thirds).",
    )
    neighbors: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="pairwise_masks: with how many others a client shares masks; by default with all."
    )
    group_size: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="turbo_aggregate: clients of a group in the ring; by default log2 of the sum's."
    )
    dropouts: DropoutsConfig | None = Field(default=None, description="Who leaves the protocol; by default nobody.")

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in what the protocol has, and refuse what only another has."""
        protocol, of_one = data.get("protocol"), {"bits", "threshold", "neighbors"}
        owners = {**dict.fromkeys(of_one, "pairwise_masks"), "group_size": "turbo_aggregate"}
        own = {name for name in cls.model_fields if owners.get(name, protocol) == protocol} - {"clients", "protocol"}
        if protocol is None:
            own = set()
        problems: list[Problem] = []
        for name in sorted({*cls.model_fields} - {"clients", "protocol"} - own):
            if data.get(name) is not None:
                expected = f"protocol: {owners.get(name, 'pairwise_masks or turbo_aggregate')}"
                problems.append(((name,), f"goes with {expected}; expected no such key"))
                data.pop(name)
        for name, default in (("bits", 32), ("clip", 1.0), ("threshold", 2 / 3)):
            if name in own and data.get(name) is None:
                data[name] = default
        return data, problems


class ClientTestConfig(Section):
    """Examples of each client's own that it is tested on and never trains on."""

    fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2, description="Share of each client's examples that is held out, at least one."
    )


class FineTuneConfig(Section):
    """What each client does with the final model before it is tested on its own examples; nothing of it is sent."""

    steps: Count | None = Field(default=None, description="Optimizer steps; excludes epochs.")
    epochs: Count | None = Field(default=None, description="Passes over a client's training examples (default 1).")
    lr: Annotated[float, Field(gt=0)] | None = Field(default=None, description="Learning rate; local's by default.")
    batch_size: Count | None = Field(default=None, description="Examples in a batch; local's by default.")

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """One pass, unless a length is given."""
        given = [key for key in ("steps", "epochs") if data.get(key) is not None]
        if len(given) == 2:
            return data, [(("epochs",), "excludes steps; expected one of the two")]
        return ({**data, "epochs": 1} if not given else data), []


class DistillationConfig(Section):
    """How much fedgkt's networks learn from each other's logits."""

    temperature: float = Field(default=3.0, gt=0, description="The logits are divided by it before the softmax.")
    to_clients: float = Field(default=1.0, ge=0, description="Weight of the server's logits in a client's loss.")
    to_server: float = Field(default=1.0, ge=0, description="Weight of the clients' logits in the server's loss.")


Declared = Literal["actual"] | Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)]


class FederationConfig(Section):
    """What is exchanged, how often, and with whom; the further keys are the options of the algorithm's constructor."""

    model_config = ConfigDict(extra="allow")

    algorithm: str = Field(default="fedavg", description="See `fedsec list algorithms`.")
    label: Label | None = Field(default=None, description="How tables call it.")
    rounds: Count = Field(default=10, description="Rounds of communication; 1 with long local training is one-shot.")
    clients_per_round: Count | None = Field(default=None, description="Clients sampled each round; all by default.")
    sampling: Literal["fixed", "poisson"] | None = Field(
        default="fixed",
        description="fixed: exactly clients_per_round clients; poisson: each independently of the others, so many on "
        "average, as user-level privacy needs it; only where updates are exchanged.",
    )
    selection: SelectionConfig | None = Field(
        default=None,
        description="How a round's clients are drawn where not all are as likely to take part, in place of sampling: "
        "power_law, cyclic, availability or power_of_choice, with options. None by default.",
    )
    bn: Literal["average", "local", "reset", "recalibrate"] | None = Field(
        default="average",
        description="Batch normalization's running statistics: averaged like parameters, kept by each client, started "
        "afresh each round, or measured anew for the new parameters; not for fedgkt, whose clients keep their own.",
    )
    declared_byzantine: Declared | None = Field(
        default=None,
        description="How many Byzantine clients of a round all defenses are set up for that take a number of them and "
        "are given none: actual (as many as the attack has), a number, or a share below 1 of a round's clients.",
    )
    broken_condition: Literal["stop", "skip", "relax"] | None = Field(
        default="stop",
        description="In a round with too few clients for the server's rule: stop the run; skip, so that the model "
        "stays as it is; or relax the rule to the most Byzantine clients that so many allow.",
    )
    server_data: ServerDataConfig | None = Field(
        default=None,
        description="The server's own data, on which it does each round what a client would, for rules that trust the "
        "result (fltrust, monna); none by default.",
    )
    secure_aggregation: SecureAggregationConfig | None = Field(
        default=None,
        description="The server sees sums of so many clients, drawn anew each round, and no client's own update; rules "
        "then compare sums, and those that need single clients are refused. None by default.",
    )
    client_test: ClientTestConfig | None = Field(
        default=None,
        description="Holds out a part of each client's examples and tests on it the model that counts for that client: "
        "mean, worst tenth, spread and Jain's index over honest clients; none by default.",
    )
    fine_tune: FineTuneConfig | None = Field(
        default=None,
        description="Lets each client train the final model on its own examples before client_test; none by default.",
    )
    stragglers: StragglersConfig | None = Field(
        default=None, description="Clients that do not finish in time; none by default."
    )
    local: LocalConfig | None = Field(default=None, description="Local training; not for fedsgd.")
    server_schedule: ScheduleConfig | None = Field(
        default=None, description="How server_lr changes from round to round; not at all by default."
    )
    server: ServerConfig | None = Field(default=None, description="The server's training; only for fedgkt.")
    distillation: DistillationConfig | None = Field(default=None, description="Only for fedgkt.")
    graph: GraphConfig | None = Field(default=None, description="Who is whose neighbor; only for decentralized.")
    pairwise: ExchangesConfig | None = Field(
        default=None,
        description="Clients train and exchange with one neighbor at random times, with A2CiD2's momentum; only for "
        "decentralized, whose clients take steps all at once by default.",
    )
    grouping: GroupingConfig | None = Field(
        default=None,
        description="By what clients come into superclients; only for fedseq, which draws them by default.",
    )
    evaluate_every: Count = Field(default=1, description="Rounds between evaluations; the last is always evaluated.")

    @field_validator("algorithm")
    @classmethod
    def _known(cls, name: str) -> str:
        return entry_name("algorithm", name)

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in what the algorithm's constructor has, and refuse what only others have."""
        entry = known_entry("algorithm", data.get("algorithm", cls.model_fields["algorithm"].default))
        if entry is None:
            return {key: value for key, value in data.items() if key in cls.model_fields}, []  # nothing can be told
        own = {parameter.name: parameter for parameter in entry.parameters}
        resolved = {key: value for key, value in data.items() if key in cls.model_fields}
        problems: list[Problem] = []
        for key in (*_OF_UPDATES, *_SECTIONS):
            value = resolved.pop(key, None)
            has_it = key in own if key in _SECTIONS else entry.traits["exchanges"] == "updates"
            if not has_it:
                resolved[key] = None
                problems += [] if value is None else [((key,), _goes_elsewhere(key, entry.name))]
            elif value is not None:
                resolved[key] = value
            elif key in _SECTIONS and own[key].default is not None:
                resolved[key] = {}
        if entry.traits["local_statistics"]:
            resolved.setdefault("bn", "local")
        rounds, local = data.get("rounds", cls.model_fields["rounds"].default), resolved.get("local")
        if isinstance(local, Mapping) and "schedule" in local:
            schedule, ends = until(rounds, local["schedule"], "local", "schedule")
            resolved["local"] = {**local, "schedule": schedule}
            problems += ends
        if "server_schedule" in resolved:
            resolved["server_schedule"], ends = until(rounds, resolved["server_schedule"], "server_schedule")
            problems += ends
        stragglers = resolved.get("stragglers")
        if isinstance(stragglers, Mapping) and stragglers.get("handling") is None:
            resolved["stragglers"] = {**stragglers, "handling": entry.traits["slow_clients"]}
        further = {key: value for key, value in data.items() if key not in cls.model_fields and value is not None}
        options = {key: value for key, value in further.items() if key in own}
        simple = tuple(parameter for parameter in entry.parameters if parameter.name not in _SECTIONS)
        values, mistakes = registry.problems(replace(entry, parameters=simple), options)
        problems += [((key,), message) for key, message in mistakes]
        problems += [((key,), _goes_elsewhere(key, entry.name)) for key in further if key not in own and key != "label"]
        return {**resolved, **values}, problems

    @property
    def traits(self) -> Mapping[str, Any]:
        """What the algorithm says about itself, see `fedsec.federation.Algorithm`."""
        return registry.entry("algorithm", self.algorithm).traits

    @property
    def options(self) -> dict[str, Any]:
        """The options of the algorithm's constructor that are no sections."""
        return dict(self.model_extra or {})


_SECTIONS = ("stragglers", "local", "server_schedule", "server", "distillation", "graph", "pairwise", "grouping")
"""Options of algorithms that are mappings of their own."""
_OF_UPDATES = (
    *("sampling", "selection", "bn", "declared_byzantine", "broken_condition", "server_data", "secure_aggregation"),
    *("client_test", "fine_tune"),
)
"""Keys of a federation that exchanges updates, whatever the algorithm."""


def contradictions_of_client_tests(federation: FederationConfig) -> Iterator[Problem]:
    """Why clients cannot be tested, or cannot tune anything before that."""
    if federation.client_test is not None and federation.traits["pooled"]:
        message = f"{federation.algorithm} training has no clients that could be tested; expected none"
        yield ("federation", "client_test"), message
    if federation.fine_tune is None:
        return
    if federation.client_test is None:
        message = "tunes models for client_test, and there is none; expected client_test: {fraction: 0.2} beside it"
        yield ("federation", "fine_tune"), message
    if federation.local is None:
        message = f"goes with algorithms that have local training; expected none with {federation.algorithm}"
        yield ("federation", "fine_tune"), message


def traits_of(algorithm: str | None) -> Mapping[str, Any]:
    """What an algorithm says about itself; nothing where it is not known here (any more)."""
    entry = known_entry("algorithm", algorithm)
    return {} if entry is None else entry.traits


def exchanging(what: str) -> tuple[str, ...]:
    """The algorithms that exchange `updates`, `knowledge`, `activations` or `models`."""
    return tuple(name for name, entry in registry.entries("algorithm").items() if entry.traits["exchanges"] == what)


def _goes_elsewhere(key: str, algorithm: str) -> str:
    """Why a key does not belong to an algorithm: others have it, or nobody."""
    entries = registry.entries("algorithm")
    owners = tuple(name for name, entry in entries.items() if key in [option.name for option in entry.parameters])
    if key in _OF_UPDATES:
        owners = exchanging("updates")
    if owners:
        return f"goes with {either(owners)}; expected no such key with {algorithm}"
    options = [option.name for option in entries[algorithm].parameters]
    return f"unknown key{registry.keys_hint(key, [*FederationConfig.model_fields, *options])}"
