"""Property inference: what updates say of a client beside its examples."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from fedsec.plugins import registry
from fedsec.plugins.wording import Problem, wrong
from fedsec.scenario.audit.inferences import InferenceConfig, label, listed, repetitions
from fedsec.scenario.named_sections import Count, Section

if TYPE_CHECKING:
    from fedsec.scenario.config import CellConfig

GRANTED: dict[str, tuple[str, ...]] = {"site": ("known",), "class_mix": ("observations",)}
"""What is asked -> what an inference is granted that asks it, in the words of its view."""


class PropertyInferenceConfig(InferenceConfig):
    """An inference of a client's property and its options."""

    name: str = Field(default="site", description="An inference; see `fedsec list inferences`.")

    @property
    def asks(self) -> str:
        """What it asks, a key of `GRANTED` where an audit can judge it."""
        return str(registry.entry("inference", self.name).traits.get("asks") or "")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it goes with; all of them if empty. There is no mix of classes where there are none."""
        tasks = tuple(registry.entry("inference", self.name).traits.get("tasks") or ())
        return tasks or (("classification",) if self.asks == "class_mix" else ())

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        """A bare name without options, as ids of cells have it."""
        written = cast(dict[str, Any], handler(self))
        return written if written["options"] else written["name"]


class PropertyConfig(Section):
    """What is read out of updates, against a permutation null."""

    inferences: tuple[PropertyInferenceConfig, ...] = Field(
        default_factory=lambda: (PropertyInferenceConfig(name="site"), PropertyInferenceConfig(name="class_mix")),
        description="Who asks: which client sent an update, or in which shares it holds the classes. `metrics` hold "
        "the figures of the first one that asks each, results those of all.",
    )
    rounds: Count = Field(default=10, description="How many rounds are watched, evenly from the first to the last.")
    permutations: Count = Field(default=999, description="Permutations that make the null distribution.")
    projection: Count = Field(default=1024, description="Numbers in the random sketch that is kept of an update.")

    @field_validator("inferences", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return listed(value, "site")

    @model_validator(mode="after")
    def _possible(self) -> "PropertyConfig":
        problems: list[Problem] = [*repetitions(self.inferences)]
        for place, inference in enumerate(self.inferences):
            where, name = ("inferences", place, "name"), inference.name
            granted = GRANTED.get(inference.asks)
            if inference.role != "property":
                problems.append((where, f"{name!r} infers no property of clients; expected one that does"))
            elif granted is None:
                message = f"{name!r} does not say what it asks; expected {' or '.join(GRANTED)} as `asks` of its class"
                problems.append((where, message))
            elif lacking := [need for need in inference.needs if need not in granted]:
                message = f"needs {' and '.join(lacking)}, and who asks for {inference.asks} is granted"
                problems.append((where, f"{name!r} {message} {' and '.join(granted)}"))
        if problems:
            raise wrong(*problems)
        return self

    @property
    def questions(self) -> frozenset[str]:
        """All that is asked."""
        return frozenset(inference.asks for inference in self.inferences)

    def label(self, place: int) -> str:
        """What results call an inference: its name, where one stands several times with the options that it sets."""
        return label(self.inferences, place)

    def watched(self, rounds: int) -> tuple[int, ...]:
        """The rounds that are watched, of so many.

        Args:
            rounds: of the federation.
        """
        import numpy as np  # here, since scenarios are read without it

        return tuple(np.linspace(1, rounds, min(rounds, self.rounds)).round().astype(int).tolist())


def contradictions(config: "CellConfig", asked: PropertyConfig) -> Iterator[Problem]:
    """What such questions do not go with, with key paths from `audit.properties`."""
    if config.pooled or config.partition.clients < 2:
        yield (), f"asks what tells clients apart, and there is {config.partition.clients}; expected two at least"
        return
    if "site" in asked.questions and min(asked.rounds, config.federation.rounds) < 2:
        yield (
            ("inferences",),
            "a site is told from its updates of other rounds; expected two rounds at least, watched and in the "
            "federation, or no site",
        )
    if config.federation.secure_aggregation is not None:
        yield (), "asks of single updates, and under federation.secure_aggregation the server sees sums only"
