"""Labels by model completion: the party puts a last layer of its own on the part of the network that it has.

Reference: Fu, Zhang, Ji, Chen, Wu, Guo, Zhou, Liu, Wang, Label inference attacks against vertical federated learning,
USENIX Security 2022 (passive label inference through model completion).

With `adapt` the attacker is the paper's: it trains the layer and its own part below it, semi-supervised (MixMatch).
Without, the layer is trained on the known examples alone, by L-BFGS on regularized cross-entropy over standardized
activations, and the part below it stays as it is. On digits with few known labels this read more than the paper's way
(docs/split_learning.md).

Deviations: the paper's layer begins at random and this one where the first kind of training left it; weights are the
last ones, not a moving average; the guesses come from two augmentations, as MixMatch has them and the authors' code has
not; for those of MixMatch see `fedsec.threat.cuts.mixmatch`.
"""

from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedsec.errors import InputError
from fedsec.matching.lbfgs import LBFGS
from fedsec.threat import LabelInference, LabelView
from fedsec.threat.cuts.mixmatch import MixMatch


class ModelCompletion(LabelInference):
    """Completes the party's part of the network by a linear layer, trained on a few examples with known labels.

    score(x, y) = log p(y | a(x)), of two classes log p(1 | a(x)) - log p(0 | a(x)), where a(x) are the activations

    Training lets a part of the network tell classes apart, whoever has the labels: it does so for its owner, too. What
    the same layer reads from the part as it was before training is what the known labels are worth by themselves.

    Args:
        penalty: weight of the squared norm of the layer's weights, beside the mean cross-entropy.
        iterations: of L-BFGS, at most.
        adapt: whether the layer and a copy of the party's own part of the network are trained further, on the known
            examples and on the party's guesses of the others.
        steps: of that training, with 64 examples of each kind.
        lr: its learning rate (Adam).
        consistency: weight of the term of the examples without labels, reached at the last step; 0: the known ones
            alone.

    Raises:
        InputError: a number out of range.

    Cost:
        A small convex problem over the known examples. With `adapt`, at each step, five passes of 64 examples through
        the own part, and three back.

    Limits:
        It needs known labels of every class; of classes without any it never says that an example has them. Defenses of
        gradients leave it alone as long as the network learns. `adapt` takes inputs that are numbers, not texts.

    Example:
        adapt: true

    Reference: Fu et al., USENIX Security 2022
    """

    needs = ("known_labels",)

    def __init__(
        self,
        penalty: float = 0.01,
        iterations: int = 50,
        adapt: bool = False,
        steps: int = 300,
        lr: float = 0.002,
        consistency: float = 50.0,
    ) -> None:
        if not penalty > 0 or iterations < 1:
            raise InputError(
                f"ModelCompletion: penalty must be positive and iterations at least 1, got {penalty} and {iterations}"
            )
        if steps < 1 or not lr > 0 or not consistency >= 0:
            raise InputError(
                "ModelCompletion: steps must be at least 1, lr positive and consistency not negative, got "
                f"{steps}, {lr} and {consistency}"
            )
        self.penalty, self.iterations, self.adapt = penalty, iterations, adapt
        self.steps, self.lr, self.consistency = steps, lr, consistency

    @property
    def requirements(self) -> tuple[str, ...]:
        return (*self.needs, "own_part") if self.adapt else self.needs

    def score(self, view: LabelView) -> Float[Tensor, "..."]:
        assert view.known_activations is not None
        assert view.known_labels is not None
        everything = torch.cat([view.activations, view.known_activations]).double().cpu()
        center, spread = everything.mean(0), everything.std(0, correction=0)
        scale = torch.where(spread > 0, spread, 1)
        everything = (everything - center) / scale
        inputs, known = everything[: len(view.activations)], everything[len(view.activations) :]
        weight, bias = self._fitted(known, view.known_labels, view.num_classes)
        if self.adapt:
            scores = self._adapted(view, center, scale, weight, bias)
        else:
            scores = torch.log_softmax(inputs @ weight.T + bias, 1)
        return scores[:, 1] - scores[:, 0] if view.num_classes == 2 else scores

    def _adapted(self, view: LabelView, center: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Log-probabilities of the candidates after training the layer and a copy of the own part."""
        assert view.own is not None
        assert view.known_labels is not None
        own, classes = view.own, view.num_classes
        device = own.inputs.device
        layer = _Layer(*(tensor.float() for tensor in (center, scale, weight, bias)))
        model = nn.Sequential(deepcopy(own.module), layer).to(device).eval().requires_grad_()
        # In an order that does not depend on how the candidates are listed: so neither do their scores.
        rows = own.inputs.cpu().numpy()
        order = sorted(range(len(rows)), key=lambda place: rows[place].tobytes())
        training = MixMatch(self.steps, self.lr, self.consistency)
        with torch.enable_grad():
            training.train(
                model,
                own.known_inputs,
                view.known_labels.to(device),
                own.inputs[order],
                classes,
                np.random.default_rng(0),
            )
        return torch.log_softmax(model(own.inputs), 1)

    def _fitted(self, inputs: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of the layer that fits the known examples."""
        width = inputs.shape[1]
        truth = torch.nn.functional.one_hot(labels.cpu(), num_classes).to(inputs)

        def evaluate(points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
            layer = points.view(num_classes, width + 1)
            weight, logits = layer[:, :width], inputs @ layer[:, :width].T + layer[:, width]
            loss = cross_entropy(logits, labels.cpu()) + self.penalty * weight.square().sum()
            error = (logits.softmax(1) - truth) / len(inputs)
            gradient = torch.cat([error.T @ inputs + 2 * self.penalty * weight, error.sum(0)[:, None]], 1)
            return loss[None], gradient.view(1, -1)

        search = LBFGS(evaluate, inputs.new_zeros(1, num_classes * (width + 1)))
        search.run(self.iterations)
        layer = search.points.view(num_classes, width + 1)
        return layer[:, :width], layer[:, width]


class _Layer(nn.Module):
    """A linear layer on activations that are standardized by fixed numbers."""

    def __init__(self, center: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.center, self.scale = nn.Buffer(center), nn.Buffer(scale)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, activations: Tensor) -> Tensor:
        return ((activations.flatten(1) - self.center) / self.scale) @ self.weight.T + self.bias
