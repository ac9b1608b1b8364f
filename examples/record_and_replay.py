"""What a server received, written down by any loop, and looked at afterwards.

Eight clients learn digits and the server averages; two flip their labels. The replay finds them, and the median's step.

    uv run python examples/record_and_replay.py
"""

import tempfile

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import fedsec

NUM_CLIENTS, NUM_ROUNDS, FLIPPING = 8, 4, ("site-2", "site-5")


def trained(model: nn.Module, start: dict[str, Tensor], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """One client's state dict after a few steps of gradient descent."""
    model.load_state_dict(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(10):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(images), labels))
        optimizer.step()
    return {name: row.clone() for name, row in model.state_dict().items()}


def main() -> None:
    """Record a loop, and replay it."""
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    shares = zip(images[400:].chunk(NUM_CLIENTS), labels[400:].chunk(NUM_CLIENTS), strict=True)
    clients = {f"site-{number}": share for number, share in enumerate(shares)}
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with tempfile.TemporaryDirectory() as folder:
        with fedsec.record(folder, reference=model, num_clients=NUM_CLIENTS) as recording:
            sent = {name: row.clone() for name, row in model.state_dict().items()}
            for number in range(1, NUM_ROUNDS + 1):
                received = {
                    who: trained(model, sent, x, 9 - y if who in FLIPPING else y) for who, (x, y) in clients.items()
                }
                after = {name: torch.stack([state[name] for state in received.values()]).mean(0) for name in sent}
                recording.round(number, sent=sent, received=received, after=after)
                sent = after
        told = fedsec.replay(folder, defense=["median"], model=model, test=(images[:400], labels[:400]))
    for one in told.rounds:
        farthest = sorted(one.clients, key=lambda part: part.distance or 0, reverse=True)[:2]
        mean, median = (rule.metrics["accuracy"] for rule in one.rules)
        away = ", ".join(f"{part.client} ({part.distance:.1f}x)" for part in farthest)
        print(
            f"round {one.round}: farthest from the others {away}; one step by the mean {mean:.1%}, median {median:.1%}"
        )


if __name__ == "__main__":
    main()
