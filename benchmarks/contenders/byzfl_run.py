"""ByzFL's own runner on its sample configuration: one training, timed by itself; prints what it measured as JSON."""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from byzfl.benchmark import train


class Clock:
    """The time module as ByzFL's runner uses it; notes the processor's time, too."""

    def __init__(self) -> None:
        self.readings: list[float] = []

    def time(self) -> float:
        self.readings.append(time.process_time())
        return time.time()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="folder with FashionMNIST/raw")
    parser.add_argument("--rule", choices=["TrMean", "Krum"], required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # Its own entry for Fashion-MNIST flips images at random and does not normalize them; MNIST's does neither.
    train.dict_datasets["fashionmnist"] = ("FashionMNIST", train.transforms_mnist, train.transforms_mnist)
    with TemporaryDirectory() as folder:
        clock = Clock()
        train.time = clock  # it asks for the time before and after training
        begin = time.perf_counter()
        train.start_training(configuration(options, folder))
        whole = time.perf_counter() - begin
        (accuracies,) = Path(folder).rglob("test_accuracy*")
        (seconds,) = Path(folder).rglob("train_time*")
        measured = {
            "seconds": float(np.loadtxt(seconds)),
            "processor_seconds": clock.readings[-1] - clock.readings[0],
            "seconds_with_preparation": whole,
            "accuracy": float(np.loadtxt(accuracies, delimiter=",").ravel()[-1]),
        }
    print(json.dumps(measured))


def configuration(options: argparse.Namespace, results: str) -> dict[str, object]:
    """The sample configuration for DSGD on MNIST, with what the benchmark compares."""
    byzantine = 2
    return {
        "benchmark_config": {
            "training_algorithm": {"name": "DSGD", "parameters": {}},
            "nb_steps": options.steps,
            "device": "cpu",
            "training_seed": options.seed,
            "data_distribution_seed": options.seed,
            "nb_workers": 12,
            "nb_honest_clients": 10,
            "f": byzantine,
            "tolerated_f": byzantine,
            "size_train_set": 1.0,
            "data_distribution": {"name": "iid", "distribution_parameter": None},
        },
        "model": {
            "name": "cnn_mnist",
            "dataset_name": "fashionmnist",
            "nb_labels": 10,
            "loss": "NLLLoss",
            "learning_rate": 0.1,
            "learning_rate_decay": 1.0,
            "milestones": [],
        },
        "aggregator": {"name": options.rule, "parameters": {"f": byzantine}},
        "pre_aggregators": [{"name": "NNM", "parameters": {"f": byzantine}}],
        "honest_clients": {"momentum": 0.9, "weight_decay": 0.0001, "batch_size": 25},
        "attack": {"name": "ALittleIsEnough", "parameters": {"tau": 1.5}},
        "evaluation_and_results": {
            "evaluation_delta": options.steps,
            "batch_size_evaluation": 1000,
            "evaluate_on_test": True,
            "store_per_client_metrics": False,
            "store_models": False,
            "data_folder": options.data,
            "results_directory": results,
        },
    }


if __name__ == "__main__":
    main()
