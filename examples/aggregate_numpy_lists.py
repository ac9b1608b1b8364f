"""fedsec's rules where clients send lists of NumPy arrays, and no PyTorch model is anywhere.

Nine clients fit a linear classifier by gradient descent in NumPy. Three of them send what a colluding attacker makes
of their updates; the server calls `aggregate_arrays` instead of averaging.

    uv run python examples/aggregate_numpy_lists.py
"""

import numpy as np
import torch
from sklearn.datasets import load_digits

from fedsec.attacks import IPM, forge_state_dicts
from fedsec.defenses import Mean, MultiKrum, aggregate_arrays

NUM_CLIENTS, NUM_BYZANTINE, NUM_ROUNDS, NUM_STEPS = 9, 3, 10, 10
Arrays = list[np.ndarray]


def train_client(sent: Arrays, images: np.ndarray, labels: np.ndarray) -> Arrays:
    """The weights and biases of one client, after gradient descent on its cross-entropy from those that it was sent."""
    weights, biases = (array.copy() for array in sent)
    for _ in range(NUM_STEPS):
        scores = images @ weights + biases
        posteriors = np.exp(scores - scores.max(1, keepdims=True))
        posteriors /= posteriors.sum(1, keepdims=True)
        errors = (posteriors - np.eye(10)[labels]) / len(labels)
        weights -= 0.5 * images.T @ errors
        biases -= 0.5 * errors.sum(0)
    return [weights, biases]


def forged(received: list[Arrays], sent: Arrays, round_number: int) -> list[Arrays]:
    """What the server receives where the first clients push against the others' mean; by name, as attacks take it."""
    names = ("weights", "biases")
    states = [dict(zip(names, arrays, strict=True)) for arrays in received]
    reference = dict(zip(names, sent, strict=True))
    attacked, _ = forge_state_dicts(
        states, IPM(epsilon=3.0), reference=reference, byzantine=NUM_BYZANTINE, round=round_number
    )
    return [[state[name] for name in names] for state in attacked]


def main() -> None:
    """Train under attack, with the average and with a robust rule."""
    torch.set_num_threads(1)  # the model is too small for more
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = digits.data[order] / 16, digits.target[order]
    clients = list(
        zip(np.array_split(images[400:], NUM_CLIENTS), np.array_split(labels[400:], NUM_CLIENTS), strict=True)
    )

    for rule in (Mean(), MultiKrum(num_byzantine=NUM_BYZANTINE)):
        arrays = [np.zeros((64, 10)), np.zeros(10)]
        for round_number in range(1, NUM_ROUNDS + 1):
            received = forged([train_client(arrays, *client) for client in clients], arrays, round_number)
            arrays, verdict = aggregate_arrays(received, rule, reference=arrays)
        accuracy = float((np.argmax(images[:400] @ arrays[0] + arrays[1], 1) == labels[:400]).mean())
        byzantine = float(verdict.influence[:NUM_BYZANTINE].sum())
        print(f"{type(rule).__name__:9} accuracy {accuracy:6.1%}, influence of the attackers {byzantine:.1%}")


if __name__ == "__main__":
    main()
