"""Inferences as parts of an audit name them: with options, each of them once, and called by what tells them apart."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from fedsec.plugins import registry
from fedsec.plugins.wording import Problem, wrong
from fedsec.scenario.named_sections import NamedSection

DEFAULT = "loss_threshold"


class InferenceConfig(NamedSection):
    """An inference and its options."""

    kind = "inference"

    name: str = Field(default=DEFAULT, description="An inference; see `fedsec list inferences`.")

    @property
    def role(self) -> str:
        """What it concludes: `membership`, or a property."""
        return registry.entry("inference", self.name).role

    @property
    def needs(self) -> tuple[str, ...]:
        """What must be granted to it."""
        return tuple(registry.entry("inference", self.name).traits.get("needs") or ())


def listed(value: Any, example: str) -> tuple[Any, ...]:
    """What a scenario writes as one inference or a list of them, as several.

    Args:
        value: as written.
        example: of an inference, for the message.

    Raises:
        ScenarioError: there is none.
    """
    several = value if isinstance(value, list | tuple) else [value]
    if not several:
        raise wrong(((), f"expected at least one inference, such as {example}"))
    return tuple(several)


def repetitions(inferences: Sequence[InferenceConfig]) -> Iterator[Problem]:
    """Inferences that stand twice with the same options, with key paths from the audit's part."""
    for place, inference in enumerate(inferences):
        if list(inferences).index(inference) != place:
            where = ("inferences", place, "name")
            yield where, f"{inference.name!r} stands twice with these options; expected it once"


def label(inferences: Sequence[InferenceConfig], place: int) -> str:
    """What results call an inference: its name, where one stands several times with the options that it sets."""
    inference = inferences[place]
    if [one.name for one in inferences].count(inference.name) == 1:
        return inference.name
    defaults = {one.name: one.default for one in registry.entry("inference", inference.name).parameters}
    own = [f"{key}={value}" for key, value in inference.options.items() if value != defaults[key]]
    return f"{inference.name}({', '.join(own)})" if own else inference.name
