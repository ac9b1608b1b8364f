"""What models are trained to do, one task a file: engines, evaluation and partitions take it from here."""

from fedsec.tasks.classification import Classification
from fedsec.tasks.regression import Regression
from fedsec.tasks.task import Strata, Task

__all__ = ["TASKS", "Classification", "Regression", "Strata", "Task"]

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "regression": Regression,
}
