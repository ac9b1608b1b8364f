"""fedsec's attacks and defenses inside somebody else's federated training loop.

The loop below is plain PyTorch and knows nothing of fedsec: ten clients train a small network on handwritten digits,
and the server averages their updates. Two lines let fedsec in: one poisons the data of four clients before training,
the other replaces the average.

    uv run python examples/aggregate_foreign_loop.py
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from fedsec.attacks import LabelFlip
from fedsec.defenses import Mean, Median

NUM_CLIENTS, NUM_BYZANTINE, NUM_ROUNDS, NUM_STEPS, BATCH_SIZE = 10, 4, 8, 30, 20


def local_update(model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """One client's update: how far its parameters move in a few steps of SGD."""
    start = parameters_to_vector(model.parameters()).detach()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(NUM_STEPS):
        batch = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(images[batch]), labels[batch]))
        optimizer.step()
    update = parameters_to_vector(model.parameters()).detach() - start
    vector_to_parameters(start, model.parameters())
    return update


def main() -> None:
    """Train with and without poisoned clients, with and without a defense."""
    torch.set_num_threads(1)  # the model is too small for more
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.data, dtype=torch.float32)[order] / 16
    labels = torch.tensor(digits.target)[order]
    test_images, test_labels = images[:400], labels[:400]

    for attacked, aggregate in ((False, Mean()), (True, Mean()), (True, Median())):
        clients = list(zip(images[400:].chunk(NUM_CLIENTS), labels[400:].chunk(NUM_CLIENTS), strict=True))
        if attacked:
            for client in range(NUM_BYZANTINE):
                attack_generator = torch.Generator().manual_seed(client)
                clients[client] = LabelFlip().poison(*clients[client], num_classes=10, generator=attack_generator)

        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        generator = torch.Generator().manual_seed(0)
        for _ in range(NUM_ROUNDS):
            updates = torch.stack([local_update(model, *client, generator) for client in clients])
            parameters = parameters_to_vector(model.parameters()).detach() + aggregate(updates)
            vector_to_parameters(parameters, model.parameters())

        accuracy = (model(test_images).argmax(1) == test_labels).double().mean()
        byzantine = aggregate.aggregate(updates).influence[:NUM_BYZANTINE].sum()
        what = f"{NUM_BYZANTINE} of {NUM_CLIENTS} clients flip labels" if attacked else "all clients honest"
        print(f"{what:32} {type(aggregate).__name__:6} accuracy {accuracy:6.1%}", end="")
        print(f", their influence in the last round {byzantine:.1%}" if attacked else "")


if __name__ == "__main__":
    main()
