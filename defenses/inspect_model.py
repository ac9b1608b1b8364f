"""A client looks at the model that it received, and does not train on one that was made to make it tell.

Reference: Garov, Dimitrov, Jovanovic, Vechev: Hiding in Plain Sight: Disguising Data Stealing Attacks in Federated
Learning. ICLR 2024, arXiv:2306.03013 (D-SNR and transmit-SNR). The other statistics are ours, each after the attack
that `fedsec.defense.inspection.weights` names.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from fedsec.defense import Inspection, ModelInspector, ReceivedModel
from fedsec.defense.inspection.architecture import differences
from fedsec.defense.inspection.example_gradients import layer_gradients
from fedsec.defense.inspection.weights import weight_statistics
from fedsec.errors import InputError

_WORDS = {
    "duplicated": "{value:.0%} of the rows of {layer} are multiples of each other (at most {limit:.0%}): neurons that "
    "differ only in their bias tell your examples apart by a threshold, and the differences of their gradients are "
    "your examples",
    "mirrored": "{value:.0%} of the rows of {layer} are their own negative half, scaled (at most {limit:.0%}): most "
    "neurons then react to a single example, whose input is the gradient of that neuron",
    "rank_deficit": "{value:.0%} of the rank of {layer} is missing (at most {limit:.0%}): its neurons measure the same "
    "few directions again and again",
    "concentration": "a kernel of {layer} has one weight {value:.3g} times as large as all its others together (at "
    "most {limit:.3g}): it hands its input on unchanged, so that a later layer sees your images",
    "gain": "the weights of {layer} are {value:.3g} times as large as its inputs call for (at most {limit:.3g})",
    "bias": "a bias of {layer} is {value:.3g} times as large as its usual row (at most {limit:.3g}): it switches a "
    "neuron, or all classes but one, on or off",
    "zero_rows": "{value:.0%} of the rows of {layer} are zero (at most {limit:.0%}): whole neurons were switched off",
    "d_snr": "one of your examples would leave {value:.3g} times as much in the gradient of {layer} as all others "
    "together, and not because the model is surer of those (at most {limit:.3g}): averaging over your batch would not "
    "hide it",
    "exposed": "{value:.0%} of the neurons of {layer} that learn from your examples, or differences of two, learn from "
    "a single one (at most {limit:.0%}): its input of that layer could be read from them",
    "idle": "{value:.0%} of the neurons of {layer} learn from none of your examples (at most {limit:.0%})",
    "moved": "the model moved {value:.3g} times as far as it usually does in a round (at most {limit:.3g})",
}
"""Statistic -> why it is a reason not to train."""
_OF_EXAMPLES = ("d_snr", "exposed", "idle")
_JUDGED = {"d_snr": "magnified"}
"""Check -> the statistic that is held against its limit, where that has another name."""
_FEWEST_EXAMPLES = 8
"""Of fewer, some stand out whatever the model is: their gradients are not judged."""


class InspectModel(ModelInspector):
    """Clients refuse to train on a model whose architecture, weights or gradients look made to leak.

    d_snr = max over layers, max_i ||g_i|| / sum_{j != i} ||g_j||, with g_i the gradient of example i.

    An example that a model is sure of leaves little in every layer, so that a converged model has a large D-SNR that
    nobody made. What is judged (`magnified`) is therefore the same of g_i / max(u_i, max_j u_j / 100), u_i the norm of
    example i's gradient at the outputs, where that is less: what happens on the way back from the outputs.

    Each check reports a statistic, the largest over layers, and refuses where that exceeds its limit; null switches a
    check off. Defaults lie above what benign models showed, and were then tried on others (docs/malicious_server.md).

    Args:
        architecture: refuse a model that differs from the expected one in anything but weights.
        d_snr: largest share of one example in a layer's gradient, over that of all others together, beyond what the
            model's confidence explains.
        exposed: largest share of a linear layer's learning neurons that learn from one example alone, or differ by one
            from a neuron that measures the same.
        idle: largest share of a linear layer's neurons that no example moves.
        duplicated: largest share of a layer's rows that are multiples of another.
        mirrored: largest share of rows whose positive half is the negative half, scaled.
        rank_deficit: largest missing share of a weight matrix's rank.
        concentration: largest weight of a convolution's kernel over the sum of its others (transmit-SNR).
        gain: largest root mean square of a layer's weights, times the root of its number of inputs.
        bias: largest bias of a layer over the median norm of its rows.
        zero_rows: largest share of a layer's rows that are zero.
        moved: largest distance from the last model over the median of earlier distances.
        batch: how many of its examples a client looks at; gradients of fewer than 8 are not judged.

    Raises:
        InputError: a limit that is not positive, or a batch of fewer than eight examples.

    Cost:
        One forward and backward pass of a batch a client and round, and a product of each weight matrix with itself.

    Limits:
        It sees what it looks for. A server that trains its model for the attack (SEER) has the statistics of a benign
        model; one that knows the checks lets four of a batch's images through each row, or changes a fifth of them,
        under noise, and reads less. What the same server sent in all rounds is no move. Honest models are refused where
        they leak as crafted ones do, or broke: most neurons died, or answer to single images; training diverged or
        jumped (0.8% of inspections on held-out settings, docs/malicious_server.md). Refusing tells the server something
        about the client's data, which no epsilon covers: beside dp_sgd the checks of examples must be off.

    Example:
        d_snr: 5.0

    Reference: Garov et al., ICLR 2024, arXiv:2306.03013
    """

    def __init__(
        self,
        architecture: bool = True,
        d_snr: float | None = 5.0,
        exposed: float | None = 0.3,
        idle: float | None = None,
        duplicated: float | None = 0.1,
        mirrored: float | None = 0.1,
        rank_deficit: float | None = 0.25,
        concentration: float | None = 3.0,
        gain: float | None = 20.0,
        bias: float | None = 10.0,
        zero_rows: float | None = 0.25,
        moved: float | None = 10.0,
        batch: int = 32,
    ) -> None:
        self.architecture, self.batch = architecture, batch
        of_rows = {"duplicated": duplicated, "mirrored": mirrored, "rank_deficit": rank_deficit}
        of_sizes = {"concentration": concentration, "gain": gain, "bias": bias, "zero_rows": zero_rows}
        self.limits = {**of_rows, **of_sizes, "d_snr": d_snr, "exposed": exposed, "idle": idle, "moved": moved}
        for name, limit in self.limits.items():
            if limit is not None and not limit > 0:
                raise InputError(f"InspectModel: {name} must be positive, or null to switch it off, got {limit}")
        if batch < _FEWEST_EXAMPLES:
            raise InputError(f"InspectModel: batch must be at least {_FEWEST_EXAMPLES} examples, got {batch}")
        self._weighed: tuple[list[Tensor], dict[str, tuple[str, float]]] | None = None
        self.examples = batch if any(self.limits[name] is not None for name in _OF_EXAMPLES) else 0

    def examine(self, received: ReceivedModel) -> Inspection:
        reasons: list[str] = []
        statistics: dict[str, float] = {}
        if received.expected is not None:
            changes = differences(received.model, received.expected)
            statistics["architecture"] = float(len(changes))
            if changes and self.architecture:
                more = f", and {len(changes) - 3} more" if len(changes) > 3 else ""
                reasons.append(f"it is not the model that was agreed upon: {'; '.join(changes[:3])}{more}")
        measured = dict(self._measured(received))
        statistics |= {name: value for name, (_, value) in measured.items()}
        for name, limit in self.limits.items():
            layer, value = measured.get(_JUDGED.get(name, name), ("", -math.inf))
            # A number that is none is no reason to trust.
            if limit is not None and not value <= limit:
                reasons.append(_WORDS[name].format(layer=layer, value=value, limit=limit))
        return Inspection(tuple(reasons), statistics)

    def _measured(self, received: ReceivedModel) -> Iterator[tuple[str, tuple[str, float]]]:
        """Each statistic with the layer in which it is largest."""
        largest = dict(self._of_weights(received.model))
        if received.examples is not None and received.targets is not None and self._looks_at(received.examples):
            for gradients in layer_gradients(received.model, received.examples, received.targets, received.loss):
                statistics = {"d_snr": gradients.d_snr(), "magnified": gradients.magnified()}
                statistics |= {"exposed": gradients.exposed(), "idle": gradients.idle()}
                _keep_largest(largest, gradients.name, statistics)
        yield from largest.items()
        if received.previous is not None:
            move = _distance(received.model, received.previous)
            yield "move", ("", move)
            if received.usual_moves:
                usual = torch.tensor(received.usual_moves, dtype=torch.float64).median()
                yield "moved", ("", move / max(float(usual), 1e-12))

    def _of_weights(self, model: nn.Module) -> dict[str, tuple[str, float]]:
        """What the weights alone tell; all clients of a round receive the same, which are looked at once."""
        weights = [weight.detach() for weight in model.parameters()]
        if self._weighed is not None and _equal(weights, self._weighed[0]):
            return self._weighed[1]
        largest: dict[str, tuple[str, float]] = {}
        for layer, statistics in weight_statistics(model):
            _keep_largest(largest, layer, statistics)
        self._weighed = weights, largest
        return largest

    def _looks_at(self, examples: Tensor) -> bool:
        return self.examples > 0 and len(examples) >= _FEWEST_EXAMPLES


def _equal(weights: list[Tensor], others: list[Tensor]) -> bool:
    pairs = zip(weights, others, strict=False)
    return len(weights) == len(others) and all(
        one.device == other.device and torch.equal(one, other) for one, other in pairs
    )


def _keep_largest(largest: dict[str, tuple[str, float]], layer: str, statistics: Mapping[str, float]) -> None:
    for name, value in statistics.items():
        if name not in largest or not value <= largest[name][1]:
            largest[name] = layer, value


def _distance(model: nn.Module, previous: Mapping[str, Tensor]) -> float:
    """Euclidean distance of the parameters that both have; infinite where one has what the other has not."""
    total = 0.0
    for name, weight in model.named_parameters():
        if name not in previous or previous[name].shape != weight.shape:
            return math.inf
        total += float((weight.detach().double() - previous[name].to(weight.device).double()).square().sum())
    return math.sqrt(total)
