"""The resolved configuration of one cell: what it says, what it may say, and what contradicts itself."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fedsec import registry
from fedsec.data.normalization import PRESETS, normalization
from fedsec.errors import InputError
from fedsec.words import Problem, shown, translate, wrong

NO_ATTACK = "none"

Count = Annotated[int, Field(ge=1, le=10**9)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise wrong(((), f"expected text on one line, without control characters, got {shown(text)}"))
    return text


Label = Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_printable)]


class Section(BaseModel):
    """A mapping of a scenario: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    shorthand: ClassVar[str | None] = None
    """The key that a bare value stands for."""

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Rearrange a raw mapping before its keys are checked, and say what is wrong with it already."""
        return data, []

    @model_validator(mode="wrap")
    @classmethod
    def _in_words(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        if isinstance(data, cls):
            return data
        if cls.shorthand and isinstance(data, str):
            data = {cls.shorthand: data}
        if not isinstance(data, Mapping):
            raise wrong(((), f"expected {'a name or ' if cls.shorthand else ''}a mapping, got {shown(data)}"))
        raw, found = cls.prepare(dict(data))
        try:
            made = handler(raw)
        except ValidationError as error:
            found = [*translate(error, cls), *found]
        if found:
            raise wrong(*found)
        return made


class NamedSection(Section):
    """A mapping that names an entry of the registry and holds its options beside the name."""

    kind: ClassVar[str]
    nothing: ClassVar[tuple[str, ...]] = ()
    """Names that stand for no entry at all."""
    shorthand = "name"

    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Gather the options and resolve them against the class that is named."""
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        options = {key: value for key, value in data.items() if key not in cls.model_fields}
        resolved = own.get("options", {})
        if not isinstance(resolved, Mapping):
            return own, []
        name = own.get("name", cls.model_fields["name"].default)
        if not isinstance(name, str):
            return own, []
        beside = [field for field in cls.model_fields if field != "options"]
        if name in cls.nothing:
            return own, [((key,), f"{name!r} takes no options") for key in {**resolved, **options}]
        try:
            entry = registry.entry(cls.kind, name, also=cls.nothing)
        except InputError as error:
            return {**own, "options": {}}, [(("name",), str(error))]
        resolved, found = registry.problems(entry, {**resolved, **options}, beside)
        return {**own, "options": resolved}, [((key,), message) for key, message in found]


class DatasetConfig(Section):
    """Which images, and how many of them."""

    shorthand = "name"

    name: str = Field(description="A dataset; see `fedsec list datasets`.")
    root: Annotated[Path | None, Field(strict=False)] = Field(
        default=None, description="Folder to look in first; relative to where fedsec is started."
    )
    normalization: Any = Field(
        default="unit",
        description="unit: inputs in [0, 1]; half: inputs in [-1, 1]; or {mean: [..], std: [..]}, one number or one a "
        "channel. Constants that a client may know, never computed from the data.",
    )
    train_size: Count | None = Field(default=None, description="Training images to draw at random; all by default.")
    test_size: Count | None = Field(default=None, description="Test images to draw at random; all by default.")
    download: bool = Field(default=True, description="Whether a missing dataset may be downloaded.")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _entry_name("dataset", name)

    @field_validator("normalization")
    @classmethod
    def _constants(cls, spec: Any) -> str | dict[str, list[float]]:
        try:
            made = normalization(spec)
        except InputError as error:
            raise wrong(((), str(error).removeprefix("normalization: "))) from error
        return spec if spec in tuple(PRESETS) else {"mean": list(made.mean), "std": list(made.std)}


class PartitionConfig(NamedSection):
    """How the training images are spread over the clients."""

    kind = "partition"

    name: str = Field(default="iid", description="A partition; see `fedsec list partitions`.")
    clients: int = Field(default=10, ge=1, le=10**6, description="Number of clients.")


class ModelConfig(NamedSection):
    """The network that is trained."""

    kind = "model"

    name: str = Field(default="mlp", description="A model; see `fedsec list models`.")


