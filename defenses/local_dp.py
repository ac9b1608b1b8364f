"""Flower's `LocalDpMod`: an update is shortened to a norm and covered by Gaussian noise, on the client.

Reference: Dwork, Roth, The algorithmic foundations of differential privacy, 2014, appendix A (the noise); Balle, Wang,
ICML 2018, arXiv:1805.06530 (what it is worth exactly). As in Flower 1.42, `flwr/clientapp/mod/localdp_mod.py`.

Deviations: an update of length zero is sent with noise, where Flower divides by its length and fails; epsilon and delta
of 0, which Flower accepts and then divides by, are refused; random numbers come from the given generator, where Flower
takes NumPy's process-wide one.
"""

from collections.abc import Mapping, Sequence
from math import isfinite, log, sqrt

import torch
from torch import Tensor

from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform, compose
from fedsec.defenses.clip import ClipUpdate
from fedsec.defenses.gaussian_noise import GaussianNoise
from fedsec.errors import InputError
from fedsec.privacy import check_delta
from fedsec.threat import Distortion


class LocalDp(UpdateTransform):
    """Shortens an update to a norm and adds Gaussian noise calibrated to epsilon and delta, in each round anew.

    u min(1, C / ||u||) + N(0, s^2 I),  s = sensitivity sqrt(2 ln(1.25 / delta)) / epsilon

    The unit is one client's whole update in one round, towards the server. Between any two updates of norm C lies up to
    2 C: where `sensitivity` is less, what holds is less than epsilon says, and the calibration itself is proven below
    epsilon 1 only. `epsilon_spent` says what holds in truth, exactly, and over R rounds: about sqrt(R) times as much
    for small epsilon, and faster beyond.

    Args:
        clipping_norm: C, in the update's own units; positive.
        epsilon: for one round; positive.
        delta: for one round, in (0, 1).
        sensitivity: how far apart in norm two updates can be; null: 2 C, with which epsilon is what it says as local
            privacy. Flower has no default for it.

    Raises:
        InputError: a number out of range.

    Cost:
        d random numbers for each client.

    Limits:
        Local privacy hides a client among all others by its own noise alone: at small epsilon the noise is many times
        the update. Nothing keeps an account of rounds. Numbers of examples and metrics are sent beside it, uncovered.

    Example:
        clipping_norm: 1.0
        epsilon: 50.0
        delta: 1.0e-5

    Reference: Balle & Wang, ICML 2018, arXiv:1805.06530
    """

    guarantee = "epsilon, delta: one client's update in one round, for each round anew; nobody adds them up"
    called_private = True
    draws = True

    def __init__(self, clipping_norm: float, epsilon: float, delta: float, sensitivity: float | None = None) -> None:
        given = {"clipping_norm": clipping_norm, "epsilon": epsilon, "sensitivity": sensitivity}
        for name, value in given.items():
            if value is not None and not (isfinite(value) and value > 0):
                raise InputError(f"LocalDp: {name} must be positive and finite, not {value}")
        check_delta(delta)
        self.clipping_norm, self.epsilon, self.delta = clipping_norm, epsilon, delta
        self.sensitivity = 2 * clipping_norm if sensitivity is None else sensitivity
        self.std = self.sensitivity * sqrt(2 * log(1.25 / delta)) / epsilon
        self._steps = compose([ClipUpdate(clipping_norm), GaussianNoise(self.std)])

    def epsilon_spent(self, rounds: int = 1, delta: float | None = None) -> float:
        """What holds in truth for one client that took part in so many rounds, as local privacy.

        Over R rounds it is that of a Gaussian mechanism with sqrt(R) 2 C / s, exactly.

        Args:
            rounds: in which it sent an update.
            delta: of the guarantee over all of them; the one for a round by default.

        Reference: Balle & Wang, ICML 2018, arXiv:1805.06530
        """
        from fedsec.auditing import epsilon_of_mu  # scipy is slow to import

        if rounds < 1:
            raise InputError(f"LocalDp: rounds must be at least 1, not {rounds}")
        return epsilon_of_mu(sqrt(rounds) * 2 * self.clipping_norm / self.std, self.delta if delta is None else delta)

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> dict[str, Tensor]:
        return self._steps(update, generator=generator, client=client)

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        return self._steps.known(sent, later)

    def known_of_sum(self, names: Sequence[str], share: float) -> Distortion | None:
        return self._steps.known_of_sum(names, share)
