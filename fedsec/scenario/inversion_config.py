"""What a curious server reconstructs: by which inversion, of whom, when, and knowing what."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from fedsec.plugins import registry
from fedsec.plugins.wording import Problem, shown, wrong
from fedsec.scenario.named_sections import Count, Label, NamedSection, Section, known_entry

if TYPE_CHECKING:
    from fedsec.scenario.federation_config import FederationConfig

NO_INVERSION = "none"


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
    bn_statistics: Literal["none", "running", "sent", "batch"] = Field(
        default="none",
        description="none: its own images make the statistics of batch normalization; running: it takes the broadcast "
        "averages for them; sent: what the running averages that the client sent tell of its batch; batch: it has "
        "those of the client's batch.",
    )
    defense: bool = Field(
        default=True,
        description="Whether it knows how clients defend their updates, and attacks accordingly: what a defense is "
        "worth shows against who knows it.",
    )
    auxiliary: int = Field(
        default=0,
        ge=0,
        le=10**7,
        description="For a server that makes the model it sends, or hijacks clients: how many images of the clients' "
        "kind it has; they are test images, which no client has.",
    )
    extractor: Literal["known", "initial"] | None = Field(
        default=None,
        description="For feature maps: the client's extractor itself, or only what it started from (default known).",
    )
    personal_layers: Literal["initial", "known"] | None = Field(
        default=None,
        description="For algorithms that leave layers with clients: what the server takes for the client's own, those "
        "that the federation began with, or the client's as its round began, granted (default initial).",
    )


class InversionConfig(NamedSection):
    """What a curious server reconstructs of one client's messages, whatever Byzantine clients do beside it."""

    kind = "inversion"
    nothing = (NO_INVERSION,)

    name: str = Field(default=NO_INVERSION, description="An inversion, or none; see `fedsec list inversions`.")
    label: Label | None = Field(default=None, description="How tables call it.")
    target: TargetConfig = Field(default_factory=TargetConfig, description="Whose images are reconstructed, and when.")
    knowledge: KnowledgeConfig = Field(default_factory=KnowledgeConfig, description="What the server knows.")

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in what is known of an extractor, and refuse what this kind of inversion cannot know."""
        sizes = [key for key in ("fraction", "num_byzantine") if key in data]
        data, problems = super().prepare({key: value for key, value in data.items() if key not in sizes})
        problems += [((key,), "is about Byzantine clients; expected it under `attack`") for key in sizes]
        if data.get("name", NO_INVERSION) == NO_INVERSION:
            keys = [key for key in ("target", "knowledge") if key in data]
            message = "there is no inversion; expected a name beside it, or nothing"
            return data, [*problems, *(((key,), message) for key in keys)]
        entry = known_entry("inversion", data.get("name"))
        if entry is not None and isinstance(data.setdefault("knowledge", {}), dict):
            problems += _fill_in_knowledge(data, entry)
        return data, problems

    @property
    def role(self) -> str:
        """What it looks at: `updates`, `knowledge` (feature maps), or `activations` that it had a hand in."""
        return registry.entry("inversion", self.name).role


def _fill_in_knowledge(data: dict[str, Any], entry: registry.Entry) -> list[Problem]:
    knowledge = data["knowledge"]
    problems: list[Problem] = []
    if entry.role == "knowledge":
        if knowledge.get("extractor") is None:
            data["knowledge"] = {**knowledge, "extractor": "known"}
        if (word := knowledge.get("bn_statistics")) in ("batch", "sent"):
            message = f"{entry.name!r} sees feature maps and no batch statistics; expected none, got {word!r}"
            problems.append((("knowledge", "bn_statistics"), message))
        if knowledge.get("labels") is True:
            message = "clients send labels with their feature maps; expected no such key"
            problems.append((("knowledge", "labels"), message))
        if knowledge.get("defense") is False:
            message = "clients do nothing to their feature maps that could be known; expected no such key"
            problems.append((("knowledge", "defense"), message))
    if entry.role == "activations":
        usual = {"labels": False, "bn_statistics": "none", "defense": True, "extractor": None, "personal_layers": None}
        for key, honest in usual.items():
            if knowledge.get(key, honest) != honest:
                message = f"{entry.name!r} reads what its own networks make of activations; expected no such key"
                problems.append((("knowledge", key), message))
        if not knowledge.get("auxiliary"):
            message = f"{entry.name!r} trains on images of its own; expected a number of test images, such as 200"
            problems.append((("knowledge", "auxiliary"), message))
    elif entry.traits.get("needs_auxiliary") and not knowledge.get("auxiliary"):
        message = f"{entry.name!r} trains its model on labeled test images; expected a number of them, such as 300"
        problems.append((("knowledge", "auxiliary"), message))
    elif knowledge.get("auxiliary") and entry.interface != "MaliciousServer":
        message = f"{entry.name!r} inverts the model as it is, and needs no other images; expected no such key"
        problems.append((("knowledge", "auxiliary"), message))
    if entry.role == "knowledge" and knowledge.get("personal_layers") is not None:
        message = f"{entry.name!r} sees feature maps and no update; expected no such key"
        problems.append((("knowledge", "personal_layers"), message))
    if entry.role == "updates" and knowledge.get("extractor") is not None:
        message = f"{entry.name!r} sees updates and no feature maps; expected no such key"
        problems.append((("knowledge", "extractor"), message))
    return problems


def _unseen_layers(inversion: InversionConfig, federation: "FederationConfig") -> Iterator[Problem]:
    """What does not go with layers that stay with clients, or needs some."""
    word, traits = inversion.knowledge.personal_layers, federation.traits
    if traits["whole_model"]:
        if word is not None:
            yield (
                ("knowledge", "personal_layers"),
                f"clients of {federation.algorithm} keep no layers to themselves; expected no such key",
            )
        return
    interface = registry.entry("inversion", inversion.name).interface
    if interface in ("MaliciousServer", "TextInversion"):
        yield (
            ("name",),
            f"{inversion.name!r} takes the model that the server holds for the client's, and {federation.algorithm} "
            "leaves layers with clients; expected an inversion that matches updates, such as inverting_gradients",
        )
    if word == "known" and traits["trains_in_turns"]:
        yield (
            ("knowledge", "personal_layers"),
            f"clients of {federation.algorithm} train their own layers before those that they send, so that what they "
            "had as their round began tells little; expected initial",
        )


def unseen(inversion: InversionConfig, federation: "FederationConfig") -> Iterator[Problem]:
    """Why a curious server could make nothing of a message, whatever the data."""
    local = federation.local
    augmented = local is not None and local.augmentation is not None
    if inversion.role in ("knowledge", "activations"):
        if augmented:
            yield (
                (),
                "feature maps of augmented views are no feature maps of the client's images; expected local training "
                "without augmentation",
            )
        return
    yield from _unseen_layers(inversion, federation)
    if inversion.target.images is not None:
        yield ("target", "images"), "an update is of all images of a client; expected no number"
    beta = federation.options.get("worker_momentum") if local is None else local.worker_momentum
    if beta:
        yield (), f"a running average of updates cannot be replayed; expected no worker_momentum, got {beta}"
    if local is None:
        return
    if inversion.knowledge.bn_statistics == "batch":
        yield (
            ("knowledge", "bn_statistics"),
            "batch goes with single gradients (fedsgd); expected none, running or sent",
        )
    slow = federation.stragglers
    if slow is not None and slow.fraction and slow.handling == "partial":
        yield (
            (),
            "the server does not know how many of its steps a slow client did, so its update cannot be replayed; "
            "expected no stragglers, or handling drop",
        )
    interface = registry.entry("inversion", inversion.name).interface
    if interface in ("MaliciousServer", "TextInversion") and (local.clip_norm is not None or local.label_smoothing):
        yield (
            (),
            f"{inversion.name!r} reads sizes off the plain loss's gradient that nobody cuts; expected neither "
            "clip_norm nor label_smoothing in federation.local",
        )
    if local.clip_norm is not None and federation.secure_aggregation is not None:
        yield (
            (),
            "steps that each client cuts for itself are not those of one client with all their images, as which a sum "
            "is read; expected no federation.local.clip_norm beside secure_aggregation",
        )
    if federation.options.get("buffers", "reset") != "reset":
        yield (
            (),
            "momentum that goes on from round to round is no part of one update, which a replay begins without; "
            f"expected buffers: reset, got {federation.options['buffers']}",
        )
    if local.optimizer != "sgd":
        yield (
            (),
            f"replaying a client's local training needs SGD; {local.optimizer} divides every step by lengths of the "
            "gradient that it hides, which its attacks do not undo; expected local optimizer sgd, got "
            f"{shown(local.optimizer)}",
        )
    if augmented:
        yield (
            (),
            "replaying a client's local training needs images as they are; expected no augmentation",
        )
