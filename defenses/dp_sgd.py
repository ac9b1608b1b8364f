"""DP-SGD by the clients: each example's gradient is clipped, and noise joins their sum.

Reference: Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang: Deep Learning with Differential Privacy. CCS 2016,
arXiv:1607.00133. There the sum is divided by the expected batch size ("lot"), as here. Noise is calibrated by bisection
on the accountant; the paper names epsilon after the fact.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from fedsec.defense import LocalDefense
from fedsec.defense.norms import bounded_sum, row_norms
from fedsec.errors import InputError
from fedsec.privacy import PrivateTraining, calibrate, check_accountant, check_delta, default_delta


class DpSgd(LocalDefense):
    """Clients train with DP-SGD: clipped per-example gradients, Poisson samples and Gaussian noise.

    (sum_i g_i min(1, C / ||g_i||) + N(0, (sigma C)^2 I)) / (q n) in each step.

    What is guaranteed: (epsilon, delta)-differential privacy of everything a client sends over the whole run, towards
    everybody, the server included. The unit is one example of one client (not a client, nor a person with several
    examples), added to or removed from its data while the number of its examples stays public (zero-out); replacing one
    costs more. Clients' data are disjoint, so the federation's epsilon is the largest
    client's. Clients that the run leaves out for lack of budget are known by that, which depends on sizes alone.

    What voids it: batches that are no Poisson samples, noise that is drawn twice, layers that couple examples (batch
    normalization), messages beside the update (FedGKT's feature maps), one example held by several clients (its
    epsilons then add up), choosing settings by looking at the same data without counting that, and an adversary who
    predicts the noise: it comes from PyTorch's reproducible generator, not from a cryptographic one, in floating-point
    numbers. The number of a client's examples counts as public. So this measures privacy in experiments; it is no
    deployment.

    Args:
        noise_multiplier: sigma, the noise's standard deviation over the clipping bound. Alone: no budget.
        target_epsilon: alone, each client's noise is calibrated so that taking part in every round spends no more.
            Beside noise_multiplier it is a budget, which ends a client's part in the run.
        max_grad_norm: C, the largest norm of an example's gradient over all parameters.
        delta: of the guarantee; null: n^-1.1, n the examples of the largest client, which is less than the 1 / n at
            which publishing one example at random would pass.
        accountant: rdp, an upper bound; prv, a tighter one, slower; gdp, an approximation that may underestimate.
        grad_sample_mode: how per-example gradients are formed: auto, or one of Opacus's ghost, hooks, functorch, ew.
        when_spent: client: who cannot afford another round takes no part any more; run: the run ends.

    Raises:
        InputError: neither noise nor target, or a number out of range.

    Cost:
        A gradient for each example in place of one for a batch: some times the time and, but for ghost norms, batch x d
        numbers. With prv as the accountant some seconds.

    Limits:
        It hides one example of one client, and no client. Clients of few examples need much noise for a small epsilon,
        which costs accuracy (docs/results/privacy_quickstart.csv); a large epsilon rules out little. Batch
        normalization is refused. A Byzantine client does not apply it.

    Example:
        noise_multiplier: 1.0

    Reference: Abadi et al., CCS 2016, arXiv:1607.00133
    """

    guarantee = "epsilon, delta: one example of one client, over the whole run, towards everybody"
    called_private = True

    def __init__(
        self,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        max_grad_norm: float = 1.0,
        delta: float | None = None,
        accountant: Literal["rdp", "prv", "gdp"] = "rdp",
        grad_sample_mode: Literal["auto", "ghost", "hooks", "functorch", "ew"] = "auto",
        when_spent: Literal["client", "run"] = "client",
    ) -> None:
        if noise_multiplier is None and target_epsilon is None:
            raise InputError("DpSgd needs noise_multiplier, target_epsilon, or both")
        if target_epsilon is not None and not (math.isfinite(target_epsilon) and target_epsilon > 0):
            raise InputError(f"DpSgd: target_epsilon must be positive and finite, not {target_epsilon}")
        if noise_multiplier == 0 and target_epsilon is not None:
            raise InputError("DpSgd: without noise no round stays within target_epsilon; expected more than 0")
        if delta is not None:
            check_delta(delta)
        check_accountant(accountant)
        if when_spent not in ("client", "run"):
            raise InputError(f"DpSgd: when_spent must be client or run, not {when_spent!r}")
        PrivateTraining(noise_multiplier or 0.0, max_grad_norm, grad_sample_mode)  # checks the others
        self.noise_multiplier, self.target_epsilon, self.max_grad_norm = noise_multiplier, target_epsilon, max_grad_norm
        self.delta, self.accountant, self.when_spent = delta, accountant, when_spent
        self.grad_sample_mode = grad_sample_mode
        self.budget = None if noise_multiplier is None else target_epsilon

    def prepare(self, sample_rate: float, steps: int, delta: float) -> PrivateTraining:
        noise = self.noise_multiplier
        if noise is None:
            assert self.target_epsilon is not None
            noise = calibrate(self.target_epsilon, delta, sample_rate, steps, self.accountant)
        return PrivateTraining(noise, self.max_grad_norm, self.grad_sample_mode)

    def delta_of(self, largest: int) -> float:
        return default_delta(largest) if self.delta is None else self.delta

    def perturb(
        self,
        per_example: Float[Tensor, "batch parameters"],
        generator: torch.Generator,
        noise_multiplier: float | None,
    ) -> Float[Tensor, "parameters"]:
        noise = self.noise_multiplier if noise_multiplier is None else noise_multiplier
        if noise is None:
            raise InputError("DpSgd: with target_epsilon alone, expected the noise_multiplier that `private` gave")
        norms = row_norms(per_example)
        finite = norms.isfinite()
        if not bool(finite.all()):  # zero times NaN is NaN: such examples are left out
            per_example, norms = per_example[finite], norms[finite]
        factors = self.max_grad_norm / norms.clamp_min(self.max_grad_norm)
        total = bounded_sum(per_example, norms, factors)
        drawn = torch.randn(total.shape, generator=generator, dtype=torch.float32)
        return total.add(drawn.to(total), alpha=noise * self.max_grad_norm)
