"""What attackers at the cut of a network need: guards that `fedsec.federation.guards` asks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

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
