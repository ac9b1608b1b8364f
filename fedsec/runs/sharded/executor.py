"""An executor that runs one cell after another, each with its rounds' rows on actors of a Ray cluster."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from fedsec.cluster import Connection, require_ray
from fedsec.cluster.connection import AUTO
from fedsec.errors import InputError
from fedsec.runs.events import Done, Event, Started
from fedsec.runs.local_pool import LocalPool
from fedsec.runs.sharded.room import check_room
from fedsec.runs.tasks import CellTask

MOST_ACTORS = 4096
"""And CPUs of one."""


class ShardedCells:
    """Runs cells whose rounds do not fit one machine, see `fedsec.runs.executor.Executor`.

    A worker process on this machine leads each cell, evaluates its model and writes its files; its clients train, and
    their rows lie, on actors. The numbers, the files and the way to go on after an interrupt are those of a local run.

    Args:
        actors: of each cell.
        address: of the cluster, see `fedsec.cluster.Connection`.
        cpus: of each actor, and its threads; by default as many threads as a cell has in a local run.

    Raises:
        InputError: a number or an address that is none.
    """

    def __init__(self, actors: int, address: str = AUTO, *, cpus: int | None = None) -> None:
        if not 2 <= actors <= MOST_ACTORS:
            raise InputError(f"actors_per_cell must be at least 2 and at most {MOST_ACTORS}, got {actors}")
        if cpus is not None and not 1 <= cpus <= MOST_ACTORS:
            raise InputError(f"cpus_per_cell must be at least 1 and at most {MOST_ACTORS}, got {cpus}")
        self.actors, self.cpus = actors, cpus
        self._connection = Connection(address, cores=os.cpu_count())
        self._pool: LocalPool | None = None
        self._address = ""

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            InputError: there is no such cluster.
        """
        self._connection.__enter__()
        self._address = require_ray().get_runtime_context().gcs_address
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process that leads, its actors with it, and disconnect."""
        if self._pool is not None:
            self._pool.__exit__(kind, error, trace)
        self._connection.__exit__(kind, error, trace)

    def run(self, tasks: Sequence[CellTask]) -> Iterator[tuple[int, Event]]:
        """See `Executor`. Training that one-round cells share is left to the cells, whose actors keep their rows."""
        cells = []
        for index, task in enumerate(tasks):
            if task.kind == "cell":
                cells.append(index)
            else:
                yield index, Started()
                yield index, Done(None)
        if not cells:
            return
        settings = tasks[cells[0]].settings
        settings = replace(
            settings,
            root=settings.root.absolute(),
            threads=self.cpus or settings.threads,
            actors=self.actors,
            ray=self._address,
        )
        check_room(self.actors, settings.threads, gpus=settings.device == "cuda")
        if self._pool is None:
            self._pool = LocalPool(1, settings.threads)
        for place, event in self._pool.run([replace(tasks[index], settings=settings) for index in cells]):
            yield cells[place], event
