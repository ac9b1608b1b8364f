"""The pretended GPU refuses what a GPU refuses, and nothing else."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.pretended_gpu import DeviceError, pretended_gpu


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    with pretended_gpu() as device:
        yield device


REFUSED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "sum": lambda there, here: there + here,
    "sum of a row and a matrix": lambda there, here: here + there[0],
    "product": lambda there, here: there @ here.T,
    "cat": lambda there, here: torch.cat([there, here]),
    "stack of numbers": lambda there, here: torch.stack([there[0, 0], here[0, 0]]),
    "choice": lambda there, here: torch.where(there > 0, there, here),
    "gather": lambda there, here: there.gather(1, torch.zeros(2, 1, dtype=torch.int64)),
    "rows by index_select": lambda there, here: there.index_select(0, torch.arange(1)),
    "indices of the GPU into the CPU": lambda there, here: here[torch.arange(2, device=there.device)],
    "a mask of the GPU's into the CPU": lambda there, here: here[there > 0],
    "rows of the CPU into those of the GPU": lambda there, here: there.__setitem__(torch.arange(2), here),
    "a number of the GPU added to one of the CPU": lambda there, here: torch.zeros(()).add_(there.sum()),
    "the loss of labels that stayed behind": lambda there, here: F.cross_entropy(there, torch.zeros(2).long()),
    "a layer that stayed behind": lambda there, here: nn.Linear(3, 1)(there),
    "under vmap": lambda there, here: torch.vmap(lambda row: row + here[0])(there),
    "the gradient's own factor": lambda there, here: torch.func.grad(lambda row: (row * here[0]).sum())(there[0]),
    "comparison": lambda there, here: torch.equal(there, here),
    "a generator of the CPU": lambda there, here: torch.randn(2, device=there.device, generator=torch.Generator()),
    "a generator of the GPU": lambda there, here: torch.randn(2, generator=torch.Generator(there.device)),
    "numpy": lambda there, here: there.numpy(),
    "an array": lambda there, here: np.asarray(there),
    "pinning": lambda there, here: there.pin_memory(),
}


def test_what_a_gpu_refuses_is_refused(gpu: torch.device) -> None:
    for what, operation in REFUSED.items():
        with pytest.raises((DeviceError, TypeError)):
            pytest.fail(f"{what}: {operation(torch.ones(2, 3, device=gpu), torch.ones(2, 3))}")


THERE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a number of the CPU": lambda there, here: there * here[0, 0],
    "indices of the CPU": lambda there, here: there[torch.arange(1)],
    "a mask of the CPU": lambda there, here: there[here > 0],
    "a view": lambda there, here: there.view(-1)[1:],
    "a row that was copied into": lambda there, here: there[0].copy_(here[0]),
    "moved by device": lambda there, here: here.to(there.device, torch.float64),
    "moved by example": lambda there, here: here.to(there),
    "moved by name": lambda there, here: here.to(device="cuda", dtype=None, copy=True),
    "moved by cuda": lambda there, here: here.cuda(),
    "pinned and moved": lambda there, here: here.pin_memory().to(there.device, non_blocking=True),
    "new": lambda there, here: there.new_zeros(2),
    "alike": lambda there, here: torch.rand_like(there),
    "alike elsewhere": lambda there, here: torch.zeros_like(here, device=there.device),
    "made": lambda there, here: torch.arange(3, device="cuda:0"),
    "of numbers": lambda there, here: torch.tensor([1.0, 2.0], device=there.device),
    "as tensor": lambda there, here: torch.as_tensor(here, device=there.device),
    "made by PyTorch itself": lambda there, here: F.one_hot(there[0].long(), 3),
    "drawn": lambda there, here: torch.randn(2, device=there.device, generator=torch.Generator(there.device)),
    "under vmap": lambda there, here: torch.vmap(lambda row: row * row.new_ones(3))(there),
    "a gradient": lambda there, here: torch.func.grad(lambda row: row.square().sum())(there[0]),
    "a copy": lambda there, here: copy.deepcopy(there),
    "a layer's weight": lambda there, here: copy.deepcopy(nn.Linear(3, 1).to(there.device)).weight,
    "a layer's output": lambda there, here: nn.Sequential(nn.Linear(3, 4), nn.ReLU()).cuda()(there),
}


def test_results_lie_on_the_gpu(gpu: torch.device) -> None:
    for what, operation in THERE.items():
        result = operation(torch.ones(2, 3, device=gpu), torch.ones(2, 3))
        assert (result.device, result.is_cuda) == (gpu, True), what


HERE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "moved": lambda there, here: there.cpu(),
    "moved by example": lambda there, here: there.to(here),
    "a row that was copied into": lambda there, here: here[0].copy_(there[0]),
    "alike elsewhere": lambda there, here: torch.zeros_like(there, device="cpu"),
    "new elsewhere": lambda there, here: there.new_zeros(2, device="cpu"),
    "an array's": lambda there, here: torch.from_numpy(there.cpu().numpy()),
    "numbers": lambda there, here: torch.tensor([float(there.sum()), *there[0].tolist()]),
}


def test_results_lie_on_the_cpu(gpu: torch.device) -> None:
    for what, operation in HERE.items():
        result = operation(torch.ones(2, 3, device=gpu), torch.ones(2, 3))
        assert (result.device, result.is_cpu) == (torch.device("cpu"), True), what


def test_gradients_come_back_to_where_parameters_lie(gpu: torch.device) -> None:
    here, there = torch.ones(3, requires_grad=True), torch.ones(3, device=gpu, requires_grad=True)
    (here.to(gpu) * there).sum().cpu().backward()
    assert here.grad is not None
    assert there.grad is not None
    assert (here.grad.device.type, there.grad.device.type) == ("cpu", "cuda")
    layer = nn.Linear(3, 1).to(gpu)
    for optimizer in (torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9), torch.optim.Adam(layer.parameters())):
        layer(there).sum().backward()
        optimizer.step()
    assert all(parameter.is_cuda for parameter in layer.parameters())


def test_there_is_no_gpu_afterwards() -> None:
    before = torch.cuda.is_available(), torch.Generator
    with pretended_gpu() as device:
        kept = torch.ones(2, device=device)
        assert torch.cuda.is_available()
    assert (torch.cuda.is_available(), torch.Generator) == before
    assert kept.device == torch.device("cpu")
    with pretended_gpu():  # what a module remembers lies where it lay
        assert kept.is_cuda
