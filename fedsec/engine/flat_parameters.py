"""A module's parameters as views of one vector, laid out as its convolutions want them."""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.engine.parameters import ParameterLayout


class FlatParameters:
    """The trainable parameters of a module, which become views of one vector.

    With `channels_last` the numbers of a convolution's weight lie in another order than in the federation's vectors, so
    those are copied in and out by `write` and `read`; an optimizer, element by element, does not notice. All the others
    have the layout's order.

    Args:
        module: its parameters are moved into the vector.
        layout: of the federation's vectors.
        channels_last: whether weights of 2-d convolutions are laid out so.
    """

    def __init__(self, module: nn.Module, layout: ParameterLayout, *, channels_last: bool = False) -> None:
        self.layout, self.channels_last = layout, channels_last
        named = dict(module.named_parameters())
        self.tensors = [named[name] for name in layout.shapes]
        self.flat = torch.empty_like(layout.flatten(module))
        self.write(layout.flatten(module))
        for tensor, view in zip(self.tensors, self._views(self.flat), strict=True):
            tensor.data = view

    @torch.no_grad()
    def write(self, vector: Float[Tensor, "parameters"], into: Float[Tensor, "parameters"] | None = None) -> None:
        """Take over a vector in the layout's order; or arrange it in another vector of this order."""
        into = self.flat if into is None else into
        into.copy_(vector)
        self._exchange(self.layout.views(vector).values(), self._views(into))

    @torch.no_grad()
    def read(self, out: Float[Tensor, "parameters"], of: Float[Tensor, "parameters"] | None = None) -> None:
        """Copy the parameters, or another vector of this order, into a vector in the layout's order."""
        of = self.flat if of is None else of
        out.copy_(of)
        self._exchange(self._views(of), self.layout.views(out).values())

    @torch.no_grad()
    def gather(self, gradients: Sequence[Tensor], out: Float[Tensor, "parameters"]) -> Float[Tensor, "parameters"]:
        """Gradients of all parameters as one vector in this one's order."""
        rows = [(g.permute(0, 2, 3, 1) if self._permuted(g.shape) else g).reshape(-1) for g in gradients]
        return torch.cat(rows, out=out)

    def _exchange(self, sources: Iterable[Tensor], targets: Iterable[Tensor]) -> None:
        for source, target in zip(sources, targets, strict=True):
            if self._permuted(target.shape):
                target.copy_(source)

    def _views(self, flat: Tensor) -> list[Tensor]:
        """Parameters as views into a vector of this order."""
        pieces = torch.split(flat, [math.prod(shape) for shape in self.layout.shapes.values()])
        return [self._shaped(piece, shape) for piece, shape in zip(pieces, self.layout.shapes.values(), strict=True)]

    def _shaped(self, piece: Tensor, shape: torch.Size) -> Tensor:
        if not self._permuted(shape):
            return piece.view(shape)
        out, channels, height, width = shape
        return piece.view(out, height, width, channels).permute(0, 3, 1, 2)

    def _permuted(self, shape: Sequence[int]) -> bool:
        """Whether a parameter's numbers lie in another order; those of 1x1 convolutions do not."""
        return self.channels_last and len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1
