"""What normalization layers tell about the images that went through them."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.modules.batchnorm import _NormBase

from fedsec.matching.candidates import attacked_model
from fedsec.threat import Observation

__all__ = ["StatisticsPrior"]


class StatisticsPrior:
    """How far the statistics of candidate images are from those expected, in every batch-normalization layer.

    sum over layers of || mean - expected mean ||_2 + || variance - expected variance ||_2; expected are the batch's
    own where they are granted. Where they are not, they are the broadcast running statistics of the layers that
    normalize with these (in eval mode).

    Args:
        observations: of one model.
        owner: observation of each problem.

    Attributes:
        layers: names of the layers that count.

    Reference: Yin et al., Dreaming to distill, CVPR 2020, arXiv:1912.08795; See through gradients, CVPR 2021,
    arXiv:2104.07586
    """

    def __init__(self, observations: Sequence[Observation], owner: Int64[Tensor, "problems"]) -> None:
        self._model, self._owner = attacked_model(observations[0]), owner
        self._expected: dict[str, tuple[Tensor, Tensor]] = {}
        self._measured: dict[str, tuple[Tensor, Tensor]] = {}
        for name, layer in observations[0].model.named_modules():
            if not isinstance(layer, _NormBase):
                continue
            pairs = [_expected(name, layer, observation.statistics) for observation in observations]
            if all(pair is not None for pair in pairs):
                sound = [pair for pair in pairs if pair is not None]
                self._expected[name] = torch.stack([m for m, _ in sound]), torch.stack([v for _, v in sound])
                self._model.get_submodule(name).register_forward_pre_hook(partial(self._keep, name))

    @property
    def layers(self) -> list[str]:
        return list(self._expected)

    def __call__(
        self, inputs: Float[Tensor, "some batch c h w"], which: Int64[Tensor, "some"]
    ) -> Float[Tensor, "some"]:
        """The distance of each problem's statistics from the expected ones."""
        measured = self._measure(inputs[0]) if len(inputs) == 1 else vmap(self._measure, randomness="different")(inputs)
        total = inputs.new_zeros(len(inputs))
        for name, (mean, variance) in measured.items():
            rows = self._owner[which].to(inputs.device)
            for own, expected in zip((mean, variance), self._expected[name], strict=True):
                total = total + (own.view(len(inputs), -1) - expected[rows]).norm(dim=1)
        return total

    def _measure(self, inputs: Float[Tensor, "batch c h w"]) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and biased variance of each channel at the input of every layer that counts."""
        self._model(inputs)
        measured, self._measured = self._measured, {}
        return measured

    def _keep(self, name: str, layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        over = [0, *range(2, arguments[0].ndim)]
        self._measured[name] = arguments[0].mean(over), arguments[0].var(over, unbiased=False)


def _expected(
    name: str, layer: _NormBase, granted: Mapping[str, tuple[Tensor, Tensor]] | None
) -> tuple[Tensor, Tensor] | None:
    if granted is not None:
        return granted.get(name)
    if layer.training or layer.running_mean is None or layer.running_var is None:
        return None
    return layer.running_mean.clone(), layer.running_var.clone()
