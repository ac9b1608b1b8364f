"""Which of a dataset's examples each client of a cell holds."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from fedsec.data import Dataset, load
from fedsec.data.partitions import Pachinko, Partition, quantile_strata
from fedsec.errors import PartitionError
from fedsec.federation.personal.held_out import hold_out
from fedsec.federation.server_data import server_examples, without
from fedsec.plugins import registry
from fedsec.scenario import CellConfig, DatasetConfig
from fedsec.seeds import Streams
from fedsec.tasks import Strata, Task


def dataset_of(config: CellConfig) -> Dataset:
    """A cell's dataset, kept between cells of one process."""
    return _dataset(config.dataset.model_dump_json(), config.data_seed)


def forget_datasets() -> None:
    """Give back the memory of the datasets that are kept."""
    _dataset.cache_clear()
    _whole_dataset.cache_clear()


@lru_cache(maxsize=2)
def _dataset(config: str, seed: int) -> Dataset:
    """The dataset; `seed` only matters where a subset is drawn."""
    settings = DatasetConfig.model_validate_json(config)
    options = json.dumps(settings.options, sort_keys=True)
    dataset = _whole_dataset(settings.name, settings.root, settings.download, options)
    if settings.train_size is None and settings.test_size is None:
        return dataset
    return dataset.subset(settings.train_size, settings.test_size, Streams(seed).numpy("subset"))


@lru_cache(maxsize=1)
def _whole_dataset(name: str, root: Path | None, download: bool, options: str) -> Dataset:
    return load(name, root, download=download, options=json.loads(options))


def strata_of(config: CellConfig, dataset: Dataset, task: Task) -> Strata | None:
    """What examples can be told apart by: whom they come from, the task's groups, or quantiles of their targets.

    Raises:
        PartitionError: the partition gives clients whole groups, and nobody knows whom the examples come from.
    """
    if not config.pooled and _rule(config).needs_groups:
        groups = dataset.train.groups
        if groups is None:
            raise PartitionError(
                f"{config.partition.name}: {dataset.name} does not tell whom an example comes from; expected data that "
                "do, such as shakespeare"
            )
        return Strata(groups.numpy(), len(dataset.groups))
    quantiles = config.partition.quantiles
    if quantiles is None:
        strata = task.strata(dataset.train.targets)
        return None if strata is None else replace(strata, superclasses=dataset.superclasses)
    return Strata(quantile_strata(dataset.train.targets.numpy(), quantiles), quantiles)


def server_share_of(config: CellConfig, strata: Strata | None, num_examples: int) -> np.ndarray:
    """The numbers of the examples that the server has for itself; none for most.

    Args:
        config: the cell's.
        strata: of the examples; None where nobody looks at them.
        num_examples: number of examples.

    Raises:
        InputError: so many there are not.
    """
    settings = config.federation.server_data
    if settings is None:
        return np.zeros(0, np.int64)
    rng = Streams(config.data_seed).numpy("server", "examples")
    classes = None if strata is None else strata.of
    return server_examples(settings.examples, num_examples, rng, bias=settings.bias, classes=classes)


def shares_of(config: CellConfig, strata: Strata | None, num_examples: int) -> list[np.ndarray]:
    """The numbers of each client's training examples: its part of the dataset, but for what others are there for.

    The server may have some for itself, and clients may hold some out, see `held_out_of`.

    Args:
        config: the cell's.
        strata: of the examples; None for a partition that does not look at them.
        num_examples: number of examples.

    Raises:
        PartitionError: the partition cannot be made.
    """
    return _trained_and_tested(config, strata, num_examples)[0]


def held_out_of(config: CellConfig, strata: Strata | None, num_examples: int) -> list[np.ndarray]:
    """The numbers of the examples that each client holds out of its share to be tested on; none for most.

    Args:
        config: the cell's.
        strata: as for `shares_of`.
        num_examples: number of examples.
    """
    return _trained_and_tested(config, strata, num_examples)[1]


def _trained_and_tested(
    config: CellConfig, strata: Strata | None, num_examples: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if config.pooled:
        return [np.arange(num_examples)], []
    rule = _rule(config)
    if isinstance(rule, Pachinko) and strata is not None:
        rule = rule.of_tree(strata.superclasses)
    shares = rule(
        None if strata is None else strata.of,
        config.partition.clients,
        num_classes=None if strata is None else strata.count,
        num_examples=num_examples,
        rng=Streams(config.data_seed).numpy("partition"),
    )
    shares = without(shares, server_share_of(config, strata, num_examples))
    tests = config.federation.client_test
    return (shares, []) if tests is None else hold_out(shares, tests.fraction, Streams(config.data_seed))


def client_sizes(config: CellConfig, num_train: int | None, *, here: bool) -> tuple[int, ...] | None:
    """How many examples each client has.

    A partition that does not look at classes is drawn from the number of examples alone; others need the dataset, which
    is loaded for it.

    Args:
        config: the cell's.
        num_train: training examples of the whole dataset; None if that is not known.
        here: whether the dataset can be loaded.

    Returns:
        A number a client; None where only a dataset that is not here could tell.

    Raises:
        PartitionError: the partition cannot be made.
    """
    examples = config.dataset.train_size or num_train
    strata = None
    server = config.federation.server_data
    looks = (
        _rule(config).needs_classes or _rule(config).needs_groups or (server is not None and server.bias is not None)
    )
    if not config.pooled and looks:
        if not here:
            return None
        dataset = dataset_of(config)
        task: Task = registry.load("task", dataset.task).of_data(dataset.num_classes)
        strata, examples = strata_of(config, dataset, task), len(dataset.train)
    return None if examples is None else tuple(map(len, shares_of(config, strata, examples)))


def _rule(config: CellConfig) -> Partition:
    partition: Partition = registry.load("partition", config.partition.name)(**config.partition.options)
    return partition
