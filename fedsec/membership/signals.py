"""What many models say of many examples: one pass over the data, one number for each of both."""

import copy

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from fedsec.data.images import normalize
from fedsec.engine.messages import Start
from fedsec.engine.trainer import CohortTrainer
from fedsec.threat import rescaled_logits

__all__ = ["SIGNAL_BATCH", "signals_of"]

SIGNAL_BATCH = 500
"""Examples of a forward pass."""


@torch.no_grad()
def signals_of(
    trainer: CohortTrainer, models: Start, inputs: Tensor, labels: Int64[Tensor, "examples"]
) -> Float32[Tensor, "models examples"]:
    """Rescaled logits log(p / (1 - p)) of each example's class under each model, in evaluation mode.

    A batch is normalized once and goes through one model after the other: at this size a forward pass fills the
    machine, and stacked models would only take more memory (4 bytes for each model and example are kept, no more).

    Args:
        trainer: gives the architecture, the normalization and the arithmetic.
        models: parameters and running statistics, a row each; or one model's vectors.
        inputs: as they are stored: images in 0..255, or numbers.
        labels: their classes.

    Returns:
        On the CPU, where inferences weigh them, wherever the models were evaluated.
    """
    module = copy.deepcopy(trainer.module).to(inputs.device).eval()
    rows = models.parameters if models.parameters.ndim == 2 else models.parameters[None]
    statistics = models.statistics if models.statistics.ndim == 2 else models.statistics[None]
    signals = torch.empty(len(rows), len(inputs), dtype=torch.float32, device=labels.device)
    device, compute = inputs.device, trainer.compute
    with compute.arithmetic(device):
        for begin in range(0, len(inputs), SIGNAL_BATCH):
            part = slice(begin, begin + SIGNAL_BATCH)
            batch = compute.inputs(normalize(inputs[part], trainer.data.normalization))
            for place, row in enumerate(rows):
                trainer.layout.load(module, row)
                trainer.statistics.load(module, statistics[min(place, len(statistics) - 1)])
                with compute.autocast(device):
                    outputs = module(batch)
                signals[place, part] = rescaled_logits(outputs.double(), labels[part])
    return signals.cpu()
