"""Distributed differential privacy: each client bounds its update and adds its part of the noise of a secure sum.

Reference: Dwork, Kenthapadi, McSherry, Mironov, Naor, Our data, ourselves: privacy via distributed noise generation,
EUROCRYPT 2006; beside secure aggregation: Kairouz, Liu, Steinke, The distributed discrete Gaussian mechanism for
federated learning with secure aggregation, ICML 2021, arXiv:2102.06387.
"""

from collections.abc import Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor

from fedsec.defense.noise_share import NoiseShare
from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform, compose
from fedsec.defenses.clip import ClipUpdate
from fedsec.defenses.gaussian_noise import GaussianNoise
from fedsec.errors import InputError
from fedsec.privacy import Accountant, check_accountant, check_delta
from fedsec.threat import Distortion


class DistributedDp(UpdateTransform):
    """Shortens an update to a norm and adds an n-th of the variance that the noise of a sum of n clients shall have.

    u min(1, S / ||u||) + N(0, (z S)^2 / n I)

    Under secure aggregation the server sees sums alone, and in a sum of n clients the noise is z S. What is guaranteed:
    (epsilon, delta)-differential privacy of all sums that the server sees, and of all models, towards everybody outside
    of the sum. The unit is one client's part in the training, against nothing in its place; all weigh alike. With h
    clients in the smallest sum that a run may have, b of them attackers that forge, each round is a Gaussian mechanism
    with the multiplier z sqrt((h - b) / n): drop-outs take their noise with them, so that the account is of the fewest
    that a protocol goes on with. Without secure aggregation h is 1.

    Whom it trusts: h - b clients of each sum, to add their noise and keep it to themselves; a server that follows the
    protocol. Byzantine clients need not clip: that breaks no privacy but their own, and moves the model.

    Args:
        noise_multiplier: z.
        clients: n, by which the noise is divided; as many as a sum has.
        clip_norm: S, the largest norm of an update before noise.
        delta: of the guarantee; null: n^-1.1 for the n clients of the federation.
        accountant: rdp, an upper bound; prv, a tighter one, slower; gdp, an approximation that may underestimate.

    Raises:
        InputError: a number out of range.

    Cost:
        d random numbers for each client.

    Limits:
        Noise is that of real numbers; a protocol's ring rounds it, which no account covers, so that grids must be fine
        beside it (and are refused otherwise). No amplification by sampling: every client pays for every round.
        Drop-outs below the protocol's threshold are ruled out by it, Byzantine clients beyond those of the scenario
        are not.

    Example:
        noise_multiplier: 1.0
        clients: 10
        clip_norm: 0.5

    Reference: Kairouz et al., ICML 2021, arXiv:2102.06387, with Gaussian in place of discrete noise
    """

    guarantee = "epsilon, delta: one client, over the whole run, towards all but the other clients of a sum"
    draws = True

    def __init__(
        self,
        noise_multiplier: float,
        clients: int,
        clip_norm: float = 1.0,
        delta: float | None = None,
        accountant: Accountant = "rdp",
    ) -> None:
        if not (isfinite(noise_multiplier) and noise_multiplier >= 0):
            raise InputError(f"DistributedDp: noise_multiplier must be finite and not negative, not {noise_multiplier}")
        if not (isfinite(clip_norm) and clip_norm > 0):
            raise InputError(f"DistributedDp: clip_norm must be positive and finite, not {clip_norm}")
        if clients < 1:
            raise InputError(f"DistributedDp: clients must be at least 1, not {clients}")
        if delta is not None:
            check_delta(delta)
        check_accountant(accountant)
        self.noise_share = NoiseShare(float(noise_multiplier), clients, float(clip_norm), delta, accountant)
        self._steps = compose([ClipUpdate(self.noise_share.bound), GaussianNoise(self.noise_share.std)])

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        return self._steps(update, generator=generator, client=client)

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        return self._steps.known(sent, later)

    def known_of_sum(self, names: Sequence[str], share: float) -> Distortion | None:
        return self._steps.known_of_sum(names, share)
