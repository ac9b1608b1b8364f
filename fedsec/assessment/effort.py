"""How much of the battery is run: levels of effort, from all of it to the least that still says something."""

from dataclasses import dataclass

__all__ = ["LEVELS", "Effort"]

_FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Effort:
    """What is spent on each probe.

    Args:
        seeds: how often everything is repeated, with other data splits, initial models and batches.
        thorough: whether all variants of an attack and all candidate defenses are tried, or the first ones only.
        rounds: share of the deployed number of rounds.
        iterations: share of the iterations that inversions take.
    """

    seeds: int = 3
    thorough: bool = True
    rounds: float = 1.0
    iterations: float = 1.0

    def rounds_of(self, deployed: int) -> int:
        """How many rounds are run of so many: at least five, where there are so many."""
        return max(min(deployed, _FEWEST_ROUNDS), round(deployed * self.rounds))

    def iterations_of(self, number: int) -> int:
        """How many iterations of so many."""
        return max(1, round(number * self.iterations))

    def shortened(self, deployed_rounds: int) -> list[str]:
        """What this level does less than the full one, in words.

        Args:
            deployed_rounds: of the federation.
        """
        full = LEVELS[0]
        notes = []
        if self.seeds < full.seeds:
            notes.append(f"{self.seeds} instead of {full.seeds} seeds")
        if not self.thorough:
            notes.append("only the first variants of attacks and defenses")
        if (rounds := self.rounds_of(deployed_rounds)) < deployed_rounds:
            notes.append(f"{rounds} of the deployed {deployed_rounds} rounds")
        if self.iterations < 1:
            notes.append(f"{self.iterations:.0%} of the iterations of inversions")
        return notes


LEVELS = (
    Effort(3, True),
    Effort(3, False),
    Effort(2, False),
    Effort(1, True),
    Effort(1, False),
    Effort(1, False, iterations=0.5),
    Effort(1, False, rounds=0.5, iterations=0.5),
    Effort(1, False, rounds=0.25, iterations=0.25),
)
"""From the most to the least; a budget gets the first one that it has room for."""
