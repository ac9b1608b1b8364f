"""Work shared out to threads, each with a worker of its own, results in order."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import torch

Worker = TypeVar("Worker")
Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    workers: "SimpleQueue[Worker]", work: Callable[[Worker, Item], Result], items: Sequence[Item]
) -> list[Result]:
    """Run `work(worker, item)` for every item.

    Small operations gain little from two threads inside, independent ones gain everything: while several threads run,
    each computes single-threaded.

    Args:
        workers: idle ones, as many as threads may run; they come back.
        work: must not touch what other items touch.
        items: in any number.
    """
    if workers.qsize() == 1 or len(items) == 1:
        worker = workers.get()
        try:
            return [work(worker, item) for item in items]
        finally:
            workers.put(worker)

    def task(item: Item) -> Result:
        worker = workers.get()
        try:
            return work(worker, item)
        finally:
            workers.put(worker)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers.qsize()) as pool:
            return list(pool.map(task, items))
    finally:
        torch.set_num_threads(before)
