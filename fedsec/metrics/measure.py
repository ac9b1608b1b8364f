"""Metrics of one's own: what a class measures of a model's outputs on the test set, each evaluated round."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, final

from fedsec.errors import InputError
from fedsec.metrics.metric import Better, Metric, Scale

if TYPE_CHECKING:
    from torch import Tensor


class Measure(ABC):
    """What a metric of one's own measures; a subclass fills in `measure` and says how its values are read.

    A scenario names it in `metrics: [name]`. Its value then stands beside the others in tables, files and expectations.

    Attributes:
        better: which direction is better; `neither` for what only describes.
        tasks: the tasks whose outputs it understands; any where none is named.
        scale: `fraction` for values in [0, 1], which are written as percentages; else `number`, `count` and so on.
    """

    better: ClassVar[Better] = "neither"
    tasks: ClassVar[tuple[str, ...]] = ()
    scale: ClassVar[Scale] = "number"

    @abstractmethod
    def measure(self, outputs: "Tensor", targets: "Tensor") -> float:
        """The value over a whole test set.

        Args:
            outputs: [examples, ...] the model's, for a classification its logits; left unchanged.
            targets: [examples, ...] what they should have been, for a classification the classes.
        """

    @final
    def described(self, name: str) -> Metric:
        """The row of the metric table that this class stands for.

        Args:
            name: that the scenario knows it by.
        """
        about = (type(self).__doc__ or name).strip().partition("\n")[0].rstrip(".")
        return Metric(name, about, self.better, scale=self.scale)

    @final
    def value(self, name: str, outputs: "Tensor", targets: "Tensor") -> float:
        """What is measured, checked.

        Raises:
            InputError: it is no number, or a fraction outside [0, 1].
        """
        measured = self.measure(outputs, targets)
        try:
            number = float(measured)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"metric {name}: expected a number, got {type(measured).__name__}") from error
        if self.scale == "fraction" and not 0 <= number <= 1:
            raise InputError(f"metric {name}: is a fraction; expected a number between 0 and 1, got {number:g}")
        return number
