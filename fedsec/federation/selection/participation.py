"""How often clients took part, the Byzantine ones beside the others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fedsec.federation.threat import Threat


class Participation:
    """Counts of rounds, client by client.

    Args:
        num_clients: of the federation.
        threat: who may be Byzantine, and when.
        history: rounds that were played before, as `rounds.jsonl` has them.
    """

    def __init__(self, num_clients: int, threat: Threat, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self.num_clients, self.threat = num_clients, threat
        self.rounds = Counter[int]()
        self.attacked, self.byzantine, self.honest = 0, 0, 0
        for line in history:
            self.add(line)

    def add(self, line: Mapping[str, Any]) -> None:
        """Count a round.

        Args:
            line: as `rounds.jsonl` has it.
        """
        self.rounds.update(line["clients"])
        if self.threat.schedule.covers(line["round"]):
            self.attacked += 1
            self.byzantine += len(line["byzantine_in_round"])
            self.honest += len(line["clients"]) - len(line["byzantine_in_round"])

    def metrics(self) -> dict[str, float | None]:
        """How often a Byzantine client took part for each time that an honest one did, in rounds with an attack.

        Nothing where nobody is Byzantine; None where no honest client took part.
        """
        byzantine = self.threat.num_byzantine
        if not byzantine or not self.attacked:
            return {}
        of_one, of_other = self.byzantine / byzantine, self.honest / (self.num_clients - byzantine)
        return {"byzantine_participation": of_one / of_other if of_other else None}

    def by_client(self) -> list[int]:
        """In how many rounds each client took part."""
        return [self.rounds[client] for client in range(self.num_clients)]
