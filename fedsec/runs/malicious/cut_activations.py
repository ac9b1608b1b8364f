"""What a curious server sees of a client's images at the cut of a network: the first batch of the client's turn."""

from copy import deepcopy
from typing import TYPE_CHECKING

import torch

from fedsec.errors import InputError
from fedsec.federation.split.network import Crossing
from fedsec.federation.split.rounds import SplitFederation
from fedsec.inversion.server_view import pixel_scale
from fedsec.threat import FeatureObservation

if TYPE_CHECKING:
    from fedsec.runs.curious_server import CuriousServer

MOST_FEATURES = 8
"""Images reconstructed from feature maps unless the scenario says otherwise; each is independent of the others."""


def watch_cut(server: "CuriousServer", federation: SplitFederation) -> None:
    """Let a server that follows the protocol look at what its target sends.

    Args:
        server: whose target it is; its records take what is reconstructed.
        federation: that is watched, before any training.

    Raises:
        InputError: clients send no feature maps.
    """
    one, _ = federation.data.batch(torch.zeros(1, dtype=torch.int64, device=federation.data.device))
    with torch.no_grad():
        shape = tuple(federation.bottom(one).shape[1:])
    if len(shape) != 3:
        raise InputError(
            f"inversion: {server.name} inverts feature maps [channels, height, width], and clients send {shape} of an "
            "image; expected a convolutional model, cut before its first linear layer"
        )
    # Before any training, and before a kept state is restored: what the server handed out.
    initial, seen = deepcopy(federation.bottom), set[int]()
    exact = server.knowledge.extractor != "initial"
    chosen = slice(server.target.images or MOST_FEATURES)

    def see(crossing: Crossing) -> None:
        number = crossing.round
        if number not in server.target.rounds or crossing.client != server.target.client or number in seen:
            return
        seen.add(number)
        if not bool(crossing.sent[chosen].isfinite().all()):
            server.leave(number, "its feature maps were not finite: there is nothing to invert")
            return
        images, labels = federation.data.examples(crossing.examples[chosen])
        observation = FeatureObservation(
            federation.bottom if exact else initial,
            crossing.sent[chosen],
            server.dataset.image_shape,
            scale=pixel_scale(federation.data.normalization),
            labels=None if federation.algorithm.labels == "client" else labels,
            exact=exact,
        )
        with torch.random.fork_rng(devices=[]):
            server.reconstruct(number, observation, images, labels, ["the first batch of the client's turn"])

    federation.observers.append(see)
