"""fedsec's attacks and defenses inside somebody else's federated training loop.

The loop is plain PyTorch: ten clients learn handwritten digits, and the server averages their state dicts. Two lines
let fedsec in: one poisons the data of four clients before training, the other replaces the average.

    uv run python examples/aggregate_foreign_loop.py
"""

from collections.abc import Mapping
from copy import deepcopy

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fedsec.attacks import LabelFlip
from fedsec.defenses import Mean, Median, aggregate_state_dicts

NUM_CLIENTS, NUM_BYZANTINE, NUM_ROUNDS, NUM_STEPS, BATCH_SIZE = 10, 4, 8, 30, 20


def train_client(model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
    """What one client sends back: its state dict after a few steps of SGD from the model that it was sent."""
    client = deepcopy(model).train()
    optimizer = torch.optim.SGD(client.parameters(), lr=0.1, momentum=0.9)
    for _ in range(NUM_STEPS):
        batch = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(client(images[batch]), labels[batch]))
        optimizer.step()
    return client.state_dict()


def main() -> None:
    """Train with and without poisoned clients, with and without a defense."""
    torch.set_num_threads(1)  # the model is too small for more
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    shares = [(images[400 + first :: NUM_CLIENTS], labels[400 + first :: NUM_CLIENTS]) for first in range(NUM_CLIENTS)]
    for num_byzantine, rule in ((0, Mean()), (NUM_BYZANTINE, Mean()), (NUM_BYZANTINE, Median())):
        clients, flip = list(shares), torch.Generator().manual_seed(0)
        for client in range(num_byzantine):
            clients[client] = LabelFlip().poison(*shares[client], num_classes=10, generator=flip)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
        generator = torch.Generator().manual_seed(0)
        for _ in range(NUM_ROUNDS):
            received = [train_client(model, *client, generator) for client in clients]
            new, verdict = aggregate_state_dicts(received, rule, reference=model.state_dict())
            model.load_state_dict(new)
        accuracy = (model.eval()(images[:400]).argmax(1) == labels[:400]).double().mean()
        influence = verdict.influence[:num_byzantine].sum()
        print(f"{num_byzantine} of {NUM_CLIENTS} clients flip labels, {type(rule).__name__:6}", end=" ")
        print(f"accuracy {accuracy:6.1%}, their influence in the last round {influence:.1%}")


if __name__ == "__main__":
    main()
