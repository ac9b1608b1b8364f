"""What a scenario will do, before it does it: parts that cannot be built, and an estimate of the work."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import exp, inf, lgamma
from typing import Any

from fedsec import registry
from fedsec.scenario.config import NO_ATTACK, CellConfig, DefenseConfig, NamedSection
from fedsec.scenario.reader import KeyPath
from fedsec.scenario.scenario import Cell, Scenario, origin
from fedsec.words import Problem

TRAIN_SIZES = {
    "digits": 1_437,
    "photos": 160,
    "fashion_mnist": 60_000,
    "mnist": 60_000,
    "cifar10": 50_000,
    "cifar100": 50_000,
}
"""Training images of the datasets whose number is known without a look."""


@dataclass(frozen=True)
class Work:
    """The local training of one cell, in average numbers.

    Args:
        clients: in a round.
        rounds: of communication.
        steps: optimizer steps of a client and round.
        batch: images in a batch.
    """

    clients: int
    rounds: int
    steps: float
    batch: float

    @property
    def gradients(self) -> float:
        """Gradients of single examples that are computed."""
        return self.clients * self.rounds * self.steps * self.batch


@dataclass(frozen=True)
class Plan:
    """What a scenario will do.

    Args:
        work: for each cell what it would take alone; None where the number of images is not known.
        shared: for each cell whether it shares its clients' training with others.
        trainings: for each cell that shares, for how many clients it is the first that needs them trained.
        notes: what the reader may want to know about the threat, one line each.
    """

    work: tuple[Work | None, ...]
    shared: tuple[bool, ...]
    trainings: tuple[int, ...]
    notes: tuple[str, ...]

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


def rehearse(scenario: Scenario) -> None:
    """Build every attack, defense, partition, algorithm and model of a scenario once, without data.

    This finds what the annotations of a constructor cannot say, such as a trimmed mean that would trim everybody.

    Raises:
        ScenarioError: something cannot be built; one line for each mistake.
    """
    seen: set[str] = set()
    problems: list[Problem] = []
    for cell in scenario.cells():
        for path, key, build in _parts(cell.config):
            if (once := json.dumps([path, key], default=str)) in seen:
                continue
            seen.add(once)
            try:
                build()
            except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
                problems.append((origin(cell.draft, path), " ".join(str(error).split())))
    if found := scenario.source.error(problems):
        raise found


def _parts(config: CellConfig) -> Iterator[tuple[KeyPath, Any, Callable[[], Any]]]:
    """(key path, what it depends on, how to build it) of everything that a cell is made of."""
    content = config.model_dump(mode="json")
    for kind, part in (("attack", config.attack), ("partition", config.partition)):
        if part.name != NO_ATTACK:
            yield (kind,), content[kind], partial(_build, kind, part)
    for index, rule in enumerate(config.defense):
        yield ("defense", index), [content["defense"][index], config.cohort], partial(_bound, rule, config.cohort)
    yield ("model",), [content["model"], config.dataset.name], partial(_model, config)


def _build(kind: str, part: NamedSection) -> Any:
    return registry.load(kind, part.name)(**part.options)


def _bound(rule: DefenseConfig, cohort: int) -> int:
    """How many Byzantine clients of a cohort a rule withstands."""
    bound: int = _build("defense", rule).max_rejected(cohort)
    return bound


def _model(config: CellConfig) -> None:
    source = registry.load("dataset", config.dataset.name)
    if source.input_shape is None or source.num_classes is None:
        return
    import torch

    from fedsec.models import build

    with torch.device("meta"):
        build(config.model.name, source.input_shape, source.num_classes, **config.model.options)


def plan(scenario: Scenario) -> Plan:
    """Estimate the work of a scenario. Assumes that it passed `rehearse`."""
    from fedsec.runs.sharing import is_shared, shared_work

    configs = [cell.config for cell in scenario.cells()]
    trainings = [0] * len(configs)
    for index, _ in shared_work(configs):
        trainings[index] += 1
    return Plan(
        work=tuple(map(_work, configs)),
        shared=tuple(map(is_shared, configs)),
        trainings=tuple(trainings),
        notes=tuple(dict.fromkeys(note for cell in scenario.cells() for note in _notes(cell))),
    )


def _work(config: CellConfig) -> Work | None:
    federation, local = config.federation, config.federation.local
    images = config.dataset.train_size or TRAIN_SIZES.get(config.dataset.name)
    each = None if images is None else images / (1 if config.pooled else config.partition.clients)
    if local is None:
        return None if each is None else Work(config.cohort, federation.rounds, 1, each)
    batch = float(local.batch_size or 0)
    if each is not None:
        batch = min(batch, each) if local.batch_size else max(1.0, (local.batch_fraction or 0) * each // 1)
    if not batch or (local.steps is None and each is None):
        return None
    if local.steps is not None:
        return Work(config.cohort, federation.rounds, local.steps, batch)
    return Work(config.cohort, federation.rounds, (local.epochs or 0) * (each or 0) / batch, batch)


def _notes(cell: Cell) -> Iterator[str]:
    """Where the Byzantine clients of a round may be more than the defense withstands."""
    config = cell.config
    clients, cohort, byzantine = config.partition.clients, config.cohort, config.attack.count(config.partition.clients)
    if not byzantine:
        return
    part = config.defense[0]
    bound = _bound(part, cohort)
    if part.name == "mean":
        return  # it withstands nobody, whatever it says about lost rows
    label = part.label or part.name
    if cohort == clients and byzantine > bound:
        yield f"{label} withstands {bound} Byzantine of {clients} clients, and there are {byzantine} ({cell})"
    elif cohort < clients and (chance := _chance(clients, byzantine, cohort, bound)) > 1e-3:
        yield (
            f"{label} withstands {bound} Byzantine of a round's {cohort} clients; with {byzantine} among all {clients} "
            f"a round has more with probability {chance:.2g}"
        )


def _chance(clients: int, byzantine: int, cohort: int, bound: int) -> float:
    """P[more than `bound` Byzantine clients in a cohort], drawn without replacement."""
    fewest = max(bound + 1, cohort - (clients - byzantine))
    ways = [_log_ways(byzantine, k) + _log_ways(clients - byzantine, cohort - k) for k in range(fewest, cohort + 1)]
    return sum(exp(way - _log_ways(clients, cohort)) for way in ways)


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
