"""What is trained, exchanged and averaged: the model, local training, the algorithm and what belongs to it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from fedsec.plugins.wording import Problem, shown, wrong
from fedsec.scenario.named_sections import Count, Label, NamedSection, Section, either, entry_name, known_entry

GROUP_TRANSFER = "fedgkt"
CENTRALIZED = "centralized"
_AVERAGING = ("fedavg", "fedprox", "fedsgd", CENTRALIZED)
_ITERATED = ("fedavg", "fedprox")

BELONGS: dict[str, tuple[str, ...]] = {
    "weighting": _AVERAGING,
    "server_lr": _AVERAGING,
    "bn": _AVERAGING,
    "sampling": _AVERAGING,
    "mu": ("fedprox",),
    "stragglers": _ITERATED,
    "server": (GROUP_TRANSFER,),
    "distillation": (GROUP_TRANSFER,),
    "asynchronous": (GROUP_TRANSFER,),
}
"""Keys of a federation that only some algorithms have; with the others they resolve to None."""


class ModelConfig(NamedSection):
    """The network that is trained."""

    kind = "model"

    name: str = Field(default="mlp", description="A model; see `fedsec list models`.")
    label: Label | None = Field(default=None, description="How tables call it.")


class ServerModelConfig(ModelConfig):
    """The network that fedgkt's server trains on the clients' feature maps."""

    name: str = Field(default="resnet55", description="A network that takes feature maps; see `fedsec list models`.")


class AugmentationConfig(Section):
    """Random changes to a client's images, drawn anew each time an image is used."""

    crop: int = Field(default=4, ge=0, le=10**4, description="Pixels of padding around an image before a random crop.")
    flip: bool = Field(default=True, description="Whether every other image is mirrored left to right.")
    cutout: int = Field(
        default=0, ge=0, le=10**4, description="Side of the square that is blanked, in pixels; 0: none."
    )


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
    drop_last: bool = Field(default=False, description="Leave out the images of an epoch that do not fill a batch.")
    augmentation: AugmentationConfig | None = Field(
        default=None, description="standard: a random crop after 4 pixels of padding, and flips; none by default."
    )

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
        found += _adam_has_its_own(data, default="sgd")
        if isinstance(bare := data.get("augmentation"), str):
            if bare not in ("standard", "none"):
                found.append((("augmentation",), f"expected standard, none or a mapping, got {shown(bare)}"))
            data["augmentation"] = {} if bare == "standard" else None
        return data, found


class StragglersConfig(Section):
    """Clients that a round does not wait for."""

    fraction: float = Field(ge=0, lt=1, description="Share of a round's clients that cannot finish in time.")
    handling: Literal["drop", "partial"] = Field(
        description="drop: their updates are lost; partial: what they have done by then counts. By default fedavg "
        "drops them and fedprox takes what they have."
    )


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
        return data, _adam_has_its_own(data, default="adam")


class DistillationConfig(Section):
    """How much fedgkt's networks learn from each other's logits."""

    temperature: float = Field(default=3.0, gt=0, description="The logits are divided by it before the softmax.")
    to_clients: float = Field(default=1.0, ge=0, description="Weight of the server's logits in a client's loss.")
    to_server: float = Field(default=1.0, ge=0, description="Weight of the clients' logits in the server's loss.")


class FederationConfig(Section):
    """What is exchanged, how often, and with whom."""

    algorithm: str = Field(default="fedavg", description="See `fedsec list algorithms`.")
    label: Label | None = Field(default=None, description="How tables call it.")
    rounds: Count = Field(default=10, description="Rounds of communication; 1 with long local training is one-shot.")
    clients_per_round: Count | None = Field(default=None, description="Clients sampled each round; all by default.")
    sampling: Literal["fixed", "poisson"] | None = Field(
        default="fixed",
        description="fixed: exactly clients_per_round clients; poisson: each independently of the others, so many on "
        "average, as user-level privacy needs it; not for fedgkt.",
    )
    weighting: Literal["samples", "uniform", "population"] | None = Field(
        default="samples",
        description="How much a client counts in the mean: by its number of images, all alike, or the unbiased "
        "estimate of the whole population's average; not for fedgkt.",
    )
    server_lr: Annotated[float, Field(gt=0)] | None = Field(
        default=1.0, description="The server's step length along the aggregate; not for fedgkt."
    )
    bn: Literal["average", "local", "reset", "recalibrate"] | None = Field(
        default="average",
        description="Batch normalization's running statistics: averaged like parameters, kept by each client, started "
        "afresh each round, or measured anew for the new parameters; not for fedgkt, whose clients keep their own.",
    )
    mu: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Weight of fedprox's penalty on leaving the global model (default 0.01)."
    )
    stragglers: StragglersConfig | None = Field(
        default=None, description="Clients that do not finish in time; only for fedavg and fedprox; none by default."
    )
    local: LocalConfig | None = Field(default=None, description="Local training; not for fedsgd.")
    server: ServerConfig | None = Field(default=None, description="The server's training; only for fedgkt.")
    distillation: DistillationConfig | None = Field(default=None, description="Only for fedgkt.")
    asynchronous: bool | None = Field(
        default=None, description="Whether the server trains on each client as it arrives; only for fedgkt."
    )
    evaluate_every: Count = Field(default=1, description="Rounds between evaluations; the last is always evaluated.")

    @field_validator("algorithm")
    @classmethod
    def _known(cls, name: str) -> str:
        return entry_name("algorithm", name)

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in what the algorithm has, and refuse what only others have."""
        algorithm = data.get("algorithm", cls.model_fields["algorithm"].default)
        if known_entry("algorithm", algorithm) is None:
            return data, []  # what belongs to it cannot be told
        found: list[Problem] = []
        for key, algorithms in BELONGS.items():
            given = data.pop(key, None)
            if algorithm in algorithms:
                given = _default(algorithm, key) if given is None else given
                data |= {} if given is None else {key: given}
                continue
            data[key] = None
            if given is not None:
                found.append(((key,), f"goes with {either(algorithms)}; expected no such key with {algorithm}"))
        stragglers = data.get("stragglers")
        if isinstance(stragglers, Mapping) and stragglers.get("handling") is None:
            data["stragglers"] = {**stragglers, "handling": "partial" if algorithm == "fedprox" else "drop"}
        if algorithm == "fedsgd":
            if data.get("local") is not None:
                message = "fedsgd takes one full-batch gradient a round; expected no local training (see server_lr)"
                found.append((("local",), message))
            data["local"] = None
        elif data.get("local") is None:
            data["local"] = {}
        return data, found


def _default(algorithm: str, key: str) -> Any:
    """What an algorithm's own key is where it is not given; None leaves it to the field."""
    if algorithm == GROUP_TRANSFER:
        return {"server": {}, "distillation": {}, "asynchronous": False}.get(key)
    return 0.01 if key == "mu" else None


def _adam_has_its_own(data: Mapping[str, Any], *, default: str) -> list[Problem]:
    """The mistake of giving adam a momentum."""
    if data.get("optimizer", default) != "adam" or not data.get("momentum"):
        return []
    return [(("momentum",), "belongs to sgd; adam has its own, expected none here")]
