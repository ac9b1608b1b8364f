"""Local training of a whole cohort: chooses the engine, bounds memory, uses the cores.

A cohort is cut into chunks. On a GPU a chunk is as many clients as fit; on a CPU it is as many as keep
their activations in the cache, and the chunks are shared out to threads that each run single-threaded
operations: small operations gain little from two threads inside, independent clients gain everything.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.engine import memory
from fedsec.engine.batch_norm import check_batch, check_layers
from fedsec.engine.batches import BatchPlan
from fedsec.engine.choice import EngineName, choose, why_not_vectorized
from fedsec.engine.correction import Correction
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.loop import MICROBATCH, LoopWorker
from fedsec.engine.loop_workers import LoopWorkers
from fedsec.engine.messages import LocalResult, Start, Teacher
from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.precision import Compute
from fedsec.engine.private_steps import PrivateMethod, check_plans
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.stacked import CohortWorker
from fedsec.engine.threads import spread
from fedsec.engine.trial import Trial
from fedsec.errors import InputError, count_of
from fedsec.privacy.private_training import GradSampleMode, PrivateTraining
from fedsec.randomness import preserved, seeded
from fedsec.tasks import Classification, Task

Item = TypeVar("Item")
Result = TypeVar("Result")


class CohortTrainer:
    """Trains cohorts on resident data.

    Args:
        module: the architecture (its weights do not matter).
        data: the federation's resident data.
        engine: `vectorized`, `loop`, or `auto`: vectorized where `vmap` can run the model and at least
            two clients fit into a chunk (on a GPU: and it replays no steps, and the model has less than a million
            parameters), otherwise loop. A model that draws random numbers, changes buffers, or mixes the examples of a
            batch takes the loop.
        threads: CPU threads to use; results are bit-identical for the same number.
        memory_gib: memory for one chunk; by default half of the free memory on a GPU, and what keeps to
            the cache on a CPU.
        cumulative: let running statistics be the plain average over a client's batches since it started the round,
            instead of moving from what it received by the layers' momentum.
        compute: precision, memory format and CUDA graphs.
        task: what clients learn; by default classification.

    Attributes:
        at_once: how many clients train together, where they are a part of a cohort that is cut so; None: as many as
            `chunk_size` says.
        compute: the same, with its memory format decided.
        layout: of the trainable parameters.
        trial: what one step on a copy of the model told.
        statistics: what training changes beside the parameters.
        used: how the last cohort was trained.
        reason: why not otherwise, where that was asked for or to be expected.

    Raises:
        InputError: the model cannot be federated (several dtypes, state that is no buffer), does not fit the data or
            the task; or `vectorized` or `channels_last` was asked for and the model cannot be run so.
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
        self.module, self.data, self.threads = module, data, max(1, threads)
        self._asked: EngineName = engine
        self.task, self.cumulative = task or Classification(), cumulative
        self.layout = ParameterLayout.of(module)
        check_layers(module)
        self.at_once: int | None = None
        self._memory_gib = memory.checked_gib(memory_gib)
        with preserved(data.device):
            self.compute = self._resolved(compute or Compute())
            self.trial = Trial.of(module, data, self.task, self.compute)
            self.statistics = self.trial.statistics
            self.used = ""
            self._budget = memory.chunk_bytes(self._memory_gib, data.device)  # once, so that every round is cut alike
            room = 2 * self._fixed_bytes <= self._budget
            # Buffers that a module replaces lie elsewhere after each step, and draws must follow each client's stream:
            # neither can be recorded.
            records = self.compute.cuda_graphs and not self.trial.draws and not self.statistics.buffers
            size, stacked = self.layout.size, self._why_not_vectorized
            self.engine, self._problem = choose(engine, self.trial, size, room, data.device, stacked, replays=records)
            self._bytes_per_example = memory.activation_bytes(module, data)
        self._example = self._bytes_per_example // (2 if self.compute.precision == "bf16" else 1)
        self._memory = memory.MemoryGuard(data.device)
        self._methods: dict[GradSampleMode, PrivateMethod] = {}
        self._private_notes: list[str] = []
        # What draws from the process's generators takes turns.
        threads = self.threads if data.device.type == "cpu" and not self.trial.draws else 1
        make = partial(
            LoopWorker,
            module,
            data,
            cumulative=cumulative,
            compute=self.compute,
            task=self.task,
            statistics=self.statistics,
            whole_batches=self.trial.whole_batches,
        )
        self._loops = LoopWorkers(make, data.device, threads=threads, records=records)
        self._cohorts: SimpleQueue[CohortWorker] = SimpleQueue()
        for _ in range(threads if self.engine != "loop" else 0):
            self._cohorts.put(self._cohort_worker())

    @property
    def reason(self) -> str:
        """Why the cohort was not trained otherwise; empty if there is nothing to say."""
        notes = [self._problem, self.compute.note(self.data.device)]
        if self.used.startswith("vectorized") and self.compute.channels_last:
            notes.append("stacked models are laid out contiguously")
        notes += self._private_notes
        notes += [f"no CUDA graphs: {problem}" for problem in sorted(self._loops.problems)]
        return "; ".join(note for note in notes if note)

    def start(self, module: nn.Module) -> Start:
        """A module's parameters, and what training changes beside them, as clients receive them."""
        device = self.data.device
        return Start(self.layout.flatten(module).to(device), self.statistics.flatten(module).to(device))

    def train(
        self,
        start: Start,
        plans: Sequence[BatchPlan],
        local: LocalTraining,
        teacher: Teacher | None = None,
        correction: Correction | None = None,
        momentum: Float[Tensor, "clients parameters"] | None = None,
    ) -> LocalResult:
        """Train a cohort, one row a client, in the order of `plans`.

        Args:
            start: what all clients, or each of them, start from.
            plans: each client's batches.
            local: what clients do with them.
            teacher: logits to distill from beside the labels.
            correction: joins every step's gradient; its rows are in the order of `plans`. None for none.
            momentum: buffers that optimizers begin with, and are left with: written into. None to begin with zeros.

        Raises:
            InputError: the correction is of other clients or another model; a step needs more memory than there is; a
                model that draws random numbers, and plans without a key for them; or private training of a model that
                allows none, in the vectorized engine, or with plans that are not made for it.
        """
        if local.schedule is not None:
            raise InputError("local training: a schedule needs to know which round it is; expected local.in_round(1)")
        method = self._privately(local.private, plans)
        correction = correction or Correction()
        correction.check(len(plans), self.layout.size)
        size = self.chunk_size(plans)
        check_batch(min(int(plan.sizes.min()) for plan in plans), self.trial.smallest_batch)
        self._check_memory(max(plan.examples.shape[1] for plan in plans), len(plans), local, correction)
        fresh = start
        if self.cumulative:
            fresh = Start(start.parameters, self.statistics.fresh(start.statistics))
        result = self._empty_result(start, [int(plan.sizes.sum()) for plan in plans])
        if size == 1:

            def alone(worker: LoopWorker, place: int) -> None:
                own, buffer = correction.rows([place]), None if momentum is None else momentum[place]
                with self._drawing(plans[place].draws):
                    plan, out = plans[place], result.updates[place]
                    _, result.statistics[place] = worker.train(
                        *fresh.of(place), plan, local, teacher, own, method=method, out=out, momentum=buffer
                    )

            batch = max(plan.examples.shape[1] for plan in plans)
            step = memory.StepMemory.of(self.layout.size, local, self._example, correction)
            in_flight = 1 if method else self._loops.in_flight(len(plans), step.needed(batch), self._budget)
            self._alone(alone, range(len(plans)), in_flight)
            how = "CUDA graphs" if self._loops.recording else ""
            how = how if method is None else f"private steps by {method.way.words}"
            clients = f"{in_flight} clients at once" if in_flight > 1 else ""
            self._say("loop", how, clients, "channels_last" if self.compute.channels_last else "")
            return result

        def together(worker: CohortWorker, places: range) -> None:
            chosen, rows = [plans[place] for place in places], slice(places.start, places.stop)
            buffers = None if momentum is None else momentum[rows]
            part = worker.train(fresh.rows(places), chosen, local, teacher, correction.rows(places), buffers)
            result.updates[rows], result.statistics[rows] = part.updates, part.statistics

        self._say("vectorized", f"{count_of(size, 'client')} at once")
        chunks = [range(len(plans))[i : i + size] for i in range(0, len(plans), size)]
        with self.compute.arithmetic(self.data.device):
            spread(self._cohorts, together, chunks)
        return result

    def gradients(self, start: Start, clients: Sequence[int], draws: Sequence[int] | None = None) -> LocalResult:
        """Full-batch gradients at `start`, one row a client.

        Args:
            start: what all clients, or each of them, start from.
            clients: their numbers.
            draws: a key for each client's random layers; needed where the model draws.

        Raises:
            InputError: see `train`.
        """
        self._say("loop", "full-batch gradients")
        examples = [torch.from_numpy(self.data.clients[client]).to(self.data.device) for client in clients]
        sizes = self.data.sizes(clients).tolist()
        check_batch(min(sizes), self.trial.smallest_batch)
        at_once = max(sizes) if self.trial.whole_batches else min(max(sizes), MICROBATCH)
        self._check_memory(at_once, len(clients), None)
        result = self._empty_result(start, sizes)

        def one(worker: LoopWorker, place: int) -> None:
            with self._drawing(None if draws is None else draws[place]):
                gradient, statistics = worker.gradient(*start.of(place), examples[place])
            result.updates[place], result.statistics[place] = gradient, statistics

        self._alone(one, range(len(examples)))
        return result

    def private_gradients(self, start: Start, plans: Sequence[BatchPlan], private: PrivateTraining) -> LocalResult:
        """Clipped and noisy gradients at `start` of the plans' one batch each, one row a client.

        Raises:
            InputError: see `train`.
        """
        method = self._privately(private, plans)
        assert method is not None
        self._say("loop", "full-batch gradients", f"private by {method.way.words}")
        result = self._empty_result(start, [int(plan.sizes.sum()) for plan in plans])

        def one(worker: LoopWorker, place: int) -> None:
            with self._drawing(plans[place].draws):
                gradient, statistics = worker.private_gradient(*start.of(place), plans[place], private, method)
            result.updates[place], result.statistics[place] = gradient, statistics

        self._alone(one, range(len(plans)))
        return result

    def private_method(self, mode: GradSampleMode = "auto") -> PrivateMethod:
        """How private training forms its gradients; decided once. Ask before a run to have problems told early.

        Raises:
            InputError: the model cannot be trained privately, or not in this mode.
        """
        if mode not in self._methods:
            with self.compute.arithmetic(self.data.device):
                self._methods[mode] = PrivateMethod.of(
                    self.module, self.data, self.compute, mode, self._bytes_per_example, self.task, self.trial
                )
        return self._methods[mode]

    def recalibrated(
        self, parameters: Float[Tensor, "parameters"], clients: Sequence[int]
    ) -> Float[Tensor, "clients statistics"]:
        """Running statistics that each client's images give the same parameters, without training."""
        examples = [torch.from_numpy(self.data.clients[client]).to(self.data.device) for client in clients]
        return torch.stack(self._alone(lambda w, part: w.recalibrate(parameters, part), examples))

    def check(self, local: LocalTraining | None, clients: int) -> None:
        """Refuse before a run what one of its rounds would refuse: of every client, whether it is sampled or not.

        Args:
            local: what clients do; None for full-batch gradients.
            clients: of a round, whose updates are collected, whether they are trained together or one after another.

        Raises:
            InputError: a client's batch is too small for batch normalization (names the client and its size), or a
                round needs more memory than there is.
        """
        sizes = self.data.sizes(range(len(self.data.clients))).tolist()
        self.task.smoothed(0.0 if local is None else local.label_smoothing)
        if local is None or local.private is None:
            for client, size in enumerate(sizes):
                smallest = size if local is None else local.smallest_batch(size)
                whose = f"client {client} ({size} examples) would train on a batch of {smallest}: "
                check_batch(smallest, self.trial.smallest_batch, whose)
        if local is None:
            largest = max(sizes) if self.trial.whole_batches else min(max(sizes), MICROBATCH)
        else:
            largest = max(map(local.batch_of, sizes))
        self._check_memory(largest, clients, local)

    def chunk_size(self, plans: Sequence[BatchPlan]) -> int:
        """How many of these clients train at once; 1 means the loop engine."""
        if self.at_once is not None:
            return self.at_once
        private = any(plan.noise is not None for plan in plans)
        return 1 if private else self.chunk_of(len(plans), max(plan.examples.shape[1] for plan in plans))

    def chunk_of(self, clients: int, batch: int) -> int:
        """How many of so many clients train at once, at this batch size, where they do not train privately."""
        if self.engine == "loop":
            return 1
        per_client = 2 * batch * self._bytes_per_example + self._fixed_bytes
        fit = max(1, self._budget // per_client)
        if self.engine == "vectorized":
            fit = max(2, fit)
        threads = self.threads if self.data.device.type == "cpu" else 1
        turns = -(-clients // (fit * threads))  # every thread gets as many chunks as the others
        return max(1, -(-clients // (turns * threads)))

    def _privately(self, private: PrivateTraining | None, plans: Sequence[BatchPlan]) -> PrivateMethod | None:
        """The method for private training, and the guards around it."""
        self._private_notes = []
        check_plans(private, plans)
        if private is None:
            return None
        if self._asked == "vectorized":
            raise InputError(
                "engine: private training takes its clients one after another, since per-example gradients fill the "
                "vectorized engine; expected auto or loop"
            )
        method = self.private_method(private.grad_sample_mode)
        if self.engine != "loop":
            self._private_notes.append("not vectorized: private training needs per-example gradients")
        if self.data.device.type == "cuda" and self.compute.cuda_graphs:
            self._private_notes.append("no CUDA graphs: private batches vary in size")
        if method.way.reason:
            self._private_notes.append(method.way.reason)
        return method

    def _drawing(self, key: int | None) -> AbstractContextManager[None]:
        """While one client trains: its own random numbers, where the model draws any."""
        if not self.trial.draws:
            return nullcontext()
        if key is None:
            raise InputError(
                "the model draws random numbers while it trains; expected a key for each client's draws, as in "
                "plan_batches(..., draws=streams.key('client', 3, 'round', 1, 'model'))"
            )
        return seeded(key, self.data.device)

    def _empty_result(self, start: Start, examples: Sequence[int]) -> LocalResult:
        """One matrix for all rows, into which clients write as they come."""
        shape = len(examples), start.statistics.shape[-1]
        updates = start.parameters.new_empty(len(examples), self.layout.size)
        return LocalResult(updates, start.statistics.new_empty(shape), np.array(examples, dtype=np.int64))

    def _say(self, *words: str) -> None:
        precision = "" if self.compute.precision == "fp32" else self.compute.precision
        self.used = ", ".join(word for word in (*words, precision) if word)

    def _cohort_worker(self) -> CohortWorker:
        return CohortWorker(self.module, self.data, cumulative=self.cumulative, compute=self.compute, task=self.task)

    def _resolved(self, compute: Compute) -> Compute:
        """Decide the memory format, with two images of the first client."""
        images, _ = self.data.batch(torch.from_numpy(self.data.clients[0][:1]).to(self.data.device).repeat(2))
        return compute.resolved(self.module, images)

    def _check_memory(
        self, batch: int, clients: int, local: LocalTraining | None, correction: Correction | None = None
    ) -> None:
        training, rows, example = local or LocalTraining(steps=1, batch_size=1), clients, self._example
        if training.private is not None:
            method = self.private_method(training.private.grad_sample_mode)
            # The noise, drawn and in the worker's order, and one more sum beside that of the part before.
            example, rows, batch = method.example, rows + 3, min(batch, method.microbatch)
        step = memory.StepMemory.of(self.layout.size, training, example, correction, rows=rows)
        self._memory.check(step, batch)

    @property
    def _fixed_bytes(self) -> int:
        """What a stacked client takes whatever its batches: parameters, gradient and the optimizer's two."""
        return 16 * self.layout.size

    def _alone(
        self, work: Callable[[LoopWorker, Item], Result], items: Sequence[Item], in_flight: int = 1
    ) -> list[Result]:
        """Run `work(worker, item)` for every item, see `LoopWorkers`."""
        with self.compute.arithmetic(self.data.device):
            return self._loops.run(work, items, in_flight)

    def _why_not_vectorized(self) -> str:
        return why_not_vectorized(self._cohort_worker(), self.start(self.module))
