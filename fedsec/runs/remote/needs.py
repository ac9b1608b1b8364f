"""What a cell takes of the node it runs on, estimated before it starts, so that cells do not overcommit a node."""

import math
from dataclasses import dataclass, field

from fedsec.cluster.streams import Demand
from fedsec.data import check
from fedsec.errors import DataError
from fedsec.runs.space import model_size
from fedsec.runs.tasks import CellTask
from fedsec.scenario import CellConfig

PROCESS_BYTES = 700 * 2**20
"""A worker of Ray's and its child, PyTorch loaded."""
ROW_COPIES = 3
"""Of a round's updates: as trained, as sent, and what a rule makes of them."""
VECTORS = 8
"""Of a model's length that live at once while a client trains: weights, gradient, optimizer, what is sent."""


@dataclass
class Needs:
    """Estimates demands, once for each kind of cell.

    Memory is that of the process, twice that of the dataset, three matrices [clients of a round, parameters], and a
    chunk of the engine's (or `engine.memory_gib`) for each thread. Activations beyond that chunk are not counted.

    Args:
        gpus: of a cell.
        memory_gib: of a cell, in place of the estimate.
    """

    gpus: float = 0
    memory_gib: float | None = None
    _estimates: dict[str, int] = field(default_factory=dict)

    def of(self, task: CellTask) -> Demand:
        """What a task takes."""
        memory = self._memory(task) if self.memory_gib is None else int(self.memory_gib * 2**30)
        return Demand(task.settings.threads, self.gpus, memory)

    def _memory(self, task: CellTask) -> int:
        config = CellConfig.model_validate(task.config)
        key = config.model_dump_json(include={"dataset", "model", "partition", "federation", "engine"})
        if key not in self._estimates:
            self._estimates[key] = estimated_memory(config, task.settings.threads)
        return self._estimates[key]


def estimated_memory(config: CellConfig, threads: int) -> int:
    """Bytes that a cell takes, see `Needs`; of what nobody knows yet, such as data to be downloaded, nothing."""
    from fedsec.engine.memory import CPU_CHUNK_BYTES

    chunk = CPU_CHUNK_BYTES if config.engine.memory_gib is None else int(config.engine.memory_gib * 2**30)
    total = PROCESS_BYTES + chunk * threads
    dataset = config.dataset
    try:
        survey = check(dataset.name, dataset.root, download=dataset.download, options=dataset.options)
    except DataError:  # said elsewhere
        return total
    if survey.source is None:
        return total
    width = 1 if len(survey.input_shape) == 3 else 4  # images are bytes until a batch of them is needed
    total += 2 * (survey.num_train + survey.num_test) * math.prod(survey.input_shape) * width
    numbers = model_size(config, survey.input_shape, survey.num_classes) or 0
    return total + 4 * numbers * (ROW_COPIES * config.cohort + VECTORS * threads)
