"""The task: data, model, training and evaluation, in plain PyTorch."""

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

LR, MOMENTUM, BATCH_SIZE = 0.1, 0.9, 20


def load_data(test: bool) -> tuple[Tensor, Tensor]:
    """Handwritten digits: pixels in [0, 1] and classes. Every fifth is a test example."""
    digits = load_digits()
    held_out = torch.arange(len(digits.target)) % 5 == 0
    chosen = held_out if test else ~held_out
    return torch.tensor(digits.images, dtype=torch.float32)[chosen] / 16, torch.tensor(digits.target)[chosen]


def owners(num_partitions: int) -> np.ndarray:
    """Which partition each training example belongs to: dealt out at random, the same wherever this is asked."""
    return np.random.default_rng(0).permutation(np.arange(len(load_data(test=False)[1])) % num_partitions)


def partition(partition_id: int, num_partitions: int) -> tuple[Tensor, Tensor]:
    """The examples of one node."""
    images, labels = load_data(test=False)
    own = torch.from_numpy(np.flatnonzero(owners(num_partitions) == partition_id))
    return images[own], labels[own]


def make_model() -> nn.Module:
    """A small network; the server's first one is everybody's."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def train(model: nn.Module, images: Tensor, labels: Tensor, steps: int, seed: int) -> float:
    """Local training by SGD with momentum; gives the loss of the last batch."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    loss = torch.zeros(())
    for _ in range(steps):
        batch = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        torch.autograd.backward(loss)
        optimizer.step()
    return float(loss.detach())


def accuracy(state: Mapping[str, Tensor]) -> float:
    """Share of the test digits that a model tells right."""
    model = make_model()
    model.load_state_dict(dict(state))
    images, labels = load_data(test=True)
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).double().mean())
