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
Arrays = dict[str, np.ndarray]


def train_client(sent: Arrays, images: np.ndarray, labels: np.ndarray) -> Arrays:
    """The weights and biases of one client, after gradient descent on its cross-entropy from those that it was sent."""
    weights, biases = sent["weights"].copy(), sent["biases"].copy()
    for _ in range(NUM_STEPS):
        scores = images @ weights + biases
        posteriors = np.exp(scores - scores.max(1, keepdims=True))
        posteriors /= posteriors.sum(1, keepdims=True)
        errors = (posteriors - np.eye(10)[labels]) / len(labels)
        weights -= 0.5 * images.T @ errors
        biases -= 0.5 * errors.sum(0)
    return {"weights": weights, "biases": biases}


def main() -> None:
    """Train under attack, with the average and with a robust rule."""
    torch.set_num_threads(1)  # the model is too small for more
    digits = load_digits()
    images, labels = digits.data / 16, digits.target
    shares = [(images[400 + first :: NUM_CLIENTS], labels[400 + first :: NUM_CLIENTS]) for first in range(NUM_CLIENTS)]
    for rule in (Mean(), MultiKrum(num_byzantine=NUM_BYZANTINE)):
        model: Arrays = {"weights": np.zeros((64, 10)), "biases": np.zeros(10)}
        for number in range(1, NUM_ROUNDS + 1):
            trained = [train_client(model, *share) for share in shares]
            states, _ = forge_state_dicts(
                trained, IPM(epsilon=3.0), reference=model, byzantine=NUM_BYZANTINE, round=number
            )
            lists = [[state["weights"], state["biases"]] for state in states]
            arrays, verdict = aggregate_arrays(lists, rule, reference=[model["weights"], model["biases"]])
            model = {"weights": arrays[0], "biases": arrays[1]}
        accuracy = float((np.argmax(images[:400] @ model["weights"] + model["biases"], 1) == labels[:400]).mean())
        byzantine = float(verdict.influence[:NUM_BYZANTINE].sum())
        print(f"{type(rule).__name__:9} accuracy {accuracy:6.1%}, influence of the attackers {byzantine:.1%}")


if __name__ == "__main__":
    main()
