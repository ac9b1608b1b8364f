"""fedsec's Inverting Gradients."""

from importlib.metadata import version

import torch
from inversion_workload import CLASSES, INPUT_SHAPE, LR, Attack, Problem, run
from torch import Tensor

from fedsec.attacks.inverting_gradients import InvertingGradients
from fedsec.threat import Observation, PixelScale


def prepare(problem: Problem) -> Attack:
    observation = Observation.of_gradient(
        problem.module(),
        problem.gradient,
        input_shape=INPUT_SHAPE,
        num_classes=CLASSES,
        batch_size=1,
        scale=PixelScale(problem.mean, problem.std),
        labels=problem.label,
    )

    def attack(iterations: int) -> Tensor:
        # The published schedule, without the early drops that are fedsec's default: the same steps as the peers take.
        method = InvertingGradients(
            iterations=iterations, restarts=problem.restarts, lr=LR, tv=problem.tv, plateau=None
        )
        found = method.reconstruct(observation, generator=torch.Generator().manual_seed(problem.seed))
        assert found.images is not None
        assert found.iterations == iterations
        return found.images

    return attack


if __name__ == "__main__":
    run(prepare, {"fedsec": version("fedsec")})
