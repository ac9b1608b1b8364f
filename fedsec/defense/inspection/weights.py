"""What the weights of a model alone tell: rows that repeat, mirror themselves, or point at one input.

Such rows are how analytic attacks by a server work: imprinted bins are one row many times with a ladder of biases
(Fowl, Geiping, Czaja, Goldblum, Goldstein: Robbing the Fed. ICLR 2022, arXiv:2110.13057); trap weights are rows whose
positive half is the negative half, scaled down (Boenisch, Dziedzic, Schuster, Shamsabadi, Shumailov, Papernot: When the
Curious Abandon Honesty. EuroS&P 2023, arXiv:2112.02918); and a convolution hands an image on by kernels of one weight,
which the transmit-SNR of Garov et al. (ICLR 2024, arXiv:2306.03013) shows: |w| of the largest weight over the sum of
the others.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

_MOST_ROWS = 2048
"""Of a larger matrix the first rows are compared with each other."""
_FEWEST_ROWS, _FEWEST_COLUMNS = 8, 8
"""In fewer, rows are alike by chance, or by what the model is for: two classes have opposite rows."""
_ALIKE = 1 - 1e-4
"""Cosine from which on rows point the same way."""


def weight_statistics(model: nn.Module) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and statistics of each linear and convolutional layer; what does not apply to a layer is left out.

    `duplicated`: share of rows that are multiples of another. `mirrored`: share whose positive half is the negative
    half up to a factor. `rank_deficit`: share of the possible rank that is missing. `concentration`: transmit-SNR, of
    convolutions. `gain`: root mean square of the weights times the root of the inputs. `bias`: the largest bias over
    the median norm of rows. `zero_rows`: share of rows without any weight; none in a layer that has no weights at all,
    as heads and adapters may begin: it hands nothing back to the layers before it.
    """
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear | _ConvNd):
            continue
        weight = layer.weight
        assert isinstance(weight, Tensor)
        rows = weight.detach().flatten(1).double()
        if not bool(rows.isfinite().all()):
            yield name, {"gain": torch.inf}
            continue
        yield name, _of_rows(rows, layer)


def _of_rows(rows: Float[Tensor, "rows columns"], layer: nn.Module) -> dict[str, float]:
    norms = rows.norm(dim=1)
    nonzero = rows[norms > 0]
    statistics = {
        "gain": float(rows.square().mean().sqrt()) * rows.shape[1] ** 0.5,
        "zero_rows": float((norms == 0).double().mean()) if len(nonzero) else 0.0,
    }
    if isinstance(layer.bias, Tensor):
        typical = norms.median().clamp_min(1e-12)
        statistics["bias"] = float(layer.bias.detach().double().abs().max() / typical)
    if isinstance(layer, _ConvNd) and rows.shape[1] >= _FEWEST_COLUMNS:
        sizes = rows.abs()
        largest = sizes.amax(1)
        statistics["concentration"] = float((largest / (sizes.sum(1) - largest + 1e-6)).max())
    if rows.shape[1] < _FEWEST_COLUMNS or len(nonzero) < _FEWEST_ROWS:
        return statistics
    compared = nonzero[:_MOST_ROWS]
    compared = compared / compared.norm(dim=1, keepdim=True)
    products = compared @ compared.T
    alike = products.abs().fill_diagonal_(0).amax(1) > _ALIKE
    statistics["duplicated"] = float(alike.double().mean())
    statistics["mirrored"] = float(_mirrored(compared).double().mean())
    possible = min(compared.shape)
    if possible < _MOST_ROWS:
        gram = products if len(compared) <= compared.shape[1] else compared.T @ compared
        values = torch.linalg.eigvalsh(gram)
        statistics["rank_deficit"] = 1 - float((values > 1e-10 * values[-1]).sum()) / possible
    return statistics


def _mirrored(rows: Float[Tensor, "rows columns"]) -> Tensor:
    """Which rows have as many positive as negative weights, in pairs of one ratio."""
    half = rows.shape[1] // 2
    ordered = rows.sort(dim=1).values
    negative, positive = -ordered[:, :half], ordered[:, -half:].flip(1)
    balanced = (negative > 0).all(1) & (positive > 0).all(1)
    ratios = positive / negative.clamp_min(1e-30)
    center = ratios.median(dim=1, keepdim=True).values
    return balanced & (((ratios / center.clamp_min(1e-30)) - 1).abs().median(dim=1).values < 1e-3)
