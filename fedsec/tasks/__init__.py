"""What models are trained to do, one task a file: engines, evaluation and partitions take it from here."""

from fedsec.tasks.classification import Classification
from fedsec.tasks.next_token import NextToken
from fedsec.tasks.regression import Regression
from fedsec.tasks.task import Strata, Task

__all__ = ["TASKS", "Classification", "NextToken", "Regression", "Strata", "Task"]

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "regression": Regression,
    "next_token": NextToken,
}
