"""What can be cut, and what attackers at a cut need: the latter are guards that `fedsec.federation.guards` asks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

from fedsec.errors import InputError
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.split.split_learning import SplitLearning
from fedsec.models.blocks import RUNNING_STATISTICS, check_cuts
from fedsec.threat import ActivationPoisoning, DataPoisoning

if TYPE_CHECKING:
    from fedsec.federation.guards import Problem, RunDescription


def attackers_have_what_they_poison(run: "RunDescription") -> Iterator["Problem"]:
    """Whoever has no labels sends none, and the server's would not go with other inputs."""
    if isinstance(run.attack, DataPoisoning) and getattr(run.algorithm, "labels", None) == "server":
        yield (
            "attack",
            f"{type(run.attack).__name__} poisons a client's inputs and labels, and the labels are the server's "
            "(federation.labels: server); expected labels: shared or client, or another attack",
        )
    if not isinstance(run.attack, ActivationPoisoning) or run.algorithm.exchanges != "activations":
        return
    if (labels := getattr(run.algorithm, "labels", "server")) != "server":
        yield (
            "attack",
            f"{type(run.attack).__name__} is for attackers without labels, and clients have them (federation.labels: "
            f"{labels}); expected labels: server, or an attack on data such as backdoor",
        )
    if run.num_byzantine > 1 and getattr(run.algorithm, "cuts_columns", False):
        yield (
            "attack",
            f"a trigger lies in the columns of one party; expected num_byzantine 1, got {run.num_byzantine}",
        )


def check_cuttable(model: nn.Module, algorithm: Algorithm) -> None:
    """Refuse a model that cannot be trained in parts, or not with an algorithm's cuts.

    Args:
        model: of a scenario, wherever its weights are.
        algorithm: that cuts it, or has a copy of it at each party.

    Raises:
        InputError: it cannot.
    """
    if any(name.endswith("running_mean") for name, _ in model.named_buffers()):
        raise InputError(RUNNING_STATISTICS)
    if isinstance(algorithm, SplitLearning):
        check_cuts(model, algorithm.cut, algorithm.tail)
