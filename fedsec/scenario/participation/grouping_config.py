"""By what clients are put together that train one after another."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer

from fedsec.plugins.wording import Problem
from fedsec.scenario.named_sections import Count, Section


class GroupingConfig(Section):
    """By what clients come into superclients: each trains for itself before the first round."""

    shorthand = "name"

    name: Literal["random", "greedy", "kmeans"] = Field(
        default="greedy",
        description="random: drawn, as without a grouping, but how even they are is told; greedy: whoever fits best is "
        "next; kmeans: in turn from clusters of clients that are alike.",
    )
    estimate: Literal["confidence", "classifier"] | None = Field(
        default=None,
        description="confidence: how sure a client's network is of each class's exemplars (the default); classifier: "
        "its last layer's weights. Not for random.",
    )
    measure: Literal["kl", "gini", "cosine"] | None = Field(
        default=None, description="greedy: what a mix is measured by (default kl; cosine for classifiers, always)."
    )
    epochs: Count | None = Field(default=None, description="Passes of each client before the first round (default 10).")
    exemplars: Count | None = Field(
        default=None, description="confidence: images of each class of the server's test set (default 10)."
    )
    variance: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="classifier: share of the variance that the kept components have (default 0.9)."
    )

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in what the grouping has, and refuse what only another has."""
        name, estimate = data.get("name", "greedy"), data.get("estimate") or "confidence"
        own: dict[str, Any] = {} if name == "random" else {"estimate": "confidence", "epochs": 10}
        if own:
            own |= {"exemplars": 10} if estimate == "confidence" else {"variance": 0.9}
            own |= {"measure": "kl" if estimate == "confidence" else "cosine"} if name == "greedy" else {}
        problems: list[Problem] = []
        for key in [key for key in data if key in cls.model_fields and key != "name" and data[key] is not None]:
            if key not in own:
                problems.append(((key,), f"says nothing of {name} by {estimate}; expected no such key"))
                data.pop(key)
        return {**data, **{key: value for key, value in own.items() if data.get(key) is None}}, problems

    @model_serializer(mode="wrap")
    def _own_options(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """What is given alone: an option that comes later changes nobody's id."""
        return {key: value for key, value in handler(self).items() if value is not None}

    @property
    def options(self) -> dict[str, Any]:
        """What the constructor of `Grouping` takes."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
