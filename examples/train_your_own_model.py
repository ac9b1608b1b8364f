"""Any `torch.nn.Module` in a fedsec federation, under attack: a sign-flipping minority against two rules.

uv run python examples/train_your_own_model.py
"""

import torch
from torch import nn

from fedsec.attacks import SignFlip
from fedsec.data import load, normalization
from fedsec.data.partitions import Dirichlet
from fedsec.defense import Aggregator
from fedsec.defenses import Mean, Median
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.federation import FedAvg, Federation, Threat
from fedsec.seeds import Streams

CLIENTS, ROUNDS = 12, 8


def my_model() -> nn.Module:
    """Whatever you like, dropout included; for batch normalization see `Federation`'s `bn`."""
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))


def accuracy(rule: Aggregator, num_byzantine: int) -> float:
    """Final test accuracy of one federation."""
    streams = Streams(0)
    dataset = load("digits")
    clients = Dirichlet(alpha=5.0)(
        dataset.train.labels.numpy(), CLIENTS, num_classes=10, rng=streams.numpy("partition")
    )
    data = ResidentData.build(dataset.train, clients, normalization("unit"), torch.device("cpu"))
    torch.manual_seed(streams.seed("init"))
    module = my_model()
    federation = Federation(
        module,
        CohortTrainer(module, data),
        dataset.test,
        algorithm=FedAvg(local=LocalTraining(epochs=2, batch_size=16, lr=0.1, momentum=0.9)),
        aggregator=rule,
        streams=streams,
        rounds=ROUNDS,
        num_classes=10,
        threat=Threat.draw(SignFlip(scale=5.0), num_byzantine, CLIENTS, streams),
    )
    for _ in federation.run():
        pass
    return federation.evaluate().metrics["accuracy"]


if __name__ == "__main__":
    for rule in (Mean(), Median()):
        clean, attacked = accuracy(rule, 0), accuracy(rule, 3)
        print(
            f"{type(rule).__name__:8} accuracy {clean:.3f}, with 3 of {CLIENTS} clients flipping signs {attacked:.3f}"
        )
