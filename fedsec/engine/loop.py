"""One client after another: for models too large to stack, modules that vmap cannot run, and full-batch gradients."""

import copy
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int16, Int64
from torch import Tensor, nn

from fedsec.engine.batches import BatchPlan
from fedsec.engine.correction import Correction
from fedsec.engine.cuda_graphs import CapturedSteps, ProgramRecorder
from fedsec.engine.flat_parameters import FlatParameters
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.messages import Teacher
from fedsec.engine.optimizers import Optimizer, clip_rows, optimizer
from fedsec.engine.parameters import ParameterLayout
from fedsec.engine.precision import Compute
from fedsec.engine.private_steps import PrivateGradients, PrivateMethod
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.stacked_norm import RunningStatistics
from fedsec.engine.statistics import StatisticsLayout, untrained
from fedsec.errors import InputError
from fedsec.privacy.private_training import PrivateTraining
from fedsec.tasks import Classification, Task

MICROBATCH = 256
"""Examples a full-batch gradient takes at a time: the sum is the same, and the activations stay in the cache."""


class LoopWorker:
    """Trains single clients on a module of its own, whose parameters are views of one flat vector.

    Args:
        module: the architecture; copied.
        data: the federation's resident data.
        cumulative: see `CohortTrainer`.
        compute: how numbers are computed, `resolved`; the caller sees to its `arithmetic`.
        recorder: records local steps, which are then replayed; None to run each as it is.
        task: gives each example's loss.
        statistics: what training changes beside the parameters; by default what batch normalization learns.
        whole_batches: whether a batch is more than the sum of its parts.
    """

    def __init__(
        self,
        module: nn.Module,
        data: ResidentData,
        *,
        cumulative: bool = False,
        compute: Compute | None = None,
        recorder: ProgramRecorder | None = None,
        task: Task | None = None,
        statistics: StatisticsLayout | None = None,
        whole_batches: bool = False,
    ) -> None:
        self.layout, self.statistics_layout = ParameterLayout.of(module), statistics or StatisticsLayout.of(module)
        self._whole_batches = whole_batches or bool(self.statistics_layout.size)
        self.data, self.compute, self.task = data, compute or Compute(), task or Classification()
        self.module = copy.deepcopy(module).to(data.device).train()
        self.parameters = FlatParameters(self.module, self.layout, channels_last=self.compute.channels_last)
        self._gradient = torch.empty_like(self.parameters.flat)
        # Where recorded steps read them; in the worker's own order.
        self._center = self._shift = self._mask = self._gradient[:0]
        self._correction: tuple[float, bool, bool] = (0.0, False, False)
        self.statistics = self.statistics_layout.flatten(self.module)
        self._running = RunningStatistics(module, self.statistics_layout, data.device, cumulative=cumulative)
        # The layers only report what a batch had (momentum 1): averaging themselves, they would wait for the host.
        self._seen = self.statistics[: self.statistics_layout.norm_size].clone()
        self._runs: list[str] = []
        for name, (mean, variance) in self.statistics_layout.views(self._seen).items():
            layer = self.module.get_submodule(name)
            layer.running_mean, layer.running_var = mean, variance
            layer.momentum, layer.num_batches_tracked = 1.0, None  # type: ignore[assignment]
            layer.register_forward_hook(_notes(name, self._runs))
        self._initial = self.statistics.clone()
        self._fixed = self._unlisted()
        self._local: LocalTraining | None = None
        self._optimizer: Optimizer | None = None
        self._objective = self.task
        self._teacher: Teacher | None = None
        self._captured = None if recorder is None else CapturedSteps(recorder)
        self._private: PrivateGradients | None = None

    @property
    def recording(self) -> bool:
        """Whether local steps are recorded and replayed."""
        return self._captured is not None and not self._captured.problem

    @property
    def problem(self) -> str:
        """Why local steps could not be recorded; empty if they could, or nobody tried."""
        return "" if self._captured is None else self._captured.problem

    def train(
        self,
        parameters: Float[Tensor, "parameters"],
        statistics: Float[Tensor, "statistics"],
        plan: BatchPlan,
        local: LocalTraining,
        teacher: Teacher | None = None,
        correction: Correction | None = None,
        *,
        method: PrivateMethod | None = None,
        out: Float[Tensor, "parameters"] | None = None,
        momentum: Float[Tensor, "parameters"] | None = None,
    ) -> tuple[Float[Tensor, "parameters"], Float[Tensor, "statistics"]]:
        """One client's update, its parameters after local training minus those before, and its running statistics.

        Nothing here waits for the device: a GPU is kept busy over all clients of a round.

        Args:
            parameters: what the client starts from.
            statistics: likewise.
            plan: its batches.
            local: what it does with them.
            teacher: logits to distill from beside the labels.
            correction: of its gradients, with at most one row of center, shift and mask.
            method: how private training forms its gradients; only for that.
            out: where the update goes; by default a new vector.
            momentum: see `CohortTrainer.train`.
        """
        self._prepare(local, teacher)
        buffer = None if self._optimizer is None else self._optimizer.state().get("momentum")
        if momentum is not None and buffer is not None:
            self.parameters.write(momentum, buffer)
        self._load(parameters, statistics)
        self._load_correction(correction or Correction())
        examples = self.data.put(plan.examples)
        views = None if plan.views is None else self.data.put(plan.views)
        if local.private is not None:
            self._train_privately(plan, local.private, method, examples, views)
        else:
            self._train_openly(plan, examples, views)
        update = torch.empty_like(parameters) if out is None else out
        self.parameters.read(update)
        if momentum is not None and buffer is not None:
            self.parameters.read(momentum, buffer)
        return update.sub_(parameters), self._left()

    def _train_openly(self, plan: BatchPlan, examples: Tensor, views: Tensor | None) -> None:
        kind = self._kind()
        for step, size in enumerate(plan.sizes.tolist()):
            chosen, seen = examples[step, :size], None if views is None else views[step, :size]
            if self._captured is None:
                self._step(chosen, seen)
            else:
                self._captured.run(self._step, kind, chosen, seen)

    def _train_privately(
        self,
        plan: BatchPlan,
        private: PrivateTraining,
        method: PrivateMethod | None,
        examples: Tensor,
        views: Tensor | None,
    ) -> None:
        assert self._local is not None
        gradients, generator = self._privately(method), PrivateGradients.generator(plan)
        for step, size in enumerate(plan.sizes.tolist()):
            chosen, seen = examples[step, :size], None if views is None else views[step, :size]
            gradient = gradients(
                chosen,
                seen,
                self._local.augmentation,
                self._teacher,
                plan,
                private.max_grad_norm,
                generator,
                self._gradient,
            )
            self._descend(gradient)

    def private_gradient(
        self,
        parameters: Float[Tensor, "parameters"],
        statistics: Float[Tensor, "statistics"],
        plan: BatchPlan,
        private: PrivateTraining,
        method: PrivateMethod,
    ) -> tuple[Float[Tensor, "parameters"], Float[Tensor, "statistics"]]:
        """The clipped and noisy gradient of the one batch of a plan, and the running statistics."""
        self._load(parameters, statistics)
        examples = torch.from_numpy(plan.examples[0, : plan.sizes[0]]).to(self.data.device)
        noise, norm = PrivateGradients.generator(plan), private.max_grad_norm
        gradient = self._privately(method)(examples, None, None, None, plan, norm, noise, self._gradient)
        return self._ordered(gradient, parameters), self._left()

    def gradient(
        self, parameters: Float[Tensor, "parameters"], statistics: Float[Tensor, "statistics"], examples: Tensor
    ) -> tuple[Float[Tensor, "parameters"], Float[Tensor, "statistics"]]:
        """The gradient of the mean loss over the given examples, and the running statistics after their one batch."""
        self._load(parameters, statistics)
        total = torch.zeros_like(self._gradient)
        for part in [examples] if self._whole_batches else torch.split(examples, MICROBATCH):
            images, labels = self.data.batch(part)
            loss = self.task.losses(self._logits(images), labels).sum() / len(examples)
            total.add_(self._backward(loss))
        self._running.remember(self.statistics, self._seen)
        return self._ordered(total, parameters), self._left()

    @torch.no_grad()
    def recalibrate(self, parameters: Float[Tensor, "parameters"], examples: Tensor) -> Float[Tensor, "statistics"]:
        """Running statistics of the given parameters on the given examples: the plain average over their batches.

        Only batch normalization is in train mode: what else a model does in training, such as dropout, would show in
        the statistics of an evaluation that does without.
        """
        average = RunningStatistics(self.module, self.statistics_layout, self.data.device, cumulative=True)
        self._load(parameters, self.statistics_layout.fresh(self._initial))
        self.module.eval()
        try:
            for name in self.statistics_layout.channels:
                self.module.get_submodule(name).train()
            for part in examples.tensor_split(-(-len(examples) // MICROBATCH)):
                self._logits(self.data.batch(part)[0])
                average.remember(self.statistics, self._seen)
        finally:
            self.module.train()
        return self._left()

    def _prepare(self, local: LocalTraining, teacher: Teacher | None) -> None:
        """Have an optimizer and a teacher for these settings; recordings of others are worthless."""
        if local != self._local:
            self._local, self._objective = local, self.task.smoothed(local.label_smoothing)
            self._optimizer = optimizer(self.parameters.flat, local, self.layout.sizes)
            self._forget()
        assert self._optimizer is not None
        self._optimizer.reset()
        held = self._teacher
        if self._captured is None or teacher is None or held is None or not _alike(held, teacher):
            # Recordings read the teacher where it lay when they were made: in a copy that stays.
            copied = self._captured is not None and teacher is not None
            self._teacher = teacher if not copied or teacher is None else _copy(teacher)
        else:
            held.logits.copy_(teacher.logits)
            held.known.copy_(teacher.known)

    def _forget(self) -> None:
        if self._captured is not None:
            self._captured.forget()

    def _kind(self) -> Hashable:
        """What recordings depend on: where things lie that others may replace."""
        tensors = [self.data.images, self.data.image_of, self.data.label_of]
        rule = None
        if self._teacher is not None:
            tensors += [self._teacher.logits, self._teacher.known]
            rule = (self._teacher.temperature, self._teacher.weight)
        return tuple((tensor.data_ptr(), tensor.shape) for tensor in tensors), rule, self._correction

    def _step(self, examples: Int64[Tensor, "batch"], views: Int16[Tensor, "batch 5"] | None) -> None:
        """One local step: a program over tensors that stay where they are, which waits for no value of theirs."""
        assert self._local is not None
        images, labels = self.data.batch(examples, views, self._local.augmentation)
        self._descend(self._backward(self._loss(images, labels, examples)))
        self._running.remember(self.statistics, self._seen)

    def _descend(self, gradient: Float[Tensor, "parameters"]) -> None:
        """What follows a gradient, ordinary or private; it is overwritten."""
        assert self._local is not None
        assert self._optimizer is not None
        alpha, shifted, masked = self._correction
        if alpha:
            gradient.add_(self.parameters.flat - self._center, alpha=alpha)
        if shifted:
            gradient.add_(self._shift)
        if masked:
            gradient.mul_(self._mask)
        if self._local.clip_norm is not None:
            clip_rows(gradient, self._local.clip_norm)
        self._optimizer.step(gradient)

    def _privately(self, method: PrivateMethod | None) -> PrivateGradients:
        assert method is not None
        task = self._objective
        if self._private is None or self._private.method is not method or self._private.task != task:
            self._private = PrivateGradients(self.module, self.parameters, self.data, self.compute, method, task)
        return self._private

    def _ordered(self, gradient: Tensor, like: Tensor) -> Float[Tensor, "parameters"]:
        """A gradient in the order of the worker's own parameters -> in the federation's; parameters are lost."""
        ordered = torch.empty_like(like)
        self.parameters.flat.copy_(gradient)
        self.parameters.read(ordered)
        return ordered

    def _backward(self, loss: Tensor) -> Float[Tensor, "parameters"]:
        """A loss's gradient, in the order of the worker's own parameters; overwritten by the next."""
        gradients = torch.autograd.grad(loss, self.parameters.tensors, allow_unused=True, materialize_grads=True)
        return self.parameters.gather(gradients, self._gradient)

    def _load(self, parameters: Tensor, statistics: Tensor) -> None:
        self.parameters.write(parameters)
        self.statistics.copy_(statistics)
        self.statistics_layout.load_buffers(self.module, self.statistics)
        self._seen.zero_()  # layers keep nothing of it, unless another client left something not finite
        self._running.reset()

    def _load_correction(self, correction: Correction) -> None:
        self._correction = correction.kind
        if correction.alpha:
            if not self._center.numel():
                self._center = torch.empty_like(self._gradient)
            if correction.center is None:
                self._center.copy_(self.parameters.flat)
            else:
                self.parameters.write(correction.center.reshape(-1), self._center)
        if correction.shift is not None:
            if not self._shift.numel():
                self._shift = torch.empty_like(self._gradient)
            self.parameters.write(correction.shift.reshape(-1), self._shift)
        if correction.mask is not None:
            if not self._mask.numel():
                self._mask = torch.empty_like(self._gradient)
            self.parameters.write(correction.mask.reshape(-1), self._mask)

    def _loss(self, images: Tensor, labels: Tensor, examples: Tensor) -> Tensor:
        logits, teacher = self._logits(images), self._teacher
        loss = self._objective.losses(logits, labels).mean()
        if teacher is None:
            return loss
        terms = teacher.losses(logits, teacher.logits[examples]) * teacher.known[examples]
        return loss + teacher.weight * terms.mean()

    def _left(self) -> Float[Tensor, "statistics"]:
        """What training left beside the parameters: a copy.

        Raises:
            InputError: it changed something else, which the next client would have found.
        """
        for name, owner, leaf, tensor, version in self._fixed:
            if owner[leaf] is not tensor or tensor._version != version:
                raise InputError(
                    f"training changed {name!r}, which the first step on the first client's examples had left alone; "
                    "it would leak from client to client. Expected a model that changes the same buffers in every step"
                )
        self.statistics_layout.read_buffers(self.module, self.statistics)
        return self.statistics.clone()

    def _unlisted(self) -> list[tuple[str, dict[str, Any], str, Tensor, int]]:
        """What no client may change: name, where it lies, and how often it was written to."""
        listed, places = self.statistics_layout.named(self.statistics).keys(), []
        for name, tensor in untrained(self.module).items():
            owner, _, leaf = name.rpartition(".")
            layer: Any = self.module.get_submodule(owner)
            held = layer._buffers if leaf in layer._buffers else layer._parameters
            if name not in listed:
                places.append((name, held, leaf, tensor, tensor._version))
        return places

    def _logits(self, images: Tensor) -> Tensor:
        self._runs.clear()
        with self.compute.autocast(images.device):
            logits: Tensor = self.module(self.compute.inputs(images))
        if len(self._runs) != len(self.statistics_layout.channels):
            idle = sorted(set(self.statistics_layout.channels) - set(self._runs)) or self._runs
            raise InputError(
                f"layer {idle[0]!r} does not run once in every step, and its running statistics could not be told; "
                "expected batch normalization that does, or group normalization"
            )
        return logits.to(self.parameters.flat.dtype)


def _notes(name: str, runs: list[str]) -> Callable[..., None]:
    """A hook that notes which layer ran. It knows no worker: that would never be freed."""
    return lambda *_: runs.append(name)


def _alike(held: Teacher, given: Teacher) -> bool:
    """Whether one teacher can be copied over another."""
    rules = [
        (teacher.logits.shape, teacher.logits.dtype, teacher.temperature, teacher.weight) for teacher in (held, given)
    ]
    return rules[0] == rules[1]


def _copy(teacher: Teacher) -> Teacher:
    return replace(teacher, logits=teacher.logits.clone(), known=teacher.known.clone())
