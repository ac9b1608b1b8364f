"""Datasets as resident uint8 tensors, and partitions of them over clients.

Importing this package is cheap: torch and numpy are loaded with the first name that needs them, so
that the command line can list and locate datasets without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedsec.data.datasets import DATASETS, check, load, status
from fedsec.data.normalization import Normalization, normalization
from fedsec.data.sources.source import DatasetStatus, Source
from fedsec.data.survey import Survey

if TYPE_CHECKING:
    from fedsec.data.dataset import Dataset, Split
    from fedsec.data.partitions import PARTITIONS, Partition, class_counts

__all__ = [
    "DATASETS",
    "PARTITIONS",
    "Dataset",
    "DatasetStatus",
    "Normalization",
    "Partition",
    "Source",
    "Split",
    "Survey",
    "check",
    "class_counts",
    "load",
    "normalization",
    "status",
]

_LAZY = {
    "Dataset": "fedsec.data.dataset",
    "Split": "fedsec.data.dataset",
    "PARTITIONS": "fedsec.data.partitions",
    "Partition": "fedsec.data.partitions",
    "class_counts": "fedsec.data.partitions",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
