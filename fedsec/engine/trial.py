"""What one training step on a copy of a model tells before a run: what it gives, what it changes, what it draws."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.engine.precision import Compute
from fedsec.engine.resident_data import ResidentData
from fedsec.engine.stacked_norm import cohort_module
from fedsec.engine.statistics import StatisticsLayout, norms_in_training, own_names, untrained
from fedsec.errors import InputError
from fedsec.randomness import moved, preserved, seeded, snapshot
from fedsec.tasks import Task

EXAMPLES = 3
"""In the trial's batch."""
KEY = 0
"""Of the trial's draws; they change no result."""


@dataclass(frozen=True)
class Trial:
    """What one step told.

    Attributes:
        statistics: what training changes beside the trainable parameters.
        draws: whether the model draws random numbers while it trains.
        rewrites: whether its forward pass changes trainable parameters.
        mixes: whether the examples of a batch make a difference to each other, batch normalization apart.
        smallest_batch: fewest examples of which every batch normalization has a variance.
        output_shape: of what the model gives for one example.
    """

    statistics: StatisticsLayout
    draws: bool
    rewrites: bool
    mixes: bool
    smallest_batch: int
    output_shape: tuple[int, ...]

    @classmethod
    def of(cls, module: nn.Module, data: ResidentData, task: Task, compute: Compute) -> "Trial":
        """Try a model out on a few of the first client's examples; nothing that it changes or draws is left.

        Args:
            module: the architecture and some weights; not changed.
            data: the federation's resident data.
            task: gives each example's loss.
            compute: how numbers are computed, `resolved`.

        Raises:
            InputError: the model cannot take the data, does not give what the task needs, keeps something from step to
                step that is neither parameter nor buffer, or draws random numbers in evaluation mode.
        """
        images, targets = trial_examples(data)
        task.check_targets(targets)
        images = compute.inputs(images)
        trained = copy.deepcopy(module).to(data.device).train()
        with preserved(data.device), compute.arithmetic(data.device):
            with _told(module, images):
                step = _Step.of(trained, images, targets, task, compute)
                _check_evaluation(trained, images, compute)
            statistics = step.statistics(trained)
            mixes = _mixes(module, statistics, images, compute)
        return cls(statistics, step.draws, step.rewrites, mixes, step.smallest_batch, step.output_shape)

    @property
    def why_not_stacked(self) -> str:
        """What keeps clients from being trained together; empty if nothing that was seen does."""
        if self.draws:
            return "the model draws random numbers while it trains, each client from a stream of its own"
        if self.statistics.buffers:
            return f"training changes {_listed(self.statistics.buffers)} beside the parameters"
        if self.rewrites:
            return "the model changes its parameters in the forward pass"
        if self.mixes:
            return "the model mixes the examples of a batch, so that padding would leak into it"
        return ""

    @property
    def whole_batches(self) -> bool:
        """Whether a batch is more than the sum of its parts."""
        return self.mixes or bool(self.statistics.size)


@dataclass(frozen=True)
class _Step:
    """What was seen of one forward and backward pass.

    Attributes:
        changed: buffers and untrained parameters that it wrote to.
        runs: how often each batch normalization that learns ran.
        draws: see `Trial`.
        rewrites: see `Trial`.
        smallest_batch: see `Trial`.
        output_shape: see `Trial`.
    """

    changed: tuple[str, ...]
    runs: Counter[str]
    draws: bool
    rewrites: bool
    smallest_batch: int
    output_shape: tuple[int, ...]

    @classmethod
    def of(cls, module: nn.Module, images: Tensor, targets: Tensor, task: Task, compute: Compute) -> "_Step":
        """Make one, then the same forward pass again, which must give the same."""
        trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        before, weights = _copies(untrained(module)), _copies(trainable)
        # Whoever writes may happen to write what was there, as an iteration that has converged.
        written = {name: (tensor, tensor._version) for name, tensor in untrained(module).items()}
        with seeded(KEY, images.device), _watched(module) as passes:
            stood = snapshot(images.device)
            outputs = _outputs(module, images, compute)
            task.check_outputs(outputs.shape, len(images))
            first = outputs.detach().clone()
            weights_of = list(trainable.values())
            loss = task.losses(outputs.to(weights_of[0].dtype), targets).mean()
            torch.autograd.grad(loss, weights_of, allow_unused=True)
            draws = moved(stood, snapshot(images.device))
        after = untrained(module)
        for name, tensor in after.items():
            if name not in before or tensor.shape != before[name].shape:
                raise InputError(f"training gives the model's buffer {name!r} another shape; it cannot be federated")
        changed = tuple(
            name
            for name, tensor in after.items()
            if tensor is not written[name][0] or tensor._version != written[name][1]
        )
        rewrites = any(not _same(p.detach(), weights[name]) for name, p in trainable.items())
        with torch.no_grad():
            for name, tensor in after.items():
                tensor.copy_(before[name])
            for name, parameter in trainable.items():
                parameter.copy_(weights[name])
            with seeded(KEY, images.device):
                again = _outputs(module, images, compute)
        if not _close(first, again):
            raise InputError(
                "the model gives something else when the same step is repeated: it keeps something from step to step, "
                "or draws from a generator of its own; expected whatever lasts to be a buffer (register_buffer), and "
                "draws from PyTorch's generator, so that every client has its own"
            )
        runs, sizes = Counter(name for name, _ in passes), [size for _, size in passes]
        return cls(changed, runs, draws, rewrites, max([1, *sizes]), tuple(first.shape[1:]))

    def statistics(self, module: nn.Module) -> StatisticsLayout:
        """Which layers the engine moves the statistics of, and which buffers it only carries."""
        norms = norms_in_training(module)
        reported = {name: norms[name].num_features for name in norms if self.runs[name] == 1}
        own = {buffer for layer in reported for buffer in own_names(layer)}
        tensors = untrained(module)
        return StatisticsLayout(reported, {name: tensors[name].shape for name in self.changed if name not in own})


