"""A scenario's datasets, looked at once before any worker does: what is missing or broken is said once."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedsec.data import check, load
from fedsec.data.partitions import check_strata
from fedsec.data.survey import Survey
from fedsec.errors import DataError, InputError, PartitionError
from fedsec.plugins import registry
from fedsec.plugins.wording import Problem
from fedsec.runs.rehearsals.choice import reasons
from fedsec.scenario import CellConfig, Scenario
from fedsec.scenario.plan import TRAIN_SIZES
from fedsec.scenario.refusals import refusals
from fedsec.scenario.scenario import origin
from fedsec.scenario.threat_config import NO_ATTACK

if TYPE_CHECKING:
    from fedsec.data.partitions import Partition
    from fedsec.threat import ByzantineAttack

_Place = tuple[str, Path | None, bool, str]
"""Name, folder, whether it may be downloaded, and options as JSON."""


@dataclass(frozen=True)
class Datasets:
    """What a scenario's datasets are.

    Args:
        surveys: what each is; little is known of one that is not there yet.
        notes: what the reader should know about them, a line each.
    """

    surveys: dict[_Place, Survey]
    notes: tuple[str, ...]

    def fingerprint(self, config: CellConfig) -> str | None:
        """The fingerprint of a cell's dataset."""
        return self.surveys[_place(config)].fingerprint or None

    def shape(self, config: CellConfig) -> tuple[tuple[int, ...], int] | None:
        """(shape of an input, number of classes) of a cell's dataset; None if it is not there yet."""
        survey = self.surveys[_place(config)]
        return (survey.input_shape, survey.num_classes) if survey.source is not None else None


def look(
    scenario: Scenario, fetch: Callable[[str], None] | None = None, *, missing: dict[str, str] | None = None
) -> Datasets:
    """Look at every dataset of a scenario.

    Args:
        scenario: it has passed `check_scenario`.
        fetch: told the name of a dataset that is not there, before it is downloaded; None: download nothing.
        missing: takes what cannot be used, by the dataset's name, and why, in place of an error.

    Raises:
        DataError: some cannot be used; one paragraph for each.
        ScenarioError: what the scenario asks of them cannot be: too many clients or examples, a class that is not
            there; one line for each mistake.
    """
    surveys: dict[_Place, Survey] = {}
    notes: list[str] = []
    problems: list[str] = []
    for place in dict.fromkeys(_place(cell.config) for cell in scenario.cells()):
        name, root, download, written = place
        options = json.loads(written)
        try:
            survey = check(name, root, download=download, options=options)
            if survey.source is None and fetch is not None:
                fetch(name)
                load(name, root, download=download, options=options)
                survey = check(name, root, download=False, options=options)
        except DataError as error:
            if missing is None:
                problems.append(str(error))
                continue
            missing[name] = str(error)
            surveys[place] = Survey(name)
            continue
        surveys[place] = survey
        if survey.source is None:
            notes.append(f"{name} is not here yet: a run downloads it")
            if missing is not None:
                missing[name] = "a run downloads it"
        notes += [f"{name}: {note}" for note in survey.notes]
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))
    mistakes = [
        (origin(cell.draft, path), message)
        for cell in scenario.cells()
        for path, message in _mistakes(cell.config, surveys[_place(cell.config)])
    ]
    mistakes = mistakes or list(_unmet_budgets(scenario, surveys)) or list(_refused_beginnings(scenario, surveys))
    if refusal := scenario.source.error(mistakes):
        raise refusal
    return Datasets(surveys, tuple(dict.fromkeys(notes)))


def _mistakes(config: CellConfig, survey: Survey) -> Iterator[Problem]:
    """What a cell asks of its dataset, and cannot have."""
    available = {"train_size": _num_train(survey), "test_size": survey.num_test or None}
    for key, size in available.items():
        asked = getattr(config.dataset, key)
        if asked is not None and size is not None and asked > size:
            yield ("dataset", key), f"{survey.name} has {size} examples, got {asked}"
    examples = config.dataset.train_size or available["train_size"]
    if examples is not None and not config.pooled:
        partition: Partition = registry.load("partition", config.partition.name)(**config.partition.options)
        try:
            partition.check_size(examples, config.partition.clients)
        except PartitionError as error:
            yield ("partition", "clients"), str(error)
        if config.partition.quantiles is not None:
            try:
                check_strata(examples, config.partition.quantiles)
            except PartitionError as error:
                yield ("partition", "quantiles"), str(error)
    if survey.source is not None and config.attack.name != NO_ATTACK:
        attack: ByzantineAttack = registry.load("attack", config.attack.name)(**config.attack.options)
        try:
            attack.resolve(survey.class_number).check_data(survey.input_shape, survey.num_classes or None)
        except InputError as error:
            yield ("attack",), str(error)


def _unmet_budgets(scenario: Scenario, surveys: Mapping[_Place, Survey]) -> Iterator[Problem]:
    """What budgets of privacy cannot pay for, and canaries without room, with key paths as they stand in the file."""
    private = [cell for cell in scenario.cells() if _asks_for_sizes(cell.config)]
    if not private:
        return
    # What accounts for privacy needs the whole engine, which a scenario without any does not wait for.
    from fedsec.runs.budgets import Budgets
    from fedsec.runs.partitioned import forget_datasets

    budgets = Budgets()
    for cell in private:
        survey = surveys[_place(cell.config)]
        for path, message in budgets.problems(cell.config, _num_train(survey), here=survey.source is not None):
            yield origin(cell.draft, path), message
    forget_datasets()  # workers load their own


def _refused_beginnings(scenario: Scenario, surveys: Mapping[_Place, Survey]) -> Iterator[Problem]:
    """What cells would refuse when they begin and no other check does, with key paths as they stand in the file."""
    refused = refusals(scenario.cells())
    questions = [
        (cell, survey.num_train, reason)
        for cell in scenario.cells()
        if cell.id not in refused and (survey := surveys[_place(cell.config)]).source is not None
        for reason in reasons(cell.config)
    ]
    if not questions:
        return
    # This needs the whole engine, which other scenarios do not wait for.
    from fedsec.runs.partitioned import forget_datasets
    from fedsec.runs.rehearsals.rehearsal import Rehearsals

    rehearsals = Rehearsals()
    for cell, num_train, reason in questions:
        for path, message in rehearsals.problems(cell.config, reason, num_train):
            yield origin(cell.draft, path), message
    forget_datasets()


def _asks_for_sizes(config: CellConfig) -> bool:
    """Whether clients may turn out to be too small for what a cell asks of them."""
    audited = config.audit is not None and config.audit.canaries is not None
    return audited or any(part.role == "local" for part in config.defense)


def _num_train(survey: Survey) -> int | None:
    """Training examples of a dataset; None if that is not known."""
    return survey.num_train or TRAIN_SIZES.get(survey.name)


def _place(config: CellConfig) -> _Place:
    dataset = config.dataset
    return dataset.name, dataset.root, dataset.download, json.dumps(dataset.options, sort_keys=True)
