"""What honest clients have on test examples of their own: in a round's line, and in a cell's record."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedsec.federation.rounds import RoundResult
from fedsec.metrics.fairness import over_clients
from fedsec.metrics.metric import Metric
from fedsec.runs.experiment import finite

CLIENT_TESTS = "client_tests"
"""Client -> value, of those that were tested; None for one that is no finite number. In a line and in a record."""


class ClientOutcomes:
    """What was last measured of clients on test examples of their own.

    Args:
        primary: the metric that it is.
        history: rounds that were played before, as `rounds.jsonl` has them.
    """

    def __init__(self, primary: Metric, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self.primary, self._values = primary, dict[str, float | None]()
        for line in history:
            self.add(line)

    def add(self, line: Mapping[str, Any]) -> None:
        """Look at a round.

        Args:
            line: as `rounds.jsonl` has it.
        """
        self._values = line.get(CLIENT_TESTS, self._values)

    def metrics(self) -> dict[str, float | None]:
        """The figures of `Metric.over_clients`; nothing where nobody was tested."""
        values = [math.nan if value is None else value for value in self._values.values()]
        return over_clients(values, self.primary) if values else {}

    def in_record(self) -> dict[str, dict[str, float | None]]:
        """The values themselves; nothing where nobody was tested."""
        return {CLIENT_TESTS: self._values} if self._values else {}


def in_line(result: RoundResult) -> dict[str, dict[str, float | None]]:
    """What a round's line says of them; nothing where nobody was tested."""
    if result.client_tests is None:
        return {}
    return {CLIENT_TESTS: {str(client): finite(value) for client, value in result.client_tests.items()}}
