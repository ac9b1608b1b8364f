"""Functions that run on a cluster and answer piece by piece; a lost worker is told from a wrong answer."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fedsec.cluster.connection import require_ray
from fedsec.cluster.nodes import Node, alive_nodes
from fedsec.errors import size_of


@dataclass(frozen=True)
class Demand:
    """What a function takes of the node that it runs on.

    Args:
        cpus: cores.
        gpus: GPUs, or a part of one.
        memory: bytes; a reservation that Ray keeps to, not a limit.
    """

    cpus: float = 0
    gpus: float = 0
    memory: int = 0

    def places(self, node: Node) -> int:
        """How many of the kind fit on an idle node."""
        pairs = (self.cpus, node.cpus), (self.gpus, node.gpus), (self.memory, node.memory)
        return min((math.floor(has / needs + 1e-9) for needs, has in pairs if needs), default=1)

    def __str__(self) -> str:
        """For messages."""
        parts = [f"{self.cpus:g} CPU{'s' * (self.cpus != 1)}"] if self.cpus else []
        parts += [f"{self.gpus:g} GPU{'s' * (self.gpus != 1)}"] if self.gpus else []
        parts += [f"{size_of(self.memory)} of memory"] if self.memory else []
        return " and ".join(parts) or "nothing"


class LostTaskError(Exception):
    """A worker ended before its function did; another one may do better.

    Args:
        reason: one line.
        out_of_memory: whether Ray ended it since its node had no memory left.
    """

    def __init__(self, reason: str, *, out_of_memory: bool = False) -> None:
        super().__init__(reason)
        self.out_of_memory = out_of_memory


class WrongAnswerError(Exception):
    """A function raised something on its node, or could not begin there.

    Args:
        reason: one line.
        trace: all that is known.
    """

    def __init__(self, reason: str, trace: str) -> None:
        super().__init__(reason)
        self.trace = trace


class TaskStreams(Protocol):
    """What runs generator functions somewhere; Ray does, and tests have one that needs no Ray."""

    def nodes(self) -> list[Node]:
        """All nodes that are alive."""
        ...

    def start(
        self,
        function: Callable[..., Iterator[Any]],
        *arguments: Any,
        demand: Demand,
        node: Node | None = None,
        by_value: bool = False,
    ) -> Any:
        """Run a function as soon as its demand can be met; returns its stream.

        Args:
            function: of a module that can be imported on the node.
            arguments: of the function.
            demand: what it takes.
            node: the only one on which it may run.
            by_value: send the function itself: its module may be another one there, or none.
        """
        ...

    def wait(self, streams: Sequence[Any], seconds: float) -> list[Any]:
        """Those of which something can be taken now, after waiting for the first one at most so long."""
        ...

    def take(self, stream: Any) -> Any:
        """The next piece of an answer; None when there is none any more.

        Raises:
            LostTaskError: the worker is gone.
            WrongAnswerError: the function raised an exception.
        """
        ...

    def put(self, content: bytes) -> Any:
        """Hand content over once, to be read on any node by `get`."""
        ...

    def cancel(self, streams: Sequence[Any]) -> None:
        """End the functions of these streams, and their processes, at once."""
        ...


class RayStreams:
    """`TaskStreams` on the Ray cluster that this process is connected to; Ray itself tries nothing twice."""

    def nodes(self) -> list[Node]:
        """See `TaskStreams`."""
        return alive_nodes()

    def start(
        self,
        function: Callable[..., Iterator[Any]],
        *arguments: Any,
        demand: Demand,
        node: Node | None = None,
        by_value: bool = False,
    ) -> Any:
        """See `TaskStreams`."""
        ray = require_ray()
        options: dict[str, Any] = {"num_cpus": demand.cpus, "num_gpus": demand.gpus, "memory": demand.memory or None}
        if node is not None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node.id, soft=False)
        remote = ray.remote(num_returns="streaming", max_retries=0, **options)(function)
        if not by_value:
            return remote.remote(*arguments)
        module = sys.modules[function.__module__]
        ray.cloudpickle.register_pickle_by_value(module)
        try:
            return remote.remote(*arguments)
        finally:
            ray.cloudpickle.unregister_pickle_by_value(module)

    def wait(self, streams: Sequence[Any], seconds: float) -> list[Any]:
        """See `TaskStreams`."""
        ray = require_ray()
        ready, waiting = ray.wait(list(streams), num_returns=1, timeout=seconds)
        if waiting:
            ready += ray.wait(waiting, num_returns=len(waiting), timeout=0)[0]
        return list(ready)

    def take(self, stream: Any) -> Any:
        """See `TaskStreams`."""
        ray = require_ray()
        errors = ray.exceptions
        try:
            return ray.get(next(stream))
        except StopIteration:
            return None
        except errors.OutOfMemoryError as error:
            raise LostTaskError(_first_line(error), out_of_memory=True) from error
        except errors.RayTaskError as error:
            raise WrongAnswerError(_first_line(error.cause), str(error)) from error
        except errors.RuntimeEnvSetupError as error:
            raise WrongAnswerError(_first_line(error), str(error)) from error
        except errors.RayError as error:
            raise LostTaskError(_first_line(error)) from error

    def put(self, content: bytes) -> Any:
        """See `TaskStreams`."""
        return require_ray().put(content)

    def cancel(self, streams: Sequence[Any]) -> None:
        """See `TaskStreams`. Waits a moment for workers to be gone."""
        ray = require_ray()
        for stream in streams:
            ray.cancel(stream, force=True)
        if streams:
            ray.wait([stream.completed() for stream in streams], num_returns=len(streams), timeout=_LEAVE_SECONDS)


_LEAVE_SECONDS = 5.0


def get(reference: Any) -> bytes:
    """What `TaskStreams.put` handed over; called where a function runs."""
    content: bytes = require_ray().get(reference)
    return content


def _first_line(error: BaseException) -> str:
    """What a user can read of an error of Ray's: its first sentence, and no traceback."""
    lines = str(error).strip().splitlines()
    first = lines[0].split(". ")[0].strip(" .") if lines else ""
    return first or type(error).__name__
