"""What a scenario will do, before it does it: an estimate of the work, and notes on the threat."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import exp, inf, lgamma, log, log1p, sqrt

from fedsec.errors import InputError
from fedsec.scenario.audit.canaries import canary_gradients
from fedsec.scenario.checks import bound_of, check_scenario, rule_of
from fedsec.scenario.config import CellConfig
from fedsec.scenario.refusals import refusals
from fedsec.scenario.scenario import Cell, Scenario
from fedsec.seeds import Streams

__all__ = ["TRAIN_SIZES", "Plan", "PlannedWork", "passes", "plan", "check_scenario", "rounded"]

TRAIN_SIZES = {
    "digits": 1_437,
    "zero_digits": 1_437,
    "photos": 160,
    "fashion_mnist": 60_000,
    "mnist": 60_000,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "cinic10": 90_000,
}
"""Training images of the datasets whose number is known without a look."""


@dataclass(frozen=True)
class PlannedWork:
    """The local training of one cell, in average numbers.

    Args:
        clients: in a round.
        rounds: of communication.
        steps: optimizer steps of a client and round.
        batch: images in a batch.
        server: gradients of single examples that a server computes which trains itself, in all rounds together.
        audit: gradients of single examples that an audit computes, in all rounds together.
    """

    clients: int
    rounds: int
    steps: float
    batch: float
    server: float = 0.0
    audit: float = 0.0

    @property
    def gradients(self) -> float:
        """Gradients of single examples that are computed."""
        return self.clients * self.rounds * self.steps * self.batch + self.server + self.audit


@dataclass(frozen=True)
class Plan:
    """What a scenario will do.

    Args:
        work: for each cell what it would take alone; None where the number of images is not known.
        shared: for each cell whether it shares its clients' training with others.
        trainings: for each cell that shares, for how many clients it is the first that needs them trained.
        notes: what the reader may want to know about the threat, one line each.
        refused: id -> why a cell will not run, of those that will not, see `fedsec.scenario.refusals`.
    """

    work: tuple[PlannedWork | None, ...]
    shared: tuple[bool, ...]
    trainings: tuple[int, ...]
    notes: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=dict)

    def gradients(self, cell: int) -> float | None:
        """Gradients of single examples that a cell adds to the whole."""
        work = self.work[cell]
        if work is None:
            return None
        return work.gradients / work.clients * self.trainings[cell] if self.shared[cell] else work.gradients

    @property
    def total(self) -> float | None:
        """Gradients of single examples of all cells together; None if it is not known for one of them."""
        parts = [self.gradients(cell) for cell in range(len(self.work))]
        return None if None in parts else sum(part for part in parts if part is not None)


def plan(scenario: Scenario) -> Plan:
    """Estimate the work of a scenario. Assumes that it passed `check_scenario`."""
    from fedsec.scenario.shared_training import is_shared, shared_work

    refused = refusals(scenario.cells())
    running = [cell for cell in scenario.cells() if cell.id not in refused]
    configs = [cell.config for cell in scenario.cells()]
    trainings = [0] * len(configs)
    for index, *_ in shared_work([cell.config for cell in running]):
        trainings[scenario.cells().index(running[index])] += 1
    return Plan(
        work=tuple(_NO_WORK if cell.id in refused else _work(cell.config) for cell in scenario.cells()),
        shared=tuple(cell.id not in refused and is_shared(cell.config) for cell in scenario.cells()),
        trainings=tuple(trainings),
        notes=tuple(dict.fromkeys(note for cell in running for note in _notes(cell))),
        refused=refused,
    )


_NO_WORK = PlannedWork(0, 0, 0, 0)


def _work(config: CellConfig) -> PlannedWork | None:
    federation, local = config.federation, config.federation.local
    images = config.dataset.train_size or TRAIN_SIZES.get(config.dataset.name)
    examples = None if images is None else images / (1 if config.pooled else config.partition.clients)
    own = federation.server_data.examples if federation.server_data and rule_of(config).needs_server_update else 0
    if local is None:
        if examples is None:
            return None
        audit = canary_gradients(config, examples)
        return PlannedWork(config.cohort, federation.rounds, 1, examples, float(federation.rounds * own), audit)
    batch = float(local.batch_size or 0)
    if examples is not None:
        batch = min(batch, examples) if local.batch_size else max(1.0, (local.batch_fraction or 0) * examples // 1)
    if not batch or (local.steps is None and examples is None):
        return None
    server = 0.0
    if own:
        passed = local.steps * min(batch, own) if local.steps else (local.epochs or 0) * own
        server = float(federation.rounds * passed)
    if federation.server is not None:
        if examples is None:
            return None
        server = passes(federation.server.epochs, federation.rounds) * config.cohort * examples
    steps = local.steps if local.steps is not None else (local.epochs or 0) * (examples or 0) / batch
    return PlannedWork(config.cohort, federation.rounds, steps, batch, server, canary_gradients(config, examples))


def passes(epochs: int | Sequence[int], rounds: int) -> int:
    """A server's epochs in all rounds together; of a list each round takes one number, and the last repeats."""
    if isinstance(epochs, int):
        return epochs * rounds
    return sum(epochs[:rounds]) + epochs[-1] * max(0, rounds - len(epochs))


