"""A worker process: takes tasks as JSON lines on standard input, answers with JSON lines.

A plain child process rather than `multiprocessing`: it never re-imports the caller's script, and when
its parent dies, however suddenly, its input ends and it leaves.
"""

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from fedsec.errors import FedsecError, InputError


def main() -> None:
    """Serve tasks until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    tasks: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=(tasks,), daemon=True).start()

    import torch

    from fedsec.engine.allocator import tune_allocator
    from fedsec.runs.cell import Settings, cell_experiment, run_cell
    from fedsec.scenario import CellConfig

    tune_allocator()

    def send(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")

    kept: dict[str, Any] = {}

    def experiment_of(raw: dict[str, Any], settings: Settings) -> Any:
        """The experiment of a cell, kept while one client of it after another is trained."""
        name = json.dumps(raw, sort_keys=True)
        if name not in kept:
            kept.clear()
            kept[name] = cell_experiment(CellConfig.model_validate(raw), settings)
        return kept[name]

    while True:
        task = json.loads(tasks.get())
        settings = Settings(Path(task["root"]), task["device"], task["threads"])
        try:
            config = CellConfig.model_validate(task["config"])
            torch.set_num_threads(settings.threads)
            if task["kind"] == "train":
                federation = experiment_of(task["config"], settings).federation
                federation.local_updates(federation.start([task["client"]]), [task["client"]], 1)
                send(event="done", record=None)
            else:
                record = run_cell(
                    config,
                    task["axes"],
                    settings,
                    lambda n, of, metrics: send(event="round", round=n, rounds=of, metrics=metrics),
                )
                send(event="done", record=record)
        except FedsecError as error:
            send(event="failed", error=str(error), input=isinstance(error, InputError), trace=None)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            send(event="failed", error=text, input=False, trace=traceback.format_exc())


def _read(tasks: "SimpleQueue[str]") -> None:
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
