"""Labels by model completion: the party puts a last layer of its own on the part of the network that it has.

Reference: Fu, Zhang, Ji, Chen, Wu, Guo, Zhou, Liu, Wang, Label inference attacks against vertical federated learning,
USENIX Security 2022 (passive label inference through model completion).

Deviation: the layer is trained on the known examples alone, by L-BFGS on regularized cross-entropy over standardized
activations, and the part below it stays as it is; the paper trains both, semi-supervised (MixMatch). So this is a lower
bound of what the paper's attacker reads.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedsec.errors import InputError
from fedsec.matching.lbfgs import LBFGS
from fedsec.threat import LabelInference, LabelView


class ModelCompletion(LabelInference):
    """Completes the party's part of the network by a linear layer, trained on a few examples with known labels.

    score(x, y) = log p(y | a(x)), of two classes log p(1 | a(x)) - log p(0 | a(x)), where a(x) are the activations

    Training lets a part of the network tell classes apart, whoever has the labels: it does so for its owner, too. What
    the same layer reads from the part as it was before training is what the known labels are worth by themselves.

    Args:
        penalty: weight of the squared norm of the layer's weights, beside the mean cross-entropy.
        iterations: of L-BFGS, at most.

    Raises:
        InputError: a number out of range.

    Cost:
        A small convex problem over the known examples.

    Limits:
        It needs known labels of every class; of classes without any it never says that an example has them. Defenses of
        gradients leave it alone as long as the network learns.

    Example:
        penalty: 0.01

    Reference: Fu et al., USENIX Security 2022
    """

    needs = ("known_labels",)

    def __init__(self, penalty: float = 0.01, iterations: int = 50) -> None:
        if not penalty > 0 or iterations < 1:
            raise InputError(
                f"ModelCompletion: penalty must be positive and iterations at least 1, got {penalty} and {iterations}"
            )
        self.penalty, self.iterations = penalty, iterations

    def score(self, view: LabelView) -> Float[Tensor, "..."]:
        assert view.known_activations is not None
        assert view.known_labels is not None
        everything = torch.cat([view.activations, view.known_activations]).double().cpu()
        scale = everything.std(0, correction=0)
        everything = (everything - everything.mean(0)) / torch.where(scale > 0, scale, 1)
        inputs, known = everything[: len(view.activations)], everything[len(view.activations) :]
        weight, bias = self._fitted(known, view.known_labels, view.num_classes)
        scores = torch.log_softmax(inputs @ weight.T + bias, 1)
        return scores[:, 1] - scores[:, 0] if view.num_classes == 2 else scores

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
