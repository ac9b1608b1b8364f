"""Soteria: the entries of one layer's representation that tell most about the input are left out of the update.

Reference: Sun, Li, Wang, Hu, Chen, Soteria: provable defense against privacy leakage in federated learning from
representation perspective, CVPR 2021, arXiv:2012.06043. Section 5: among the representations r' that differ from r in
few entries (an L0 budget), the reconstruction from r' is farthest from the input where those r_i are zeroed whose
||r_i (d r_i / d X)^-1|| is largest; their columns are then missing from the gradient of the layer that r enters.

Deviations: as the authors' code does, the inverse is approximated, by |r_i| / ||d r_i / d X||. For several examples the
criterion is the mean over them, since a batch's gradient has one set of columns for all, and each example counts alike;
the authors' code adds quotients ||d r_i / d X|| / r_i, in which examples with r_i of different signs cancel. The budget
is an exact number of entries instead of a percentile.
"""

from collections.abc import Mapping
from copy import deepcopy
from math import floor

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform
from fedsec.errors import InputError
from fedsec.threat import Distortion

_AT_ONCE = 64
"""Entries whose gradients are computed together; bounds the memory."""


class Soteria(UpdateTransform):
    """Zeroes the columns of a linear layer's update that tell most about the client's images.

    Column i goes if it is among the share with the largest mean over examples of |r_i| / ||d r_i / d x||, where r is
    what enters the layer and x the example. Every other parameter is sent as it is, and an attacker who knows the
    defense leaves the empty columns out and matches the rest.

    Args:
        ratio: share of the layer's inputs whose columns are zeroed, in [0, 1); exactly floor(ratio n) of n.
        layer: name of the defended linear layer in the model; by default the last one.

    Raises:
        InputError: the ratio is out of range.

    Cost:
        A backward pass to the images for each input of the layer.

    Limits:
        An attacker who leaves the empty columns out recovers as much as without the defense
        (docs/results/inversion_defenses.csv). Other layers are sent as they are.

    Reference: Sun et al., CVPR 2021, arXiv:2012.06043
    """

    guarantee = "none: no noise is added"
    tasks = ("classification",)
    needs_client = True

    def __init__(self, ratio: float = 0.8, layer: str | None = None) -> None:
        if not 0 <= ratio < 1:
            raise InputError(f"Soteria: ratio must lie in [0, 1), not {ratio}")
        self.ratio, self.layer = ratio, layer

    def check_model(self, model: nn.Module) -> None:
        """Refuse a model without the linear layer.

        Raises:
            InputError: there is none, or none of this name.
        """
        linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
        if not linear or (self.layer is not None and self.layer not in linear):
            lacking = "no linear layer" if self.layer is None else f"no linear layer {self.layer!r}"
            known = ", ".join(map(repr, linear)) or "a model with one"
            raise InputError(f"Soteria: the model has {lacking}; expected {known}")

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        assert client is not None  # `needs_client`
        name = self._defended(update)
        telling = _criterion(client, name.removesuffix("weight").removesuffix("."))
        if telling.shape != update[name].shape[1:]:
            raise InputError(
                f"Soteria: {name!r} has {update[name].shape[1]} columns, the layer's input {telling.numel()} entries; "
                "expected a layer whose input is [examples, features]"
            )
        dropped = telling.argsort(descending=True, stable=True)[: self._number(update[name])]
        row = update[name].clone()
        row[:, dropped] = 0
        return {**update, name: row}

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        name = self._defended(sent)
        # The attacker can count: where noise came after, the shortest columns are the likeliest to have been dropped.
        lengths = torch.linalg.vector_norm(sent[name].double(), dim=0)
        columns = lengths > 0
        columns[lengths.argsort(stable=True)[: self._number(sent[name])]] = False
        return Distortion(kept={name: columns.expand(sent[name].shape)})

    def _number(self, weight: Tensor) -> int:
        # A ratio such as 0.7 is a little off in binary; 0.7 of 10 columns are seven.
        return floor(self.ratio * weight.shape[1] + 1e-9)

    def _defended(self, update: Mapping[str, Tensor]) -> str:
        """Name of the weight of the defended layer."""
        if self.layer is not None:
            name = f"{self.layer}.weight" if self.layer else "weight"
            if name not in update or update[name].ndim != 2:
                raise InputError(f"Soteria: the update has no matrix {name!r}; expected the name of a linear layer")
            return name
        matrices = [name for name, row in update.items() if row.ndim == 2 and name.rpartition(".")[2] == "weight"]
        if not matrices:
            raise InputError("Soteria: the update has no matrix called weight; expected a model with a linear layer")
        return matrices[-1]


def _criterion(client: ClientSide, name: str) -> Float[Tensor, "features"]:
    """Mean over examples of |r_i| / ||d r_i / d x||; infinite where an entry does not depend on the image."""
    # A copy: a forward pass in train mode moves running averages.
    model = deepcopy(client.model).requires_grad_(False)
    layer = dict(model.named_modules()).get(name)
    if not isinstance(layer, nn.Linear):
        raise InputError(f"Soteria: {name!r} is {type(layer).__name__}; expected the name of a linear layer")
    entered: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0]))
    images = client.images.detach().clone().requires_grad_()
    # Dropout draws from the global generators.
    with torch.enable_grad(), torch.random.fork_rng([images.device] if images.is_cuda else []):
        model(images)
    if len(entered) != 1 or entered[0].ndim != 2 or len(entered[0]) != len(images):
        raise InputError(f"Soteria: layer {name!r} must be used once, on [examples, features]")
    values = entered[0]
    rates = torch.cat([_rates(part, images) for part in torch.split(values.sum(0), _AT_ONCE)])
    magnitudes = values.detach().abs().T
    # An entry that is zero for an example tells nothing of it, whatever its gradient.
    criterion: Tensor = torch.where(magnitudes > 0, magnitudes / rates, 0.0).mean(1)
    return criterion


def _rates(totals: Float[Tensor, "some"], images: Tensor) -> Float[Tensor, "some examples"]:
    """||d r_i / d x|| of each example, some entries at once.

    Images of a batch do not influence each other's representation, but through batch normalization in train mode,
    whose cross terms are counted with the image that they come from.
    """
    if not totals.requires_grad:
        return images.new_zeros(len(totals), len(images))
    directions = torch.eye(len(totals), dtype=totals.dtype, device=totals.device)
    try:
        (gradients,) = torch.autograd.grad(totals, images, directions, retain_graph=True, is_grads_batched=True)
    except RuntimeError:
        # Some backward passes cannot be batched.
        rows = [torch.autograd.grad(totals, images, direction, retain_graph=True)[0] for direction in directions]
        gradients = torch.stack(rows)
    rates: Tensor = torch.linalg.vector_norm(gradients.flatten(2), dim=2)
    return rates
