"""Membership by how a signal moves over the rounds of a federation.

Reference: Chang, Edwards, Paul, Shokri, Efficient privacy auditing in federated learning, USENIX Security 2024.

Deviation: rounds that were not observed count as the time that passes between others; the paper observes every one.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat import MembershipInference, MembershipView


class Trajectory(MembershipInference):
    """Takes an example for a member the more, the faster the models observed came to fit it.

    score(x) = slope of the least-squares line through (round, signal of x), or of minus the loss

    What is hard for every model stays so, and what is easy was so from the first round: the slope takes the example's
    own hardness out, without a single shadow model. Clients that watch the global model have all that it needs.

    Args:
        signal: `loss`, `confidence` or `rescaled_logit`, of each model observed.

    Raises:
        InputError: no such signal.

    Cost:
        One pass of the candidates through each model observed.

    Limits:
        Models of a few rounds make noisy slopes; easy examples are learned in the first rounds whether or not they are
        trained on, and late rounds, in which members go on, weigh as much as these. It found nothing in a small network
        over twenty rounds (docs/reproduction.md).

    Example:
        signal: rescaled_logit

    Reference: Chang, Edwards, Paul, Shokri, USENIX Security 2024
    """

    needs = ("several_rounds",)

    def __init__(self, signal: Literal["loss", "confidence", "rescaled_logit"] = "loss") -> None:
        if signal not in ("loss", "confidence", "rescaled_logit"):
            raise InputError(f"Trajectory: signal must be loss, confidence or rescaled_logit, got {signal!r}")
        self.signal = signal

    def score(self, view: MembershipView) -> Float[Tensor, "examples"]:
        if self.signal == "loss":
            rows = -view.losses.double()
        else:
            rows = (view.confidences if self.signal == "confidence" else view.logits).double()
        times = torch.tensor(view.rounds, dtype=torch.float64, device=rows.device)
        times = times - times.mean()
        return times @ (rows - rows.mean(0)) / times.square().sum()
