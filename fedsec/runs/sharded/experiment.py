"""A cell whose rounds' rows lie on several workers."""

import torch

from fedsec.errors import InputError
from fedsec.federation.row_exchange import RowsElsewhere
from fedsec.federation.sharded_rounds import ShardedRounds, ShardWorkers
from fedsec.federation.updates import Federation
from fedsec.runs.experiment import Experiment, build_experiment
from fedsec.runs.sharded.local_workers import LocalWorkers
from fedsec.runs.sharded.plan import why_not_in_parts
from fedsec.runs.sharded.worker import ShardWorker
from fedsec.runs.tasks import TaskSettings
from fedsec.scenario import CellConfig


def sharded_experiment(config: CellConfig, settings: TaskSettings, *, alone: bool = False) -> Experiment:
    """Build a cell's experiment, its rounds spread over `settings.actors` workers.

    Args:
        config: the resolved configuration.
        settings: where and how.
        alone: train each client by itself, as cells do that could share their training with others.

    Raises:
        InputError: something of the cell needs whole rows; or nodes of the cluster lack something.
    """
    problem = why_not_in_parts(config)
    if settings.record is not None:
        problem = "a recording holds whole rows; expected none"
    if problem:
        raise InputError(f"actors_per_cell: {problem}")
    threads = 1 if alone else settings.threads
    if alone:
        torch.set_num_threads(1)  # as cells that share their training do
    device = torch.device(settings.device)
    experiment = build_experiment(config, device=device, threads=threads, exchange=RowsElsewhere(0))
    federation = experiment.federation
    assert isinstance(federation, Federation)
    content = config.model_dump(mode="json")
    workers: ShardWorkers
    if settings.ray is None:
        workers = LocalWorkers(
            settings.actors, lambda: ShardWorker(content, settings.device, threads, 1 / settings.actors)
        )
    else:
        from fedsec.runs.sharded.ray_workers import RayWorkers

        workers = RayWorkers(settings.actors, content, settings.device, threads, address=settings.ray)
    federation.exchange = ShardedRounds(federation, workers, alone=alone)
    return experiment
