"""ByzFL's sample configuration in fedsec: one training, timed; prints what it measured as JSON."""

import argparse
import json
import time

import numpy as np
import torch
from torch import nn

from fedsec.attacks import ALIE
from fedsec.data.datasets import Normalization, load
from fedsec.defense import Aggregator, Pipeline
from fedsec.defenses import NNM, Krum, TrimmedMean
from fedsec.engine import CohortTrainer, LocalTraining, ResidentData
from fedsec.federation import FedAvg, Federation, Threat
from fedsec.seeds import Streams

CLIENTS, BYZANTINE, BATCH = 12, 2, 25
MNIST = Normalization((0.1307,), (0.3081,))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rule", choices=["TrMean", "Krum"], required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    begin = time.perf_counter()
    federation = make(options)
    start, busy = time.perf_counter(), time.process_time()
    for _ in range(options.steps):
        result = federation.play()
    done = time.perf_counter()
    measured: dict[str, object] = {
        "seconds": done - start,
        "processor_seconds": time.process_time() - busy,
        "seconds_with_preparation": done - begin,
        "accuracy": result.metrics["accuracy"],
        "engine": federation.trainer.engine,
    }
    print(json.dumps(measured))


def make(options: argparse.Namespace) -> Federation:
    """Ten honest clients share all images but 50: two Byzantine ones, who forge what they send, have a batch each."""
    images = load("fashion_mnist")
    order = np.random.default_rng(options.seed).permutation(len(images.train.labels))
    few = BYZANTINE * BATCH
    clients = [*np.array_split(order[few:], CLIENTS - BYZANTINE), *np.array_split(order[:few], BYZANTINE)]
    torch.manual_seed(options.seed)
    module = network()
    data = ResidentData.build(images.train, clients, MNIST, torch.device("cpu"))
    trimmed: Aggregator = TrimmedMean(num_trimmed_per_side=BYZANTINE)
    return Federation(
        module,
        CohortTrainer(module, data, engine=options.engine),
        images.test,
        # The server's step of length 0.1 along the clients' averaged gradients: their one step has that length.
        algorithm=FedAvg(
            weighting="uniform",
            local=LocalTraining(steps=1, batch_size=BATCH, lr=0.1, weight_decay=1e-4, worker_momentum=0.9),
        ),
        aggregator=Pipeline([NNM(BYZANTINE), Krum(BYZANTINE) if options.rule == "Krum" else trimmed]),
        streams=Streams(options.seed),
        rounds=options.steps,
        num_classes=10,
        # 1.5 standard deviations added to the mean gradient, which updates point against.
        threat=Threat(frozenset(range(CLIENTS - BYZANTINE, CLIENTS)), ALIE(z=1.5)),
        evaluate_every=options.steps,
    )


def network() -> nn.Module:
    """Two convolutions of 5x5 with 20 and 50 filters, each with a pool, and 500 hidden units: 431,080 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


if __name__ == "__main__":
    main()