class LocalConfig(Section):
    """What a client does with the model it receives."""

    steps: Count | None = Field(default=None, description="Optimizer steps a round; excludes epochs.")
    epochs: Count | None = Field(default=None, description="Passes over a client's images a round (default 1).")
    batch_size: Count | None = Field(default=None, description="Images in a batch (default 32).")
    batch_fraction: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="A batch as a share of the client's images; excludes batch_size."
    )
    optimizer: Literal["sgd", "adam"] = Field(default="sgd", description="Its state starts afresh each round.")
    lr: float = Field(default=0.01, gt=0, description="Learning rate.")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Momentum of sgd.")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty added to the gradient.")

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in the length and the batch size where neither form of them is given."""
        found: list[Problem] = []
        for one, other, default in (("epochs", "steps", 1), ("batch_size", "batch_fraction", 32)):
            given = [key for key in (one, other) if data.get(key) is not None]
            if len(given) == 2:
                found.append(((other,), f"excludes {one}; expected one of the two"))
            elif not given:
                data[one] = default
        if data.get("optimizer") == "adam" and data.get("momentum"):
            found.append((("momentum",), "belongs to sgd; adam has its own, expected none here"))
        return data, found


class FederationConfig(Section):
    """What is exchanged, how often, and with whom."""

    algorithm: str = Field(default="fedavg", description="See `fedsec list algorithms`.")
    rounds: Count = Field(default=10, description="Rounds of communication; 1 with long local training is one-shot.")
    clients_per_round: Count | None = Field(default=None, description="Clients sampled each round; all by default.")
    weighting: Literal["samples", "uniform", "population"] = Field(
        default="samples",
        description="How much a client counts in the mean: by its number of images, all alike, or the unbiased "
        "estimate of the whole population's average.",
    )
    server_lr: float = Field(default=1.0, gt=0, description="The server's step length along the aggregate.")
    local: LocalConfig | None = Field(default=None, description="Local training; not for fedsgd.")
    evaluate_every: Count = Field(default=1, description="Rounds between evaluations; the last is always evaluated.")

    @field_validator("algorithm")
    @classmethod
    def _known(cls, name: str) -> str:
        return _entry_name("algorithm", name)

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in local training for the algorithms that have it."""
        if data.get("algorithm") == "fedsgd":
            if data.get("local") is not None:
                message = "fedsgd takes one full-batch gradient a round; expected no local training (see server_lr)"
                return {**data, "local": None}, [(("local",), message)]
        elif data.get("local") is None:
            data["local"] = {}
        return data, []


