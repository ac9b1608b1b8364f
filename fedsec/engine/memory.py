"""How much memory local training takes, estimated before it starts: too little is bad input, not a crash in round 7."""

import copy
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fedsec.engine.correction import Correction
from fedsec.engine.local_training import LocalTraining
from fedsec.engine.resident_data import ResidentData
from fedsec.errors import InputError, size_of

PASSING = (5, 4)
"""Activations that exist at a time over those that autograd keeps, as a ratio: gradients and workspaces come and
go. Rough, and on the low side, since what would just fit must not be refused."""

CPU_CHUNK_BYTES = 12 * 2**20
"""Working set of one CPU chunk. Measured with the CNN at batch 20: best from 8 to 24 MiB (7 clients), and at batch 300
(one client alone) the plain loop wins, to which a chunk of one falls back."""
LARGEST_MEMORY = 2.0**20
"""GiB that somebody may say a chunk has: more than any machine."""


def checked_gib(memory_gib: float | None) -> float | None:
    """What somebody said that a chunk of clients may take.

    Raises:
        InputError: it is not positive, or more than any machine has.
    """
    if memory_gib is not None and not 0 < memory_gib <= LARGEST_MEMORY:
        raise InputError(f"engine: memory_gib must be positive and at most {LARGEST_MEMORY:g}, got {memory_gib}")
    return memory_gib


def chunk_bytes(memory_gib: float | None, device: torch.device) -> int:
    """Bytes for one chunk of clients.

    Args:
        memory_gib: what somebody said; by default half of what is free on a GPU, and what keeps to the cache on a CPU.
        device: where they train.
    """
    if memory_gib is not None:
        return int(memory_gib * 2**30)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) // 2
    return CPU_CHUNK_BYTES


@dataclass(frozen=True)
class StepMemory:
    """What one client's local step takes.

    Args:
        parameters: of the model.
        vectors: of that length which live at the same time: weights, gradient, optimizer state, what is sent.
        example: bytes that autograd keeps for one example.
    """

    parameters: int
    vectors: int
    example: int

    @classmethod
    def of(
        cls,
        parameters: int,
        local: LocalTraining,
        example: int,
        correction: Correction | None = None,
        *,
        rows: int = 0,
    ) -> "StepMemory":
        """The estimate for some local training.

        Args:
            parameters: of the model.
            local: its optimizer.
            example: bytes that autograd keeps for one example, see `activation_bytes`.
            correction: of its gradients.
            rows: updates that are collected meanwhile.
        """
        # Adam's denominator is one more, and so is what layerwise optimizers spread over the parameters.
        state = 3 if local.optimizer in ("adam", "lamb") else int(local.momentum > 0)
        state += local.optimizer in ("lars", "lamb")
        # What was received and the weights; the gradient by parameters and as a vector.
        return cls(parameters, 4 + state + (correction or Correction()).vectors + rows, example)

    @property
    def fixed(self) -> int:
        """Bytes that do not depend on the batch."""
        return 4 * self.parameters * self.vectors

    def needed(self, batch: int) -> int:
        """Bytes of a step at this batch size."""
        more, saved = PASSING
        return self.fixed - (-more * batch * self.example // saved)

    def largest_batch(self, free: int) -> int:
        """The largest batch size whose step fits; 0 or less if not even one example does."""
        more, saved = PASSING
        return saved * (free - self.fixed) // (more * self.example)

    def check(self, batch: int, device: torch.device, free: int | None) -> None:
        """Refuse what cannot fit.

        Args:
            batch: examples in a batch.
            device: where it is to run, for the message.
            free: bytes that are free there; None if that is not known.

        Raises:
            InputError: a step needs more; says how much, of what, and what would fit.
        """
        if free is None or self.needed(batch) <= free:
            return
        fits = self.largest_batch(free)
        cure = (
            f"expected a batch size of at most {fits}"
            if fits > 0
            else "not even one example fits: take a smaller model"
        )
        raise InputError(
            f"local training needs about {size_of(self.needed(batch))} at batch size {batch} "
            f"({size_of(self.fixed)} for {self.vectors} vectors of {self.parameters:,} parameters, the rest for "
            f"activations, {PASSING[0] / PASSING[1]:g} times what autograd keeps), and {size_of(free)} are free on "
            f"{device}; {cure}"
        )


class MemoryGuard:
    """Refuses steps that cannot fit, each kind once, before the first of it: what runs occupies memory itself.

    Args:
        device: where the steps run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._checked: set[tuple[StepMemory, int]] = set()

    def check(self, step: StepMemory, batch: int) -> None:
        """Look at what is free now, unless this was asked before.

        Args:
            step: what it takes.
            batch: examples in the largest batch.

        Raises:
            InputError: it does not fit.
        """
        if (step, batch) not in self._checked:
            step.check(batch, self.device, free_bytes(self.device))
            self._checked.add((step, batch))


def free_bytes(device: torch.device) -> int | None:
    """Memory that a process can still get on a device; None where nobody says (a CPU elsewhere than on Linux).

    Limits of containers are not looked at.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    source = Path("/proc/meminfo")
    if device.type != "cpu" or not source.exists():
        return None
    available = re.search(r"^MemAvailable:\s+(\d+) kB", source.read_text(), re.MULTILINE)
    return None if available is None else 1024 * int(available[1])


def activation_bytes(module: nn.Module, data: ResidentData) -> int:
    """Bytes that autograd keeps for one example's backward pass: those of a batch of two, by halves.

    Measured by a forward pass. Only where a GPU has no room even for that it is done on the meta device, which computes
    nothing, but takes seconds to import.
    """
    try:
        images, _ = data.batch(torch.from_numpy(data.clients[0][:1]).to(data.device).repeat(2))
        return _kept(module, images)
    except torch.OutOfMemoryError:
        return _kept(module, torch.empty(2, *data.images.shape[1:], device="meta"))


def _kept(module: nn.Module, images: Tensor) -> int:
    module = copy.deepcopy(module).to(images.device)
    # By storage, which tells tensors apart on the meta device too, where all lie at address zero.
    parameters = {p.untyped_storage()._cdata for p in module.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in parameters:
            saved[storage] = max(saved.get(storage, 0), tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(images)
    del output
    return max(1, sum(saved.values()) // 2)
