"""How badly can a rule be fooled? Yours, and fedsec's beside it, by the attack that hurts each most.

Any function from rows to a vector is a rule. Sixteen honest clients train a small network on digits for one round, four
more send what does the most damage, knowing the rule; damage is a share of the honest mean's length.

    uv run python examples/worst_case_of_a_rule.py
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from fedsec.attacks import worst_case
from fedsec.defenses import NNM, GeometricMedian, Krum, Mean, Median, Pipeline

NUM_HONEST, NUM_BYZANTINE, NUM_STEPS = 16, 4, 20


def honest_updates() -> Tensor:
    """What honest clients send after some steps of training, a row each."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    start, rows = parameters_to_vector(model.parameters()).detach(), []
    for share in torch.randperm(len(labels)).chunk(NUM_HONEST):
        vector_to_parameters(start.clone(), model.parameters())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for batch in share[torch.randint(len(share), (NUM_STEPS, 16))]:
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(model(images[batch]), labels[batch]))
            optimizer.step()
        rows.append(parameters_to_vector(model.parameters()).detach() - start)
    return torch.stack(rows)


def shortest_half(rows: np.ndarray) -> np.ndarray:
    """A rule of one's own: the mean of the shorter half of the rows."""
    middle: np.ndarray = rows[np.argsort(np.linalg.norm(rows, axis=1))[: len(rows) // 2]].mean(0)
    return middle


def main() -> None:
    """Print the worst case of each rule."""
    torch.set_num_threads(1)
    updates = honest_updates()
    mixed = Pipeline([NNM(NUM_BYZANTINE), GeometricMedian()])
    rules = {"Mean": Mean(), "Median": Median(), "Krum": Krum(NUM_BYZANTINE), "NNM, GeometricMedian": mixed}
    results = {name: worst_case(rule, updates, NUM_BYZANTINE) for name, rule in rules.items()}
    results["shortest half (ours)"] = worst_case(shortest_half, updates.numpy(), NUM_BYZANTINE)
    for name, worst in results.items():
        damage = worst.damage / float(updates.mean(0).norm())
        print(f"{name:22} worst by {worst.attack:10} damage {damage:10.2f}")


if __name__ == "__main__":
    main()
