"""Local training of a whole cohort: chooses the engine, bounds memory, uses the cores.

A cohort is cut into chunks. On a GPU a chunk is as many clients as fit; on a CPU it is as many as keep
their activations in the cache, and the chunks are shared out to threads that each run single-threaded
operations: small operations gain little from two threads inside, independent clients gain everything.
"""

import copy
import os
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.engine import memory
from fedsec.engine.batch_norm import check_batch, check_layers, smallest_batch
from fedsec.engine.batches import BatchPlan
from fedsec.engine.correction import Correction
from fedsec.engine.cuda_graphs import CudaGraphs, Recorder
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.loop import MICROBATCH, LoopWorker
from fedsec.engine.messages import LocalResult, Start, Teacher
from fedsec.engine.parameters import ParameterLayout, StatisticsLayout
from fedsec.engine.precision import Compute
from fedsec.engine.private_steps import PrivateMethod, check_noise
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.stacked import CohortWorker
from fedsec.errors import InputError
from fedsec.privacy.private_training import GradSampleMode, PrivateTraining
from fedsec.tasks import Classification, Task

EngineName = Literal["auto", "vectorized", "loop"]
CPU_CHUNK_BYTES = 12 * 2**20
"""Working set of one CPU chunk. Measured with the CNN at batch 20: best from 8 to 24 MiB (7 clients), and at batch 300
(one client alone) the plain loop wins, to which a chunk of one falls back."""
CUDA_STACKED_PARAMETERS = 1_000_000
"""Where `auto` stops stacking models on a GPU: larger ones fill it alone, and graphs spare the loop its launches. An
estimate, not measured."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class CohortTrainer:
    """Trains cohorts on resident data.

    Args:
        module: the architecture (its weights do not matter).
        data: the federation's resident data.
        engine: `vectorized`, `loop`, or `auto`: vectorized where `vmap` can run the model and at least
            two clients fit into a chunk (on a GPU: and it has less than a million parameters), otherwise loop.
        threads: CPU threads to use; results are bit-identical for the same number.
        memory_gib: memory for one chunk; by default half of the free memory on a GPU, and what keeps to
            the cache on a CPU.
        cumulative: let running statistics be the plain average over a client's batches since it started the round,
            instead of moving from what it received by the layers' momentum.
        compute: precision, memory format and CUDA graphs.
        task: what clients learn; by default classification.

    Attributes:
        compute: the same, with its memory format decided.
        used: how the last cohort was trained.
        reason: why not otherwise, where that was asked for or to be expected.

    Raises:
        InputError: the model cannot be federated (dropout, several dtypes), or `vectorized` or `channels_last` was
            asked for and the model cannot be run so.
    """

    def __init__(
        self,
        module: nn.Module,
        data: ResidentData,
        *,
        engine: EngineName = "auto",
        threads: int = 1,
        memory_gib: float | None = None,
        cumulative: bool = False,
        compute: Compute | None = None,
        task: Task | None = None,
    ) -> None:
        self.module, self.data, self.engine, self.threads = module, data, engine, max(1, threads)
        self._asked: EngineName = engine
        self.task = task or Classification()
        self.layout, self.statistics, self.cumulative = (
            ParameterLayout.of(module),
            StatisticsLayout.of(module),
            cumulative,
        )
        random = [n for n, m in module.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]
        if random:
            raise InputError(
                f"the model draws random numbers while it trains ({', '.join(random[:3])}), which could not be "
                "reproduced or resumed; set its dropout to 0"
            )
        check_layers(module)
        self.compute, self._smallest = self._resolved(compute or Compute())
        self.memory_bytes = None if memory_gib is None else int(memory_gib * 2**30)
        self.used, self._problem = "", ""
        self._budget = self._plan_memory()
        cuda = data.device.type == "cuda"
        # Stacked batch normalization reads its activations twice: on a CPU a loop was 1.3 to 1.8 times as fast.
        slow = self.layout.size >= CUDA_STACKED_PARAMETERS if cuda else bool(self.statistics.size)
        if engine == "auto" and (slow or 2 * self._fixed_bytes > self._budget):
            self.engine = "loop"  # the second: not even two models fit, whatever their batches
        if self.engine != "loop":
            problem = self._why_not_vectorized()
            if problem and engine == "vectorized":
                raise InputError(f"engine: the model cannot be vectorized ({problem}); use engine: loop")
            if problem:
                self.engine, self._problem = "loop", problem
        self._bytes_per_example = memory.activation_bytes(module, data)
        self._checked: set[Hashable] = set()
        self._methods: dict[GradSampleMode, PrivateMethod] = {}
        self._private_notes: list[str] = []
        self._loops: SimpleQueue[LoopWorker] = SimpleQueue()
        self._cohorts: SimpleQueue[CohortWorker] = SimpleQueue()
        self._workers: list[LoopWorker] = []
        for _ in range(self.threads if data.device.type == "cpu" else 1):
            recorder = self._recorder(data.device)
            worker = LoopWorker(
                module, data, cumulative=cumulative, compute=self.compute, recorder=recorder, task=self.task
            )
            self._workers.append(worker)
            self._loops.put(worker)
            if self.engine != "loop":
                self._cohorts.put(
                    CohortWorker(module, data, cumulative=cumulative, compute=self.compute, task=self.task)
                )

    @property
    def reason(self) -> str:
        """Why the cohort was not trained otherwise; empty if there is nothing to say."""
        notes = [self._problem, self.compute.note(self.data.device)]
        if self.used.startswith("vectorized") and self.compute.channels_last:
            notes.append("stacked models are laid out contiguously")
        notes += self._private_notes
        problems = {worker.problem for worker in self._workers} - {""}
        notes += [f"no CUDA graphs: {problem}" for problem in sorted(problems)]
        return "; ".join(note for note in notes if note)

    def start(self, module: nn.Module) -> Start:
        """A module's parameters and running statistics, as clients receive them."""
        device = self.data.device
        return Start(self.layout.flatten(module).to(device), self.statistics.flatten(module).to(device))

    def train(
        self,
        start: Start,
        plans: Sequence[BatchPlan],
        local: LocalTraining,
        teacher: Teacher | None = None,
        correction: Correction | None = None,
    ) -> LocalResult:
        """Train a cohort, one row a client, in the order of `plans`.

        Args:
            start: what all clients, or each of them, start from.
            plans: each client's batches.
            local: what clients do with them.
            teacher: logits to distill from beside the labels.
            correction: joins every step's gradient; its rows are in the order of `plans`. None for none.

        Raises:
            InputError: the correction is of other clients or another model; a step needs more memory than there is; or
                private training of a model that allows none, in the vectorized engine, or with plans that are not made
                for it.
        """
        method = self._privately(local.private, plans)
        correction = correction or Correction()
        correction.check(len(plans), self.layout.size)
        size = self.chunk_size(plans)
        check_batch(min(int(plan.sizes.min()) for plan in plans), self._smallest)
        self._check_memory(max(plan.examples.shape[1] for plan in plans), len(plans), local, correction)
        fresh = start
        if self.cumulative:
            fresh = Start(start.parameters, self.statistics.fresh(start.statistics))
        if size == 1:
            updates = start.parameters.new_empty(len(plans), self.layout.size)

            def alone(worker: LoopWorker, place: int) -> Tensor:
                own = correction.rows([place])
                _, statistics = worker.train(
                    *fresh.of(place), plans[place], local, teacher, own, method=method, out=updates[place]
                )
                return statistics

            statistics = torch.stack(self._parallel(self._loops, alone, range(len(plans))))
            graphs = "CUDA graphs" if all(worker.recording for worker in self._workers) else ""
            how = graphs if method is None else f"private steps by {method.way.words}"
            self._say("loop", how, "channels_last" if self.compute.channels_last else "")
            return LocalResult(updates, statistics, np.array([int(plan.sizes.sum()) for plan in plans]))

        def together(worker: CohortWorker, places: range) -> LocalResult:
            chosen = [plans[place] for place in places]
            return worker.train(fresh.rows(places), chosen, local, teacher, correction.rows(places))

        self._say("vectorized", f"{size} clients at once")
        chunks = [range(len(plans))[i : i + size] for i in range(0, len(plans), size)]
        return _joined(self._parallel(self._cohorts, together, chunks))

    def gradients(self, start: Start, clients: Sequence[int]) -> LocalResult:
        """Full-batch gradients at `start`, one row a client."""
        self._say("loop", "full-batch gradients")
        examples = [torch.from_numpy(self.data.clients[client]).to(self.data.device) for client in clients]
        sizes = self.data.sizes(clients).tolist()
        check_batch(min(sizes), self._smallest)
        at_once = max(sizes) if self.statistics.size else min(max(sizes), MICROBATCH)
        self._check_memory(at_once, len(clients), None)

        def one(worker: LoopWorker, place: int) -> tuple[Tensor, Tensor]:
            return worker.gradient(*start.of(place), examples[place])

        rows = self._parallel(self._loops, one, range(len(examples)))
        statistics = torch.stack([row for _, row in rows])
        return LocalResult(torch.stack([row for row, _ in rows]), statistics, self.data.sizes(clients))

    def private_gradients(self, start: Start, plans: Sequence[BatchPlan], private: PrivateTraining) -> LocalResult:
        """Clipped and noisy gradients at `start` of the plans' one batch each, one row a client.

        Raises:
            InputError: see `train`.
        """
        method = self._privately(private, plans)
        assert method is not None
        self._say("loop", "full-batch gradients", f"private by {method.way.words}")

        def one(worker: LoopWorker, plan: BatchPlan) -> tuple[Tensor, Tensor]:
            return worker.private_gradient(start.parameters, start.statistics, plan, private, method)

        rows = self._parallel(self._loops, one, plans)
        statistics = torch.stack([row for _, row in rows])
        sizes = np.array([int(plan.sizes.sum()) for plan in plans])
        return LocalResult(torch.stack([row for row, _ in rows]), statistics, sizes)

    def private_method(self, mode: GradSampleMode = "auto") -> PrivateMethod:
        """How private training forms its gradients; decided once. Ask before a run to have problems told early.

        Raises:
            InputError: the model cannot be trained privately, or not in this mode.
        """
        if mode not in self._methods:
            with self.compute.arithmetic(self.data.device):
                self._methods[mode] = PrivateMethod.of(
                    self.module, self.data, self.compute, mode, self._bytes_per_example, self.task
                )
        return self._methods[mode]

    def _privately(self, private: PrivateTraining | None, plans: Sequence[BatchPlan]) -> PrivateMethod | None:
        """The method for private training, and the guards around it."""
        self._private_notes = []
        noisy = [plan.noise is not None for plan in plans]
        if private is None:
            if any(noisy):
                raise InputError("these plans are made for private training; expected LocalTraining with private")
            return None
        if self._asked == "vectorized":
            raise InputError(
                "engine: private training takes its clients one after another, since per-example gradients fill the "
                "vectorized engine; expected auto or loop"
            )
        if not all(noisy):
            raise InputError("private training needs Poisson samples and noise; these plans have none")
        check_noise(plans)
        method = self.private_method(private.grad_sample_mode)
        if self.engine != "loop":
            self._private_notes.append("not vectorized: private training needs per-example gradients")
        if self.data.device.type == "cuda" and self.compute.cuda_graphs:
            self._private_notes.append("no CUDA graphs: private batches vary in size")
        if method.way.reason:
            self._private_notes.append(method.way.reason)
        return method

    def recalibrated(
        self, parameters: Float[Tensor, "parameters"], clients: Sequence[int]
    ) -> Float[Tensor, "clients statistics"]:
        """Running statistics that each client's images give the same parameters, without training."""
        examples = [torch.from_numpy(self.data.clients[client]).to(self.data.device) for client in clients]
        return torch.stack(self._parallel(self._loops, lambda w, part: w.recalibrate(parameters, part), examples))

    def chunk_size(self, plans: Sequence[BatchPlan]) -> int:
        """How many of these clients train at once; 1 means the loop engine."""
        if self.engine == "loop" or any(plan.noise is not None for plan in plans):
            return 1
        batch: int = max(plan.examples.shape[1] for plan in plans)
        per_client = 2 * batch * self._bytes_per_example + self._fixed_bytes
        fit = max(1, self._budget // per_client)
        if self.engine == "vectorized":
            fit = max(2, fit)
        threads = self.threads if self.data.device.type == "cpu" else 1
        turns = -(-len(plans) // (fit * threads))  # every thread gets as many chunks as the others
        return max(1, -(-len(plans) // (turns * threads)))

    def _say(self, *words: str) -> None:
        precision = "" if self.compute.precision == "fp32" else self.compute.precision
        self.used = ", ".join(word for word in (*words, precision) if word)

    def _recorder(self, device: torch.device) -> Recorder | None:
        """What records local steps, where that pays: a CPU has no launches to spare."""
        return CudaGraphs(device) if device.type == "cuda" and self.compute.cuda_graphs else None

    def _resolved(self, compute: Compute) -> tuple[Compute, int]:
        """Decide the memory format and learn the smallest batch, with two images of the first client."""
        images, _ = self.data.batch(torch.from_numpy(self.data.clients[0][:1]).to(self.data.device).repeat(2))
        module = copy.deepcopy(self.module).to(self.data.device)
        return compute.resolved(self.module, images), smallest_batch(module, images)

    def _check_memory(
        self, batch: int, clients: int, local: LocalTraining | None, correction: Correction | None = None
    ) -> None:
        """Refuse, before the first of its kind is computed, what cannot fit.

        Args:
            batch: the largest.
            clients: whose updates are collected.
            local: what they do; None for a gradient alone.
            correction: of their gradients.
        """
        kind = (batch, clients, local, None if correction is None else correction.vectors)
        if kind in self._checked:
            return
        example = self._bytes_per_example // (2 if self.compute.precision == "bf16" else 1)
        training, rows = local or LocalTraining(steps=1, batch_size=1), clients
        if training.private is not None:
            method = self._methods[training.private.grad_sample_mode]
            # The noise, drawn and in the worker's order, and one more sum beside that of the part before.
            example, rows, batch = method.example, rows + 3, min(batch, method.microbatch)
        step = memory.StepMemory.of(self.layout.size, training, example, correction, rows=rows)
        step.check(batch, self.data.device, memory.free_bytes(self.data.device))
        self._checked.add(kind)

    @property
    def _fixed_bytes(self) -> int:
        """What a stacked client takes whatever its batches: parameters, gradient and the optimizer's two."""
        return 16 * self.layout.size

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
        with self.compute.arithmetic(self.data.device):
            return self._spread(workers, work, items)

    def _spread(
        self, workers: "SimpleQueue[Any]", work: Callable[[Any, Item], Result], items: Sequence[Item]
    ) -> list[Result]:
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
            worker = CohortWorker(self.module, self.data, compute=self.compute, task=self.task)
            with self.compute.arithmetic(self.data.device):
                worker.train(self.start(self.module), [plan, plan], local)
        except Exception as error:  # whatever a user's module does under vmap, the loop may still run it
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return ""


def _joined(parts: Sequence[LocalResult]) -> LocalResult:
    """The results of several chunks as one."""
    return LocalResult(
        torch.cat([part.updates for part in parts]),
        torch.cat([part.statistics for part in parts]),
        np.concatenate([part.examples for part in parts]),
    )


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
