"""A scenario's datasets, looked at once before any worker does: what is missing or broken is said once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedsec.data import check, load
from fedsec.data.survey import Survey
from fedsec.errors import DataError
from fedsec.scenario import CellConfig, Scenario

_Place = tuple[str, Path | None, bool]


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


def look(scenario: Scenario, fetch: Callable[[str], None] | None = None) -> Datasets:
    """Look at every dataset of a scenario.

    Args:
        scenario: it has passed `check_scenario`.
        fetch: told the name of a dataset that is not there, before it is downloaded; None: download nothing.

    Raises:
        DataError: some cannot be used; one paragraph for each.
    """
    surveys: dict[_Place, Survey] = {}
    notes: list[str] = []
    problems: list[str] = []
    for place in dict.fromkeys(_place(cell.config) for cell in scenario.cells()):
        name, root, download = place
        try:
            survey = check(name, root, download=download)
            if survey.source is None and fetch is not None:
                fetch(name)
                load(name, root, download=download)
                survey = check(name, root, download=False)
        except DataError as error:
            problems.append(str(error))
            continue
        surveys[place] = survey
        if survey.source is None:
            notes.append(f"{name} is not here yet: a run downloads it")
        notes += [f"{name}: {note}" for note in survey.notes]
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))
    return Datasets(surveys, tuple(dict.fromkeys(notes)))


def _place(config: CellConfig) -> _Place:
    return config.dataset.name, config.dataset.root, config.dataset.download
