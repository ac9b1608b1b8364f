"""Local optimizers, one a file, and how their learning rates change from round to round."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from fedsec.engine.optimizers.adam import Adam
from fedsec.engine.optimizers.clipping import clip_rows
from fedsec.engine.optimizers.lamb import Lamb
from fedsec.engine.optimizers.lars import Lars
from fedsec.engine.optimizers.optimizer import Optimizer, OptimizerName, Rule
from fedsec.engine.optimizers.schedule import RateSchedule
from fedsec.engine.optimizers.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "Lamb",
    "Lars",
    "Optimizer",
    "OptimizerName",
    "Rule",
    "RateSchedule",
    "clip_rows",
    "optimizer",
]

_OPTIMIZERS: dict[OptimizerName, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "lars": Lars, "lamb": Lamb}


def optimizer(rows: Float[Tensor, "*clients parameters"], rule: Rule, layers: Sequence[int] = ()) -> Optimizer:
    """The optimizer that a training asks for.

    Args:
        rows: what is trained, in place.
        rule: learning rate, momentum and weight decay.
        layers: how many parameters each layer has, in their order; all in one, if not given.
    """
    return _OPTIMIZERS[rule.optimizer](rows, rule, layers)
