"""The original repository of Inverting Gradients: its `GradientReconstructor`."""

import inversefed
import torch
from inversion_workload import INPUT_SHAPE, LR, Attack, Problem, run
from torch import Tensor


def prepare(problem: Problem) -> Attack:
    module = problem.module()
    mean, std = problem.scale()

    def attack(iterations: int) -> Tensor:
        config = {
            "cost_fn": "sim",
            "optim": "adam",
            "signed": True,
            "boxed": True,
            "lr": LR,
            "lr_decay": True,
            "total_variation": problem.tv,
            "max_iterations": iterations,
            "restarts": problem.restarts,
            "scoring_choice": "loss",
            "init": "randn",
        }
        torch.manual_seed(problem.seed)
        reconstructor = inversefed.GradientReconstructor(module, (mean, std), config, num_images=1)
        inputs, _ = reconstructor.reconstruct(problem.gradient, problem.label, img_shape=INPUT_SHAPE)
        return inputs * std + mean

    return attack


if __name__ == "__main__":
    run(prepare, {})