class AttackConfig(NamedSection):
    """What the Byzantine clients do, and how many of them there are."""

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

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Check that the number of attackers is given once, and only where there is an attack."""
        named = data.get("name")
        if isinstance(named, str) and named in registry.inversions():
            # Its options are no keys of a scenario either; one message is enough.
            message = f"{named!r} is an inversion; scenarios cannot run inversions yet, use `fedsec invert`"
            return {"name": NO_ATTACK}, [(("name",), message)]
        data, found = super().prepare(data)
        sizes = [key for key in ("fraction", "num_byzantine") if data.get(key) is not None]
        name = data.get("name", NO_ATTACK)
        if name == NO_ATTACK:
            found += [((key,), "there is no attack; expected a name beside it, or nothing") for key in sizes]
        elif len(sizes) == 2:
            found.append((("num_byzantine",), "excludes fraction; expected one of the two"))
        elif not sizes and isinstance(name, str):
            found.append(((), f"attack {name!r} needs fraction or num_byzantine: how many clients are Byzantine"))
        return data, found

    def count(self, num_clients: int) -> int:
        """Number of Byzantine clients among `num_clients`: floor(fraction * num_clients), or as given."""
        if self.num_byzantine is not None:
            return self.num_byzantine
        return int((self.fraction or 0.0) * num_clients + 1e-9)


class DefenseConfig(NamedSection):
    """How the server aggregates."""

    kind = "defense"

    name: str = Field(default="mean", description="A defense; see `fedsec list defenses`.")
    label: Label | None = Field(default=None, description="How tables call it.")


class EngineConfig(Section):
    """How clients are trained; it changes results by rounding only."""

    shorthand = "name"

    name: Literal["auto", "vectorized", "loop"] = Field(
        default="auto", description="vectorized: all clients of a cohort at once; loop: one after another."
    )
    memory_gib: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Memory that a cohort may take, in GiB; measured by default."
    )


class CellConfig(Section):
    """Everything that one cell's numbers depend on, defaults filled in."""

    dataset: DatasetConfig = Field(description="the name of a dataset, such as digits (see `fedsec list datasets`)")
    partition: PartitionConfig = Field(default_factory=PartitionConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    federation: FederationConfig = Field(default_factory=FederationConfig)
    attack: AttackConfig = Field(default_factory=AttackConfig)
    defense: tuple[DefenseConfig, ...] = Field(default_factory=lambda: (DefenseConfig(),))
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(default=0, description="Root of all random streams.")
    engine: EngineConfig = Field(default_factory=EngineConfig)

    @field_validator("defense", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        parts = value if isinstance(value, list | tuple) else [value]
        if len(parts) != 1:
            raise wrong(((), f"expected exactly one aggregation rule, got {len(parts)}"))
        return tuple(parts)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = [*self._contradictions()]
        if found:
            raise wrong(*found)
        return self

    def _contradictions(self) -> Iterable[Problem]:
        clients, sampled, pooled = self.partition.clients, self.federation.clients_per_round, self.pooled
        rules = [part.name for part in self.defense]
        if sampled is not None and sampled > clients and not pooled:
            yield ("federation", "clients_per_round"), f"expected at most partition.clients = {clients}, got {sampled}"
        if pooled and self.attack.name != NO_ATTACK:
            yield (
                ("attack", "name"),
                f"centralized training has no clients to attack; expected none, got {shown(self.attack.name)}",
            )
        if pooled and rules != ["mean"]:
            yield (
                ("defense", 0, "name"),
                f"centralized training aggregates nothing; expected mean, got {shown(rules[0])}",
            )
        if self.federation.weighting == "population" and rules != ["mean"]:
            yield (
                ("federation", "weighting"),
                f"population rescales an average; expected defense mean, got {shown(rules[0])}",
            )
        byzantine = self.attack.count(clients)
        if byzantine >= clients and not pooled:
            yield ("attack", "num_byzantine"), f"expected less than partition.clients = {clients}, got {byzantine}"
        if self.attack.fraction and byzantine == 0:
            share = f"{self.attack.fraction:g} of {clients} clients"
            yield ("attack", "fraction"), f"{share} is less than one client; expected 0, or at least {1 / clients:.3g}"

    @property
    def pooled(self) -> bool:
        """Whether all images lie in one place: no clients, no attack."""
        return self.federation.algorithm == "centralized"

    @property
    def cohort(self) -> int:
        """Clients in a round."""
        return 1 if self.pooled else self.federation.clients_per_round or self.partition.clients

    @property
    def id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of all that the cell's numbers depend on."""
        content = self.model_dump(mode="json")
        del content["attack"]["label"], content["dataset"]["download"]
        # A folder may hold any images, and a memory limit cuts cohorts otherwise; not given, they say nothing.
        for section, key in (("dataset", "root"), ("engine", "memory_gib")):
            if content[section][key] is None:
                del content[section][key]
        for part in content["defense"]:
            del part["label"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _entry_name(kind: str, name: str) -> str:
    """The name, if it is one of the registry's."""
    try:
        return registry.entry(kind, name).name
    except InputError as error:
        raise wrong(((), str(error))) from error


__all__ = [
    "AttackConfig",
    "CellConfig",
    "DatasetConfig",
    "DefenseConfig",
    "EngineConfig",
    "FederationConfig",
    "LocalConfig",
    "ModelConfig",
    "PartitionConfig",
    "Section",
]
