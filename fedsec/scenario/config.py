"""The resolved configuration of one cell: what it says, what it may say, and what contradicts itself."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fedsec.data.normalization import PRESETS, normalization
from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.plugins.wording import Problem, shown, wrong
from fedsec.scenario.audit import audit_config
from fedsec.scenario.audit.audit_config import AuditConfig
from fedsec.scenario.declared import resolve
from fedsec.scenario.federation_config import FederationConfig, ModelConfig, contradictions_of_client_tests, traits_of
from fedsec.scenario.inversion_config import NO_INVERSION, InversionConfig, unseen
from fedsec.scenario.named_sections import Count, Label, NamedSection, Section, either, entry_name
from fedsec.scenario.task_checks import task_problems
from fedsec.scenario.threat_config import NO_ATTACK, WITHOUT_RULES, AttackConfig, DefenseConfig, fitting


class DatasetConfig(NamedSection):
    """Which data, and how many of them."""

    kind = "dataset"

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
        return entry_name("dataset", name)

    @field_validator("normalization")
    @classmethod
    def _constants(cls, spec: Any) -> str | dict[str, list[float]]:
        try:
            constants = normalization(spec)
        except InputError as error:
            raise wrong(((), str(error).removeprefix("normalization: "))) from error
        return spec if spec in tuple(PRESETS) else {"mean": list(constants.mean), "std": list(constants.std)}


class PartitionConfig(NamedSection):
    """How the training images are spread over the clients."""

    kind = "partition"

    name: str = Field(default="iid", description="A partition; see `fedsec list partitions`.")
    label: Label | None = Field(default=None, description="How tables call it.")
    clients: int = Field(default=10, ge=1, le=10**6, description="Number of clients.")
    quantiles: Annotated[int, Field(ge=2, le=1000)] | None = Field(
        default=None,
        description="Into how many intervals of equal size targets that are numbers are cut, for partitions that share "
        "examples out by class.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**128)] | None = Field(
        default=None, description="Of the images drawn and of who gets them; the cell's by default."
    )


class EngineConfig(Section):
    """How clients are trained; it changes results by rounding only."""

    shorthand = "name"

    name: Literal["auto", "vectorized", "loop"] = Field(
        default="auto", description="vectorized: all clients of a cohort at once; loop: one after another."
    )
    memory_gib: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Memory that a cohort may take, in GiB; measured by default."
    )
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        default="fp32", description="Of products: full, shorter factors on a GPU that has them, or bfloat16."
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        default="auto", description="How images and feature maps lie in memory."
    )
    cuda_graphs: bool = Field(default=True, description="Whether a GPU replays a step instead of launching it anew.")


_NEUTRAL: dict[tuple[str, ...], Any] = {
    ("dataset", "options"): {},
    ("dataset", "root"): None,  # a folder may hold any images
    ("engine", "memory_gib"): None,  # a limit cuts cohorts otherwise
    ("engine", "precision"): "fp32",
    ("engine", "memory_format"): "auto",
    ("engine", "cuda_graphs"): True,
    ("federation", "bn"): "average",
    ("federation", "mu"): None,
    ("federation", "declared_byzantine"): None,
    ("federation", "broken_condition"): ("stop", None),
    ("federation", "stragglers"): None,
    ("federation", "server_data"): None,
    ("federation", "secure_aggregation"): None,
    **{
        ("federation", "secure_aggregation", key): None
        for key in (*("protocol", "bits", "clip", "fraction_bits", "threshold", "neighbors", "group_size", "dropouts"),)
    },
    ("federation", "client_test"): None,
    ("federation", "fine_tune"): None,
    ("federation", "server"): None,
    ("federation", "distillation"): None,
    ("federation", "graph"): None,
    ("federation", "asynchronous"): None,
    ("federation", "grouping"): None,
    ("federation", "pairwise"): None,
    ("federation", "attackers"): "drawn",
    ("federation", "local", "augmentation"): None,
    ("partition", "seed"): None,
    ("model", "seed"): None,
    ("federation", "server", "model", "seed"): None,
    ("federation", "local", "drop_last"): False,
    ("federation", "local", "worker_momentum"): 0.0,
    ("federation", "local", "schedule"): None,
    ("federation", "local", "clip_norm"): None,
    ("federation", "local", "label_smoothing"): 0.0,
    ("federation", "server_schedule"): None,
    ("federation", "worker_momentum"): 0.0,
    ("inversion",): None,
    ("inversion", "knowledge", "personal_layers"): None,
    ("audit",): None,
    ("audit", "labels"): None,
    ("metrics",): [],
    ("partition", "quantiles"): None,
    ("attack", "since"): None,
    ("attack", "until"): None,
    ("attack", "redraw"): "once",
    ("attack", "claimed_examples"): 1.0,
    ("attack", "claimed_loss"): 1.0,
    ("attack", "speed"): 1.0,
    ("inversion", "knowledge", "defense"): True,
    ("inversion", "knowledge", "auxiliary"): 0,
    ("federation", "selection"): None,
    ("federation", "sampling"): ("fixed", None),  # None: of algorithms that have no such key
}
"""Values (each of several, in a tuple) that say nothing: cells that have them keep the id from before there were such
keys."""


class CellConfig(Section):
    """Everything that one cell's numbers depend on, defaults filled in."""

    dataset: DatasetConfig = Field(description="the name of a dataset, such as digits (see `fedsec list datasets`)")
    partition: PartitionConfig = Field(default_factory=PartitionConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    federation: FederationConfig = Field(default_factory=FederationConfig)
    attack: AttackConfig = Field(default_factory=AttackConfig)
    inversion: InversionConfig | None = Field(
        default=None, description="What a curious server reconstructs, whoever attacks beside it."
    )
    audit: AuditConfig | None = Field(
        default=None, description="What is measured of privacy beside what is claimed; nothing by default."
    )
    defense: tuple[DefenseConfig, ...] = Field(default_factory=lambda: (DefenseConfig(),))
    metrics: tuple[str, ...] = Field(
        default=(), description="Further metrics of the test set; see `fedsec list metrics`."
    )
    seed: Annotated[int, Field(ge=0, lt=2**128)] = Field(
        default=0, description="Root of all random streams; 128 random bits, kept secret, keep streams from each other."
    )
    engine: EngineConfig = Field(default_factory=EngineConfig)

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in the defense: none where nothing is aggregated, and how many Byzantine clients it reckons with."""
        federation = data.get("federation")
        algorithm = federation.get("algorithm") if isinstance(federation, Mapping) else None
        if traits_of(algorithm or getattr(federation, "algorithm", None)).get("exchanges") in WITHOUT_RULES:
            data.setdefault("defense", [])
        return resolve(data)

    @field_validator("inversion", mode="after")
    @classmethod
    def _nothing(cls, value: InversionConfig | None) -> InversionConfig | None:
        """`none`, as attacks and defenses have it, is nothing at all."""
        return None if value is not None and value.name == NO_INVERSION else value

    @field_validator("metrics", "defense", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    @field_validator("metrics", mode="after")
    @classmethod
    def _measurable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place, name in enumerate(value):
            entry_name("metric", name)
            if name in value[:place]:
                raise wrong(((place,), f"expected each metric once, got {shown(name)} twice"))
        return value

    @field_validator("defense", mode="after")
    @classmethod
    def _fitting(cls, value: tuple[DefenseConfig, ...], info: ValidationInfo) -> tuple[DefenseConfig, ...]:
        federation: FederationConfig | None = info.data.get("federation")
        return value if federation is None else fitting(value, federation.algorithm)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*self._contradictions()]
        if problems:
            raise wrong(*problems)
        return self

    def _contradictions(self) -> Iterable[Problem]:
        clients, sampled, pooled = self.partition.clients, self.federation.clients_per_round, self.pooled
        if sampled is not None and sampled > clients and not pooled:
            yield ("federation", "clients_per_round"), f"expected at most partition.clients = {clients}, got {sampled}"
        stragglers, cohort = self.federation.stragglers, self.cohort
        if stragglers and stragglers.fraction and int(stragglers.fraction * cohort + 1e-9) == 0:
            share = f"{stragglers.fraction:g} of a round's {cohort} clients is less than one client"
            yield ("federation", "stragglers", "fraction"), f"{share}; expected 0, or at least {1 / cohort:.3g}"
        yield from contradictions_of_client_tests(self.federation)
        if self.federation.traits.get("cuts_columns") and self.partition.name != "iid":
            message = f"{self.federation.algorithm} shares out columns, and every party has all examples; expected iid"
            yield ("partition", "name"), f"{message}, got {shown(self.partition.name)}"
        yield from self._contradictions_of_the_attack()
        yield from task_problems(self)
        yield from audit_config.contradictions(self)

    def _contradictions_of_the_attack(self) -> Iterable[Problem]:
        attack, federation, clients = self.attack, self.federation, self.partition.clients
        yield from self._contradictions_of_the_inversion()
        if self.pooled and attack.name != NO_ATTACK:
            message = f"centralized training has no clients to attack; expected none, got {shown(attack.name)}"
            yield ("attack", "name"), message
        elif attack.name != NO_ATTACK and not _goes_with(attack.role, federation.algorithm):
            message = f"{attack.name!r} {_ATTACKED[attack.role]}, so it goes with {either(_fitting(attack.role))}"
            yield ("attack", "name"), f"{message}; expected another attack with {federation.algorithm}"
        byzantine = attack.count(clients)
        if byzantine >= clients and not self.pooled:
            yield ("attack", "num_byzantine"), f"expected less than partition.clients = {clients}, got {byzantine}"
        if attack.since is not None and attack.since > federation.rounds:
            yield ("attack", "since"), f"expected at most federation.rounds = {federation.rounds}, got {attack.since}"
        if attack.until is not None and attack.until < (attack.since or 1):
            yield ("attack", "until"), f"expected at least attack.since = {attack.since or 1}, got {attack.until}"
        if attack.fraction and byzantine == 0:
            share = f"{attack.fraction:g} of {clients} clients"
            yield ("attack", "fraction"), f"{share} is less than one client; expected 0, or at least {1 / clients:.3g}"

    def _contradictions_of_the_inversion(self) -> Iterable[Problem]:
        inversion, federation, clients = self.inversion, self.federation, self.partition.clients
        if inversion is None:
            return
        if not _goes_with(inversion.role, federation.algorithm, inverting=True):
            fitting_ones = either(_fitting(inversion.role, inverting=True))
            message = f"{inversion.name!r} {_INVERTED[inversion.role]}, so it goes with {fitting_ones}"
            yield ("inversion", "name"), f"{message}; expected another inversion with {federation.algorithm}"
        target = inversion.target
        if target.client >= clients:
            message = f"expected less than partition.clients = {clients}, got {target.client}"
            yield ("inversion", "target", "client"), message
        if target.rounds[-1] > federation.rounds:
            message = f"expected at most federation.rounds = {federation.rounds}, got {target.rounds[-1]}"
            yield ("inversion", "target", "rounds"), message
        for path, message in unseen(inversion, federation):
            yield ("inversion", *path), message

    @property
    def pooled(self) -> bool:
        """Whether all images lie in one place: no clients, no attack."""
        pooled: bool = self.federation.traits["pooled"]
        return pooled

    @property
    def data_seed(self) -> int:
        """The seed by which images are drawn and given to clients."""
        return self.seed if self.partition.seed is None else self.partition.seed

    @property
    def cohort(self) -> int:
        """Clients in a round."""
        return 1 if self.pooled else self.federation.clients_per_round or self.partition.clients

    @property
    def heard(self) -> int:
        """Clients whose updates reach the server in a round; on average, where Poisson sampling draws them."""
        return self.heard_of(self.cohort)

    def heard_of(self, cohort: int) -> int:
        """How many of so many clients drawn are heard: all but the stragglers that are dropped; of chains the last."""
        if self.federation.traits.get("chained"):
            return cohort // int(self.federation.options["superclient"])
        slow = self.federation.stragglers
        dropped = slow is not None and slow.handling == "drop"
        return cohort - (int(slow.fraction * cohort + 1e-9) if slow and dropped else 0)

    @property
    def id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of all that the cell's numbers depend on."""
        content = unlabeled(self.model_dump(mode="json"))
        del content["dataset"]["download"]
        usual = {option.name: option.default for option in registry.entry("dataset", self.dataset.name).parameters}
        options = content["dataset"]["options"].items()
        # Datasets were there before their options, whose defaults mean what there was.
        content["dataset"]["options"] = {name: value for name, value in options if value != usual[name]}
        # Ids are older than algorithms' own keys: every federation had these two.
        content["federation"] = {"weighting": None, "server_lr": None, **content["federation"]}
        for (*sections, key), neutral in _NEUTRAL.items():
            inner: Any = content
            for section in sections:
                inner = inner.get(section) or {}
            if key in inner and inner[key] in (neutral if isinstance(neutral, tuple) else (neutral,)):
                del inner[key]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


_ATTACKED = {
    "data": "poisons a client's data",
    "updates": "poisons updates",
    "knowledge": "poisons feature maps and logits",
    "activations": "poisons activations and their gradients",
}
_INVERTED = {
    "updates": "reconstructs images from updates",
    "knowledge": "reconstructs images from feature maps",
    "activations": "trains clients' part of a network for its own ends",
}
"""Role -> what an attack or inversion of it does, for messages."""


def _goes_with(role: str, algorithm: str, *, inverting: bool = False) -> bool:
    """Whether there is something for a role to act on: data with any clients, else what clients exchange.

    Args:
        role: of an attack or an inversion.
        algorithm: its name.
        inverting: whether an update must tell all that is needed to replay it.
    """
    traits = registry.entry("algorithm", algorithm).traits
    if inverting and role == "updates" and not traits["replayable"]:
        return False
    if inverting and role in ("knowledge", "activations") and traits["exchanges"] == "activations":
        return not traits.get("cuts_columns")
    exchanged = "updates" if traits["exchanges"] == "models" else traits["exchanges"]
    return not traits["pooled"] and role in ("data", exchanged)


def _fitting(role: str, *, inverting: bool = False) -> tuple[str, ...]:
    """The algorithms that a role goes with."""
    return tuple(name for name in registry.entries("algorithm") if _goes_with(role, name, inverting=inverting))


def unlabeled(content: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration as plain data, without what its parts are called in tables.

    Args:
        content: a `CellConfig`, dumped.
    """

    def bare(value: Any) -> Any:
        if isinstance(value, Mapping):
            # Options belong to what is named; a label among them is none.
            return {key: item if key == "options" else bare(item) for key, item in value.items() if key != "label"}
        return [bare(item) for item in value] if isinstance(value, list) else value

    return {key: bare(section) for key, section in content.items()}


__all__ = [
    "AttackConfig",
    "CellConfig",
    "DatasetConfig",
    "DefenseConfig",
    "EngineConfig",
    "FederationConfig",
    "InversionConfig",
    "ModelConfig",
    "PartitionConfig",
    "unlabeled",
]
