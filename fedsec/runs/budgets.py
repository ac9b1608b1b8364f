"""Budgets of examples' privacy that cannot be met, and clients too small for canaries, found before anybody works."""

import json
from collections.abc import Iterator

from fedsec.defense import LocalDefense
from fedsec.errors import PartitionError
from fedsec.federation.algorithms.algorithm import Algorithm
from fedsec.federation.algorithms.update_algorithm import UpdateAlgorithm
from fedsec.federation.example_privacy import UNPAID, private_run
from fedsec.plugins import registry
from fedsec.plugins.wording import Problem
from fedsec.runs.partitioned import client_sizes
from fedsec.scenario import CellConfig
from fedsec.scenario.algorithm import make_algorithm
from fedsec.scenario.checks import FAILURES
from fedsec.scenario.participation.rounds import drawn_clients
from fedsec.seeds import Streams


class Budgets:
    """Asks each distinct setting of a scenario's cells once whether its clients' privacy budget can be met.

    It asks by what the run itself does before its first round. Sizes of clients are those of the run's own partition;
    where only a dataset that is not here yet could tell them, nothing is asked, and the run says it.

    A target without noise is asked of the smallest and the largest client only, since calibrating by prv takes seconds
    a size: one in between may still be refused by the run. A budget beside noise is asked of every size.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, tuple[int, ...] | None] = {}
        self._asked: set[str] = set()
        self._refused: set[str] = set()

    def problems(self, config: CellConfig, num_train: int | None, *, here: bool) -> Iterator[Problem]:
        """What cannot be met in a cell, if no equal setting was complained about.

        Args:
            config: the cell's; it has passed `check_scenario`.
            num_train: training examples of its whole dataset; None if that is not known.
            here: whether the dataset can be loaded.
        """
        yield from self._canaries(config, num_train, here)
        for place, part in enumerate(config.defense):
            if part.role != "local":
                continue
            content = config.model_dump(mode="json", include={"dataset", "partition", "federation"})
            # But for the seed: a hundred of them are one mistake.
            setting = json.dumps([content, part.model_dump(mode="json")])
            if setting in self._refused:
                continue
            try:
                problem = self._problem(config, place, setting, num_train, here)
            except PartitionError as error:
                problem = ("partition",), str(error)
            if problem is not None:
                self._refused.add(setting)
                yield problem

    def _canaries(self, config: CellConfig, num_train: int | None, here: bool) -> Iterator[Problem]:
        """Why the canaries of a cell find no room among its clients' examples."""
        canaries = None if config.audit is None else config.audit.canaries
        if canaries is None:
            return
        try:
            sizes = self._sizes_of(config, num_train, here)
        except PartitionError:
            return  # which is somebody else's to say
        message = None if sizes is None else canaries.no_room(sizes)
        if message is not None and message not in self._refused:
            self._refused.add(message)
            yield ("audit", "canaries", "count"), message

    def _problem(
        self, config: CellConfig, place: int, setting: str, num_train: int | None, here: bool
    ) -> Problem | None:
        sizes = self._sizes_of(config, num_train, here)
        if sizes is None:
            return None
        try:
            algorithm, defense = built(config, place)
            alone = defense.budget is None
            if alone:
                sizes = tuple({min(sizes), max(sizes)})
            question = json.dumps([setting, sizes, None if alone else config.seed])
            if question in self._asked:
                return None
            self._asked.add(question)
            private, account = private_run(defense, algorithm, sizes, config.federation.rounds)
            over = not alone and account.ends(_first_round(config, private))
            return (("defense", place), UNPAID) if over else None
        except FAILURES as error:
            return ("defense", place), " ".join(str(error).split())

    def _sizes_of(self, config: CellConfig, num_train: int | None, here: bool) -> tuple[int, ...] | None:
        content = config.model_dump(mode="json", include={"dataset", "partition"})
        server = config.federation.server_data
        shared = json.dumps([content, config.data_seed, None if server is None else server.model_dump()])
        shared += " pooled" * config.pooled
        if shared not in self._sizes:
            self._sizes[shared] = client_sizes(config, num_train, here=here)
        return self._sizes[shared]


def built(config: CellConfig, place: int) -> tuple[Algorithm, LocalDefense]:
    """A cell's algorithm, and the defense at a place of its list."""
    part = config.defense[place]
    return make_algorithm(config.federation), registry.load("defense", part.name)(**part.options)


def _first_round(config: CellConfig, algorithm: UpdateAlgorithm) -> list[int]:
    """The clients that the server would hear of first."""
    return algorithm.heard(drawn_clients(config, 1) or [], 1, Streams(config.seed))
