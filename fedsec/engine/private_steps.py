"""Private local steps: clipped per-example gradients, noise from a stream of its own, the expected batch size.

Abadi et al.: Deep Learning with Differential Privacy. CCS 2016, arXiv:1607.00133. What follows a noisy gradient
(corrections, weight decay, momentum, Adam) is what follows an ordinary one, and reveals no more.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int16, Int64
from torch import Tensor, nn

from fedsec.data.augmentation import Augmentation
from fedsec.engine.batches import BatchPlan
from fedsec.engine.flat_parameters import FlatParameters
from fedsec.engine.messages import Teacher
from fedsec.engine.precision import Compute
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.trial import Trial, trial_examples
from fedsec.errors import InputError
from fedsec.privacy.gradients.clipping import twin
from fedsec.privacy.gradients.modes import Way, choose
from fedsec.privacy.private_training import GradSampleMode, PrivateTraining
from fedsec.randomness import seeded
from fedsec.seeds import noise_generator
from fedsec.tasks import Task

PRIVATE_MICROBATCH = 256
"""Examples whose clipped gradients are summed at a time, at most; sums over parts are exact."""
PRIVATE_BYTES = {"cpu": 2**29, "cuda": 2**32}
"""Memory that a part may take by estimate. A constant: what is free at the time must not decide how sums are cut."""


@dataclass(frozen=True)
class PrivateMethod:
    """How all workers of a trainer form clipped sums.

    Args:
        way: to per-example gradients.
        microbatch: examples at a time.
        example: bytes that one takes meanwhile.
    """

    way: Way
    microbatch: int
    example: int

    @classmethod
    def of(
        cls,
        module: nn.Module,
        data: ResidentData,
        compute: Compute,
        mode: GradSampleMode,
        activations: int,
        task: Task,
        trial: Trial,
    ) -> "PrivateMethod":
        """Choose, by trying it on a few images of the first client.

        Args:
            module: the architecture and some weights.
            data: the federation's resident data.
            compute: how numbers are computed, `resolved`.
            mode: see `PrivateTraining`.
            activations: bytes that autograd keeps for one example.
            task: gives each example's loss.
            trial: what one step told of the model.

        Raises:
            InputError: the model cannot be trained privately, or not in this mode.
        """
        if trial.statistics.buffers:
            name = next(iter(trial.statistics.buffers))
            raise InputError(
                f"DP-SGD: training changes {name!r} beside the parameters, and what that takes up of the examples is "
                "neither clipped nor noisy; expected a model that changes nothing but its parameters"
            )
        copied = twin(module).to(data.device).train()
        images, labels = trial_examples(data)
        images = compute.inputs(images)
        _check_twin(copy.deepcopy(module).to(data.device).train(), images)
        dtype = next(copied.parameters()).dtype
        way = choose(
            copied,
            mode,
            images,
            (labels,),
            lambda logits, labels: task.losses(logits.to(dtype), labels),
            precision=lambda: compute.autocast(data.device),
            exact=compute.precision != "bf16",
            draws=trial.draws,
        )
        example = 2 * activations + 4 * way.numbers  # activations and the gradients at them
        fit = PRIVATE_BYTES.get(data.device.type, PRIVATE_BYTES["cpu"]) // max(1, example)
        return cls(way, max(1, min(PRIVATE_MICROBATCH, fit)), example)


class PrivateGradients:
    """One worker's noisy gradients.

    Args:
        module: whose trainable parameters lie in `parameters`.
        parameters: the worker's.
        data: the federation's resident data.
        compute: how numbers are computed.
        method: how clipped sums are formed.
        task: gives each example's loss.
    """

    def __init__(
        self,
        module: nn.Module,
        parameters: FlatParameters,
        data: ResidentData,
        compute: Compute,
        method: PrivateMethod,
        task: Task,
    ) -> None:
        self.parameters, self.data, self.compute, self.method, self.task = parameters, data, compute, method, task
        self._sum = method.way.make(twin(module), lambda: compute.autocast(data.device))
        self._noise = torch.empty_like(parameters.flat)

    @staticmethod
    def generator(plan: BatchPlan) -> torch.Generator:
        """The noise of one client's round, on the CPU whatever the device, so that all devices draw the same.

        It is PyTorch's generator, fit for experiments that must be reproducible, and no cryptographic one.

        Raises:
            InputError: the plan is none of private training.
        """
        if plan.noise is None:
            raise InputError("private training needs a plan with noise; ordinary batches would void its guarantee")
        return noise_generator(plan.noise.key)

    def __call__(
        self,
        examples: Int64[Tensor, "batch"],
        views: Int16[Tensor, "batch 5"] | None,
        augmentation: Augmentation | None,
        teacher: Teacher | None,
        plan: BatchPlan,
        max_grad_norm: float,
        generator: torch.Generator,
        out: Float[Tensor, "parameters"],
    ) -> Float[Tensor, "parameters"]:
        """(sum of clipped gradients + noise) / expected batch, in the order of the worker's own parameters.

        Args:
            examples: the step's Poisson sample; none is noise alone.
            views: how they are augmented.
            augmentation: likewise.
            teacher: distillation belongs to an example's own loss, and is clipped with it.
            plan: says how much noise, and the expected batch.
            max_grad_norm: C.
            generator: of the noise.
            out: where the gradient goes.
        """
        assert plan.noise is not None
        size = self.method.microbatch
        total: list[Tensor] = []
        for begin in range(0, len(examples), size):
            part = examples[begin : begin + size]
            seen = None if views is None else views[begin : begin + size]
            images, labels = self.data.batch(part, seen, augmentation)
            clipped = self._clipped(self.compute.inputs(images), labels, part, teacher, max_grad_norm)
            total = [a.add_(b) for a, b in zip(total, clipped, strict=True)] if total else clipped
        if total:
            self.parameters.gather(total, out)
        else:
            out.zero_()
        if plan.noise.multiplier:
            self._draw(generator)
            out.add_(self._noise, alpha=plan.noise.multiplier * max_grad_norm)
        return out.div_(plan.expected)

    def _clipped(
        self, images: Tensor, labels: Tensor, examples: Tensor, teacher: Teacher | None, max_grad_norm: float
    ) -> list[Tensor]:
        targets: Sequence[Tensor] = (labels,)
        if teacher is not None:
            shares = teacher.weight * teacher.known[examples].to(self.parameters.flat.dtype)
            targets = (labels, teacher.logits[examples], shares)

        def losses(logits: Tensor, labels: Tensor, *taught: Tensor) -> Tensor:
            logits = logits.to(self.parameters.flat.dtype)
            own = self.task.losses(logits, labels)
            return own if teacher is None else own + taught[1] * teacher.losses(logits, taught[0])

        return self._sum(images, targets, losses, max_grad_norm)

    def _draw(self, generator: torch.Generator) -> None:
        """Standard normal noise: number for number the same in every memory format."""
        flat = self.parameters.flat
        drawn = torch.randn(flat.shape, generator=generator, dtype=flat.dtype).to(flat.device)
        self.parameters.gather(list(self.parameters.layout.views(drawn).values()), self._noise)


@torch.no_grad()
def _check_twin(module: nn.Module, images: Tensor) -> None:
    """Refuse a model that needs its activations to work in place; it may be changed.

    Raises:
        InputError: it gives something else where they do not.
    """
    with seeded(0, images.device):
        expected = module(images)
    with seeded(0, images.device):
        outputs = twin(module)(images)
    if not torch.allclose(outputs, expected, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise InputError(
            "DP-SGD: the model relies on activations with inplace=True whose result it throws away; expected it to use "
            "what they return"
        )


def check_plans(private: PrivateTraining | None, plans: Sequence[BatchPlan]) -> None:
    """Refuse plans that are not made for a training, and noise that several clients of a cohort share.

    Raises:
        InputError: noise without private training or the other way round; or two plans with equal keys of their noise,
            which would cancel in a difference.
    """
    noises = [plan.noise for plan in plans if plan.noise is not None]
    if private is None:
        if noises:
            raise InputError("these plans are made for private training; expected LocalTraining with private")
        return
    if len(noises) < len(plans):
        raise InputError("private training needs Poisson samples and noise; these plans have none")
    keys = [noise.key for noise in noises if noise.multiplier]
    if len(set(keys)) < len(keys):
        raise InputError("DP-SGD: two clients of a round draw the same noise, which would cancel in a difference")
