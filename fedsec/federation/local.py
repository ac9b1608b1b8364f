"""Local training of a whole cohort: chooses the engine, bounds memory, uses the cores.

A cohort is cut into chunks. On a GPU a chunk is as many clients as fit; on a CPU it is as many as keep
their activations in the cache, and the chunks are shared out to threads that each run single-threaded
operations: small operations gain little from two threads inside, independent clients gain everything.
"""

import copy
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.federation.batches import BatchPlan, LocalTraining
from fedsec.federation.loop import LoopWorker
from fedsec.federation.parameters import ParameterLayout
from fedsec.federation.resident import ResidentData
from fedsec.federation.vectorized import CohortWorker

EngineName = Literal["auto", "vectorized", "loop"]
CPU_CHUNK_BYTES = 12 * 2**20
"""Working set of one CPU chunk. Measured with the CNN at batch 20: best from 8 to 24 MiB (7 clients), and at batch 300
(one client alone) the plain loop wins, to which a chunk of one falls back."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class CohortTrainer:
    """Trains cohorts on resident data.

    Args:
        module: the architecture (its weights do not matter).
        data: the federation's resident data.
        engine: `vectorized`, `loop`, or `auto`: vectorized where `vmap` can run the model and at least
            two clients fit into a chunk, otherwise loop.
        threads: CPU threads to use; results are bit-identical for the same number.
        memory_gib: memory for one chunk; by default half of the free memory on a GPU, and what keeps to
            the cache on a CPU.

    Raises:
        InputError: the model cannot be federated (dropout, running statistics), or `vectorized` was asked for
            and it cannot be vectorized.
    """

    def __init__(
        self,
        module: nn.Module,
        data: ResidentData,
        *,
        engine: EngineName = "auto",
        threads: int = 1,
        memory_gib: float | None = None,
    ) -> None:
        self.module, self.data, self.engine, self.threads = module, data, engine, max(1, threads)
        self.layout = ParameterLayout.of(module)
        random = [n for n, m in module.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
        if random:
            raise InputError(
                f"the model draws random numbers while it trains ({', '.join(random[:3])}), which could not be "
                "reproduced or resumed; set its dropout to 0"
            )
        self.memory_bytes = None if memory_gib is None else int(memory_gib * 2**30)
        self.reason = ""
        self.used = ""
        if engine != "loop":
            problem = self._why_not_vectorized()
            if problem and engine == "vectorized":
                raise InputError(f"engine: the model cannot be vectorized ({problem}); use engine: loop")
            if problem:
                self.engine, self.reason = "loop", problem
        self._bytes_per_example = _activation_bytes(module, data) if self.engine != "loop" else 0
        self._budget = self._plan_memory()
        self._loops: SimpleQueue[LoopWorker] = SimpleQueue()
        self._cohorts: SimpleQueue[CohortWorker] = SimpleQueue()
        for _ in range(self.threads if data.device.type == "cpu" else 1):
            self._loops.put(LoopWorker(module, data))
            if self.engine != "loop":
                self._cohorts.put(CohortWorker(module, data))

    def train(
        self, start: Float[Tensor, "parameters"], plans: Sequence[BatchPlan], local: LocalTraining
    ) -> Float[Tensor, "clients parameters"]:
        """Updates (trained parameters minus `start`) of a cohort, one row a client, in the order of `plans`."""
        size = self.chunk_size(plans)
        self.used = "loop" if size == 1 else f"vectorized, {size} clients at once"
        if size == 1:
            return torch.stack(self._parallel(self._loops, lambda w, plan: w.train(start, plan, local), plans))
        chunks = [plans[i : i + size] for i in range(0, len(plans), size)]
        return torch.cat(self._parallel(self._cohorts, lambda w, chunk: w.train(start, chunk, local), chunks))

    def gradients(
        self, start: Float[Tensor, "parameters"], clients: Sequence[int]
    ) -> Float[Tensor, "clients parameters"]:
        """Full-batch gradients at `start`, one row a client."""
        self.used = "loop, full-batch gradients"
        examples = [torch.from_numpy(self.data.clients[client]).to(self.data.device) for client in clients]
        return torch.stack(self._parallel(self._loops, lambda w, part: w.gradient(start, part), examples))

    def chunk_size(self, plans: Sequence[BatchPlan]) -> int:
        """How many of these clients train at once; 1 means the loop engine."""
        if self.engine == "loop":
            return 1
        batch: int = max(plan.examples.shape[1] for plan in plans)
        per_client = 2 * batch * self._bytes_per_example + 16 * self.layout.size
        fit = max(1, self._budget // per_client)
        if self.engine == "vectorized":
            fit = max(2, fit)
        threads = self.threads if self.data.device.type == "cpu" else 1
        turns = -(-len(plans) // (fit * threads))  # every thread gets as many chunks as the others
        return max(1, -(-len(plans) // (turns * threads)))

    def _plan_memory(self) -> int:
        """Bytes for one chunk, decided once, so that every round is cut alike."""
        if self.memory_bytes is not None:
            return self.memory_bytes
        if self.data.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.data.device)
            return int(free) // 2
        return CPU_CHUNK_BYTES

    def _parallel(
        self, workers: "SimpleQueue[Any]", work: Callable[[Any, Item], Result], items: Sequence[Item]
    ) -> list[Result]:
        """Run `work(worker, item)` for every item, each worker on a thread of its own, results in order."""
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

    def _why_not_vectorized(self) -> str:
        """Empty if `vmap` can train the model, else the reason it cannot."""
        plan = BatchPlan(np.repeat(self.data.clients[0][:1], 2)[None], np.array([2]))
        local = LocalTraining(steps=1, batch_size=1, lr=1.0)
        try:
            CohortWorker(self.module, self.data).train(
                self.layout.flatten(self.module).to(self.data.device), [plan, plan], local
            )
        except Exception as error:  # whatever a user's module does under vmap, the loop may still run it
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return ""


def _activation_bytes(module: nn.Module, data: ResidentData) -> int:
    """Bytes that autograd keeps for one example's backward pass, measured on a batch of two."""
    module = copy.deepcopy(module).to(data.device)
    parameters = {p.data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = max(kept.get(tensor.data_ptr(), 0), tensor.numel() * tensor.element_size())
        return tensor

    images, _ = data.batch(torch.from_numpy(data.clients[0][:1]).to(data.device).repeat(2))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(images)
    del output
    return max(1, sum(kept.values()) // 2)


def tune_allocator() -> None:
    """Keep freed memory in the process instead of giving it back to Linux after every step.

    Training allocates and frees the same large activations each step; glibc would unmap and fault them
    in again every time, which costs a fifth of a vectorized step. No effect elsewhere than on glibc.
    """
    import ctypes

    if os.name != "posix":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_top_pad, m_mmap_threshold = -1, -2, -3
        mallopt(m_mmap_threshold, 32 * 2**20)
        mallopt(m_trim_threshold, 2**30)
        mallopt(m_top_pad, 64 * 2**20)
