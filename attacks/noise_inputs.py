"""Noisy inputs: train honestly, on inputs that are half noise.

Reference: Muñoz-González, Co, Lupu, Byzantine-robust federated machine learning through adaptive model averaging, 2019,
arXiv:1909.05125, whose noisy clients add uniform noise in [-1.4, 1.4] to every pixel. Here it is Gaussian noise.
"""

from math import isfinite
from typing import ClassVar

import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import DataPoisoning


class NoiseInputs(DataPoisoning):
    """Byzantine clients train on inputs with Gaussian noise; the targets stay as they are.

    x + std * z, with z normal in every pixel; of images what leaves [0, 1] is cut off.

    Args:
        std: standard deviation of the noise, positive; of images in pixels of [0, 1], of vectors in their own units.

    Raises:
        InputError: a deviation that is not positive and finite.

    Cost:
        What honest training costs.

    Limits:
        A weak attack: networks learn from noisy inputs, too, and the mean hardly suffers
        (docs/results/byzantine_zoo.csv).

    Reference: after Muñoz-González et al. 2019, arXiv:1909.05125
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification", "regression")

    def __init__(self, std: float = 0.5) -> None:
        if not (isfinite(std) and std > 0):
            raise InputError(f"NoiseInputs: std must be positive and finite, not {std}")
        self.std = std

    def corrupt(
        self, inputs: Tensor, targets: Tensor, *, num_classes: int | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        noise = torch.randn(inputs.shape, generator=generator, device=generator.device).to(inputs.device)
        if inputs.dtype == torch.uint8:
            noisy = (inputs.float() / 255 + self.std * noise).clamp_(0, 1)
            return (noisy * 255).round_().to(torch.uint8), targets
        noisy = inputs + (self.std * noise).to(inputs.dtype)
        return noisy.clamp(0, 1) if inputs.ndim == 4 else noisy, targets
