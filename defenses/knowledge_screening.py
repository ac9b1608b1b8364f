"""Screening of what FedGKT's clients send: three tests that an honest client passes without trying.

FedGKT's paper leaves incorrect features and soft labels to be "detected and addressed". Each test compares a message
with itself or with the other clients' scale, never with other clients' data, so that clients with few classes pass too:

1. A client's logits teach only where they rank the label first that the same client sent.
2. The log of the root mean square of a client's features lies within some robust deviations of the clients' median.
3. A client's logits are a function of its features, so even a linear one of the features' channel moments (mean and
   root mean square) must predict them on examples that it was not fitted to. Shuffled or invented features predict
   nothing. Measured on FedGKT's client network with batch, group and no normalization, 50 to 500 CIFAR-10 images of 1
   to 10 classes, after 1 to 60 epochs: R^2 of 0.65 to 0.99 for honest clients, at most 0 for shuffled or noise.

What they cannot see: wrong labels with logits that agree with them (flipped before training, say), a minority of
wrong features among right ones, small changes of the features, and a scale that half of the clients share.

Reference: this project; the risk: He et al., NeurIPS 2020, arXiv:2007.14513 (Broader Impact); deviations by the median:
Iglewicz, Hoaglin, How to detect and handle outliers, ASQC 1993.
"""

from collections.abc import Sequence
from math import isfinite

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.defense.knowledge import Admission, KnowledgeDefense
from fedsec.errors import InputError
from fedsec.threat import Knowledge

_LEAST_DEVIATION = 0.25
"""Of the log scale, in nats. Few clients may agree by chance, or exactly; with the default threshold no client is left
out for features that are less than e times as large as the median client's."""

_NORMAL = 1.4826
"""Median absolute deviation -> standard deviation, for normal numbers."""

_FEWEST = 32
"""Examples below which a fit says too little about the features."""

_RIDGE = 0.1
"""Of standardized moments; makes shuffled features predict the mean rather than something wild."""


class KnowledgeScreening(KnowledgeDefense):
    """A FedGKT server leaves out logits that contradict their label, and clients whose features are not plausible.

    Args:
        agreement: distill a client's logits only where they rank the example's own label first.
        threshold: leave a client out whose features' log scale is more than so many robust deviations from the median
            client's; positive. null: not tested. Two clients are never told apart.
        consistency: leave a client out whose features explain a smaller share than this of its logits' variance, in
            (0, 1); null: not tested. Clients of fewer than 32 examples are not judged.

    Raises:
        InputError: a number out of range.

    Cost:
        Two passes over the feature maps, and a linear regression of each client's logits on two moments a channel.

    Limits:
        Not seen: wrong labels with logits that agree with them, such as labels flipped before training; a minority of
        wrong feature maps among right ones; small changes of them; a scale that half of the clients share.

    Reference: this project; cf. He et al., NeurIPS 2020, arXiv:2007.14513
    """

    def __init__(self, agreement: bool = True, threshold: float | None = 4.0, consistency: float | None = 0.1) -> None:
        if threshold is not None and not (isfinite(threshold) and threshold > 0):
            raise InputError(f"KnowledgeScreening: threshold must be positive and finite, not {threshold}")
        if consistency is not None and not 0 < consistency < 1:
            raise InputError(f"KnowledgeScreening: consistency must lie in (0, 1), not {consistency}")
        self.agreement, self.threshold, self.consistency = agreement, threshold, consistency

    def screen(self, clients: Sequence[Knowledge]) -> list[Admission]:
        moments = [_moments(client) for client in clients]
        admitted = [True] * len(clients)
        if self.threshold is not None:
            admitted = (_deviations(moments) <= self.threshold).tolist()
        if self.consistency is not None:
            pairs = zip(admitted, clients, moments, strict=True)
            admitted = [fine and _explained(rows, one.logits) >= self.consistency for fine, one, rows in pairs]
        verdicts = []
        for fine, client in zip(admitted, clients, strict=True):
            examples = torch.full((len(client),), float(fine), device=client.features.device)
            agrees = client.logits.argmax(1) == client.labels
            verdicts.append(Admission(examples, examples * agrees if self.agreement else examples.clone()))
        return verdicts


def _moments(client: Knowledge) -> Float64[Tensor, "examples moments"]:
    """Mean and root mean square of each channel of each example, on the CPU."""
    features = client.features.detach()
    wide = features if features.dtype == torch.float64 else features.float()
    # Squares of large finite features would overflow.
    largest = wide.abs().amax().clamp_min(torch.finfo(wide.dtype).tiny)
    unit = wide / largest
    pairs = torch.cat([unit.mean((2, 3)), unit.square().mean((2, 3)).sqrt()], 1)
    return pairs.cpu().double() * largest.cpu().double()


def _deviations(moments: Sequence[Float64[Tensor, "_ moments"]]) -> Float64[Tensor, "clients"]:
    """How many robust deviations each client's log scale lies from the median."""
    sizes = torch.stack([rows[:, rows.shape[1] // 2 :].square().mean().sqrt() for rows in moments])
    logs = sizes.clamp_min(torch.finfo(torch.float32).tiny).log()
    distances = (logs - logs.quantile(0.5)).abs()
    return distances / max(_NORMAL * float(distances.quantile(0.5)), _LEAST_DEVIATION)


def _explained(moments: Float64[Tensor, "examples moments"], logits: Float[Tensor, "examples classes"]) -> float:
    """Share of the logits' variance that ridge regression on the other half of the examples predicts; 1 if unknown."""
    answers = logits.detach().cpu().double()
    answers = answers / answers.abs().amax().clamp_min(1e-300)
    if len(answers) < _FEWEST:
        return 1.0
    even = torch.arange(len(answers)) % 2 == 0
    missed = spread = 0.0
    for fitted in (even, ~even):
        mean, deviation = moments[fitted].mean(0), moments[fitted].std(0)
        # A channel that never changes says nothing.
        varying = deviation > 1e-6 * mean.abs()
        inputs = (moments[:, varying] - mean[varying]) / deviation[varying]
        centered = answers - answers[fitted].mean(0)
        own = inputs[fitted]
        ridge = _RIDGE * len(own) * torch.eye(own.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(own.T @ own + ridge, own.T @ centered[fitted])
        missed += float((centered[~fitted] - inputs[~fitted] @ weights).square().sum())
        spread += float(centered[~fitted].square().sum())
    # Logits that never change are explained by anything.
    return 1 - missed / spread if spread > 1e-12 * float(answers.square().sum()) else 1.0
