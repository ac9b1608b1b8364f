"""breaching: its `invertinggradients` configuration, called as in its example without a simulation."""

from types import SimpleNamespace

import breaching
import torch
from inversion_workload import CLASSES, INPUT_SHAPE, LR, Attack, Problem, run
from torch import Tensor, nn


def prepare(problem: Problem) -> Attack:
    module = problem.module()
    mean, std = problem.scale()
    data = SimpleNamespace(
        modality="vision",
        size=(1,),
        classes=CLASSES,
        shape=INPUT_SHAPE,
        normalize=True,
        mean=problem.mean,
        std=problem.std,
    )
    payload = [{"parameters": list(module.parameters()), "buffers": list(module.buffers()), "metadata": data}]
    client = {"num_data_points": 1, "labels": problem.label, "local_hyperparams": None}
    shared = [{"gradients": problem.gradient, "buffers": None, "metadata": client}]
    setup = {"device": torch.device("cpu"), "dtype": torch.float32}

    def attack(iterations: int) -> Tensor:
        overrides = [
            f"optim.max_iterations={iterations}",
            f"optim.step_size={LR}",
            f"restarts.num_trials={problem.restarts}",
            # The same mean of absolute differences as the original's; its border counts as a difference to zero.
            f"regularization.total_variation.scale={problem.tv}",
        ]
        config = breaching.get_attack_config("invertinggradients", overrides)
        torch.manual_seed(problem.seed)
        attacker = breaching.attacks.prepare_attack(module, nn.CrossEntropyLoss(), config, setup)
        found, _ = attacker.reconstruct(payload, shared, {})
        return found["data"] * std + mean

    return attack


if __name__ == "__main__":
    run(prepare, {})