def _notes(cell: Cell) -> Iterator[str]:
    """Where the defense may not withstand a round's Byzantine clients, or a curious server has nothing to look at."""
    config = cell.config
    if config.inversion is not None:
        yield from _absences(config)
    if config.federation.traits["exchanges"] != "updates":
        return  # nothing is aggregated, so there is no number of rows to withstand
    clients, cohort, byzantine = config.partition.clients, config.heard, config.attack.count(config.partition.clients)
    if not byzantine:
        return
    part = config.defense[-1]
    bound = bound_of(config, cohort)
    if part.name == "mean":
        return  # it withstands nobody, whatever it says about lost rows
    label = part.label or part.name
    if config.federation.traits.get("by_arrival") and cohort < clients:
        return  # who arrives is a matter of speed
    if config.federation.traits.get("chained"):
        spoiled = min(byzantine, cohort)
        if spoiled > bound:
            yield (
                f"{label} withstands {bound} Byzantine of a round's {cohort} superclients; {byzantine} Byzantine "
                f"clients can be in {spoiled} of them"
            )
        return
    if config.federation.selection is not None:
        yield from _of_the_selection(config, label, bound)
        return
    if cohort == clients and byzantine > bound:
        yield f"{label} withstands {bound} Byzantine of {clients} clients, and there are {byzantine} ({cell})"
        return
    if cohort == clients:
        return
    if config.federation.sampling == "poisson" and config.cohort < clients:
        chance = _poisson_chance(config, byzantine, partial(bound_of, config))
        withstood = "too many"
    else:
        chance = _chance(clients, byzantine, cohort, bound)
        withstood = "more"
    if chance > 1e-3:
        yield (
            f"{label} withstands {bound} Byzantine of a round's {cohort} clients; with {byzantine} among all {clients} "
            f"a round has {withstood} with probability {chance:.2g}"
        )


def _of_the_selection(config: CellConfig, label: str, bound: int) -> Iterator[str]:
    """In how many rounds, as they will be drawn, a rule has more Byzantine clients than it withstands."""
    from fedsec.scenario.participation.rounds import byzantine_in_rounds

    selection, beyond = config.federation.selection, 0
    schedule = range(config.attack.since or 1, 1 + (config.attack.until or config.federation.rounds))
    for number, (size, byzantine) in enumerate(byzantine_in_rounds(config), 1):
        try:
            beyond += number in schedule and byzantine > bound_of(config, size)
        except InputError:
            continue  # too few for the rule, which `check_scenario` looks for
    if beyond and selection is not None:
        may = "may have" if selection.name == "power_of_choice" else "have"
        yield (
            f"{label} withstands {bound} Byzantine of a round's {config.heard} clients; {beyond} of "
            f"{config.federation.rounds} rounds {may} too many, as {selection.name} draws them with seed {config.seed}"
        )


def _absences(config: CellConfig) -> Iterator[str]:
    """The rounds of interest in which the client of interest takes no part."""
    from fedsec.federation.algorithms.stragglers import Stragglers
    from fedsec.scenario.participation.rounds import drawn_clients

    target, streams = config.inversion.target if config.inversion else None, Streams(config.seed)
    slow = config.federation.stragglers
    dropping = Stragglers(slow.fraction, "drop") if slow and slow.handling == "drop" else None
    for number in target.rounds if target else ():
        drawn = drawn_clients(config, number)
        if drawn is None:
            return  # it depends on what clients will say
        if target and target.client not in drawn:
            why = "not sampled"
        elif target and dropping is not None and target.client in dropping.among(drawn, number, streams):
            why = "a straggler, and dropped,"
        else:
            continue
        yield (
            f"client {target.client} is {why} in round {number} with seed {config.seed}; nothing of it can be "
            "reconstructed then"
        )


def _chance(clients: int, byzantine: int, cohort: int, bound: int) -> float:
    """P[more than `bound` Byzantine clients in a cohort], drawn without replacement."""
    fewest = max(bound + 1, cohort - (clients - byzantine))
    ways = [_log_ways(byzantine, k) + _log_ways(clients - byzantine, cohort - k) for k in range(fewest, cohort + 1)]
    return sum(exp(way - _log_ways(clients, cohort)) for way in ways)


def _poisson_chance(config: CellConfig, byzantine: int, bound: Callable[[int], int]) -> float:
    """P[more Byzantine clients than `bound` among those heard], each client drawn independently of the others."""
    clients, mean = config.partition.clients, config.cohort
    rate, total = mean / clients, 0.0
    spread = 6 * sqrt(mean * (1 - rate)) + 6
    for size in range(max(1, int(mean - spread)), min(clients, int(mean + spread)) + 1):
        log_chance = _log_ways(clients, size) + size * log(rate) + (clients - size) * log1p(-rate)
        heard = config.heard_of(size)
        try:
            withstood = bound(heard)
        except InputError:
            continue  # too few for the rule, which `check_scenario` looks for
        total += exp(log_chance) * _chance(clients, byzantine, heard, withstood)
    return total


def _log_ways(n: int, k: int) -> float:
    """Logarithm of the binomial coefficient; the coefficient itself may have a million digits."""
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) if 0 <= k <= n else -inf


def rounded(number: float | None) -> str:
    """A number with a readable unit, as in "1.2 M"."""
    if number is None:
        return "unknown"
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"
