"""fedsec's attacks and defenses inside somebody else's federated training loop.

The loop below is plain PyTorch and knows nothing of fedsec: ten clients train a small network on handwritten digits,
and the server averages what they send back, state dicts. Two lines let fedsec in: one poisons the data of four clients
before training, the other replaces the average.

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
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.data, dtype=torch.float32)[order] / 16
    labels = torch.tensor(digits.target)[order]
    test_images, test_labels = images[:400], labels[:400]

    for attacked, rule in ((False, Mean()), (True, Mean()), (True, Median())):
        clients = list(zip(images[400:].chunk(NUM_CLIENTS), labels[400:].chunk(NUM_CLIENTS), strict=True))
        if attacked:
            for client in range(NUM_BYZANTINE):
                attack_generator = torch.Generator().manual_seed(client)
                clients[client] = LabelFlip().poison(*clients[client], num_classes=10, generator=attack_generator)

        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
        generator = torch.Generator().manual_seed(0)
        for _ in range(NUM_ROUNDS):
            received = [train_client(model, *client, generator) for client in clients]
            new, verdict = aggregate_state_dicts(received, rule, reference=model.state_dict())
            model.load_state_dict(new)

        accuracy = (model.eval()(test_images).argmax(1) == test_labels).double().mean()
        byzantine = verdict.influence[:NUM_BYZANTINE].sum()
        what = f"{NUM_BYZANTINE} of {NUM_CLIENTS} clients flip labels" if attacked else "all clients honest"
        print(f"{what:32} {type(rule).__name__:6} accuracy {accuracy:6.1%}", end="")
        print(f", their influence in the last round {byzantine:.1%}" if attacked else "")


if __name__ == "__main__":
    main()
