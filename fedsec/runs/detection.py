"""Whom a cell's rule took for Byzantine: how often rightly, and what that did to honest clients."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


class Exclusions:
    """Counts of rounds and of suspicions, client by client; where a rule does not say whom it suspects, of nothing.

    Args:
        history: rounds that were played before, as `rounds.jsonl` has them.
    """

    def __init__(self, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self.honest, self.excluded = Counter[int](), Counter[int]()
        self.byzantine, self.caught = 0, 0
        for line in history:
            self.add(line)

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a round.

        Args:
            line: as `rounds.jsonl` has it.
        """
        if line.get("suspected") is None:
            return
        suspects, attackers = set(line["suspected"]), set(line["byzantine_in_round"])
        honest = [client for client in line["clients"] if client not in attackers]
        self.honest.update(honest)
        self.excluded.update(client for client in honest if client in suspects)
        self.byzantine += len(attackers)
        self.caught += len(attackers & suspects)

    def metrics(self) -> dict[str, float | None]:
        """Precision and recall over all rounds together, and the share of honest clients' updates that were left out.

        Nothing where no rule said whom it suspects; None for a share of nobody.
        """
        if not self.honest and not self.byzantine:
            return {}
        wrongly, honest = self.excluded.total(), self.honest.total()
        return {
            "detection_precision": _share(self.caught, self.caught + wrongly),
            "detection_recall": _share(self.caught, self.byzantine),
            "honest_excluded": _share(wrongly, honest),
        }

    def by_client(self) -> list[dict[str, int]]:
        """Of each client that was honest in any round: in how many it was, and in how many of them it was left out."""
        return [
            {"client": client, "honest_rounds": rounds, "excluded": self.excluded[client]}
            for client, rounds in sorted(self.honest.items())
        ]


def worst_class_mix(
    recall: Sequence[float | None], counts: Sequence[Sequence[int]], byzantine: Sequence[int]
) -> float | None:
    """Accuracy of the global model for the honest client that it serves worst.

    Each client's is the mean of the classes' recalls, weighted by the client's own shares of the classes: the accuracy
    that the test set would show, if it had that client's mix of classes. Classes without test examples are left out.

    Args:
        recall: of each class on the test set; None where it has no examples of it.
        counts: examples of each class at each client, [clients][classes].
        byzantine: clients that do not count; if all are, all count.

    Returns:
        None where no client has a class that the test set has.
    """
    known = [(place, value) for place, value in enumerate(recall) if value is not None]
    attackers = set(byzantine)
    honest = [row for client, row in enumerate(counts) if client not in attackers] or list(counts)
    accuracies = []
    for row in honest:
        total = sum(row[place] for place, _ in known)
        if total:
            accuracies.append(sum(row[place] * value for place, value in known) / total)
    return min(accuracies, default=None)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