def trial_examples(data: ResidentData) -> tuple[Float[Tensor, "batch channels height width"], Tensor]:
    """A few examples of the first client that has any, no two of which look alike."""
    client = next(numbers for numbers in data.clients if len(numbers))
    numbers = torch.from_numpy(client[:EXAMPLES]).to(data.device)
    images, targets = data.batch(numbers.repeat(EXAMPLES)[:EXAMPLES])
    return images + 0.1 * torch.arange(EXAMPLES, device=data.device).view(-1, *[1] * (images.ndim - 1)), targets


def _outputs(module: nn.Module, images: Tensor, compute: Compute) -> Tensor:
    with compute.autocast(images.device):
        outputs = module(images)
    if not isinstance(outputs, Tensor):
        raise InputError(f"the model gives a {type(outputs).__name__}; expected one tensor, a row for each example")
    return outputs


@torch.no_grad()
def _check_evaluation(module: nn.Module, images: Tensor, compute: Compute) -> None:
    before = snapshot(images.device)
    _outputs(copy.deepcopy(module).eval(), images, compute)
    if moved(before, snapshot(images.device)):
        raise InputError(
            "the model draws random numbers in evaluation mode, so that its figures could not be reproduced; expected "
            "draws in training alone (self.training)"
        )


@torch.no_grad()
def _mixes(module: nn.Module, statistics: StatisticsLayout, images: Tensor, compute: Compute) -> bool:
    """Whether a padded example changes what the model gives for the others."""
    stacked, batch = cohort_module(module, statistics)
    stacked = stacked.to(images.device)
    batch.weights = torch.ones(len(images), device=images.device, dtype=images.dtype)
    batch.weights[-1] = 0
    before = _copies(untrained(stacked))
    outputs = []
    for last in (images[-1], -3 * images[0] - 1):
        batch_ = compute.inputs(torch.cat([images[:-1], last[None]]))
        try:
            with seeded(KEY, images.device):
                outputs.append(_outputs(stacked, batch_, compute)[:-1])
        except Exception:  # looks for layers that stand-ins have taken the place of; stacking will say so
            return False
        for name, tensor in untrained(stacked).items():
            tensor.copy_(before[name])
    return not _close(*outputs)


@contextmanager
def _watched(module: nn.Module) -> Iterator[list[tuple[str, int]]]:
    """Which batch normalizations run meanwhile, in order, and how many examples they need to have a variance."""
    passes: list[tuple[str, int]] = []

    def look(name: str) -> Callable[..., None]:
        return lambda layer, inputs: passes.append((name, 2 if inputs[0][0, 0].numel() == 1 else 1))

    handles = [layer.register_forward_pre_hook(look(name)) for name, layer in norms_in_training(module).items()]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _told(module: nn.Module, images: Tensor) -> Iterator[None]:
    """Tell in words what keeps a model from taking the data."""
    try:
        yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a user's module says to a batch
        dtypes = ", ".join(sorted({str(p.dtype) for p in module.parameters()}))
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"the model cannot train on a batch of {images.dtype} of shape {tuple(images.shape)} ({cause}); its "
            f"parameters are {dtypes}"
        ) from error


def _copies(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(torch.equal(torch.nan_to_num(one), torch.nan_to_num(other)))


def _close(one: Tensor, other: Tensor) -> bool:
    scale = float(one.nan_to_num().abs().max()) if one.numel() else 0.0
    return bool(torch.allclose(one, other, rtol=0, atol=1e-4 * scale + 1e-12, equal_nan=True))


def _listed(names: Any) -> str:
    first = ", ".join(repr(name) for name in list(names)[:3])
    return first + (", ..." if len(names) > 3 else "")
