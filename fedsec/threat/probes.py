"""What an attack aims at, as a test of its own: examples, and the answers that the attacker wants for them."""

from dataclasses import dataclass

from torch import Tensor

from fedsec.errors import InputError


@dataclass(frozen=True, eq=False)
class Probe:
    """A test set that an attack brings, evaluated wherever the model is.

    A backdoor's is the test images with its trigger, and the class that they shall be taken for; its accuracy there is
    the attack's success rate.

    Args:
        name: the metric that the result is, a row of `fedsec.metrics.metric.METRICS` such as `attack_success_rate`.
        inputs: [n, ...] images like the test set's, of the same dtype and on the same device.
        targets: [n, ...] what the attacker wants the model to answer.
        metric: which of the task's metrics is measured on them; for a classification accuracy or loss.

    Raises:
        InputError: no examples, or not one target for each.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    metric: str = "accuracy"

    def __post_init__(self) -> None:
        if not len(self.inputs) or len(self.inputs) != len(self.targets):
            raise InputError(
                f"probe {self.name}: expected as many targets as examples and at least one, got {len(self.targets)} "
                f"for {len(self.inputs)}"
            )
