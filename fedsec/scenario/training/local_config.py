"""The section `federation.local`: what a client does with the model it receives."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from fedsec.plugins.wording import Problem, shown
from fedsec.scenario.named_sections import Count, Section
from fedsec.scenario.training.schedule_config import ScheduleConfig


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
    batch_size: Count | None = Field(default=None, description="Images in a batch (default 10).")
    batch_fraction: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="A batch as a share of the client's images; excludes batch_size."
    )
    optimizer: Literal["sgd", "adam", "lars", "lamb"] = Field(
        default="sgd", description="Its state starts afresh each round; lars and lamb are for large batches."
    )
    lr: float = Field(
        default=0.2, gt=0, description="Learning rate; by default 0.001 with adam, 0.01 with lamb, 10 with lars."
    )
    schedule: ScheduleConfig | None = Field(
        default=None, description="How the learning rate changes from round to round; not at all by default."
    )
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Momentum of sgd and lars.")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty added to the gradient.")
    worker_momentum: float = Field(
        default=0.0, ge=0, lt=1, description="Clients send a running average of their updates; how much is of earlier."
    )
    drop_last: bool = Field(default=False, description="Leave out the images of an epoch that do not fill a batch.")
    augmentation: AugmentationConfig | None = Field(
        default=None, description="standard: a random crop after 4 pixels of padding, and flips; none by default."
    )
    clip_norm: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Length to which each step's gradient is cut; not cut by default."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each label that is spread over all classes in training."
    )

    @classmethod
    def prepare(cls, data: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        """Fill in the length and the batch size where neither form of them is given."""
        problems: list[Problem] = []
        for one, other, default in (("epochs", "steps", 1), ("batch_size", "batch_fraction", 10)):
            given = [key for key in (one, other) if data.get(key) is not None]
            if len(given) == 2:
                problems.append(((other,), f"excludes {one}; expected one of the two"))
            elif not given:
                data[one] = default
        problems += own_momentum(data, default="sgd")
        optimizer = data.get("optimizer")
        if isinstance(optimizer, str) and optimizer in _RATES:
            data.setdefault("lr", _RATES[optimizer])
        if isinstance(bare := data.get("augmentation"), str):
            if bare not in ("standard", "none"):
                problems.append((("augmentation",), f"expected standard, none or a mapping, got {shown(bare)}"))
            data["augmentation"] = {} if bare == "standard" else None
        return data, problems


def own_momentum(data: Mapping[str, Any], *, default: str) -> list[Problem]:
    """The mistake of giving a momentum to an optimizer that has its own."""
    optimizer = data.get("optimizer", default)
    if optimizer not in ("adam", "lamb") or not data.get("momentum"):
        return []
    return [(("momentum",), f"belongs to sgd; {optimizer} has its own, expected none here")]


_RATES = {"adam": 0.001, "lamb": 0.01, "lars": 10.0}
"""Learning rates of optimizers that have another default than SGD."""
