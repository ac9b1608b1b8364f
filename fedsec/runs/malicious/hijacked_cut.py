"""A server of split learning that trains clients' part of the network for its own ends, and decodes what they send."""

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import nn

from fedsec.defense.activations import ActivationDefense
from fedsec.errors import InputError
from fedsec.federation.split.network import Crossing
from fedsec.federation.split.rounds import SplitFederation
from fedsec.inversion.server_view import pixel_scale
from fedsec.runs.malicious.cut_activations import MOST_FEATURES
from fedsec.threat import HijackingServer, HijackView

if TYPE_CHECKING:
    from fedsec.runs.curious_server import CuriousServer


def hijack_cut(server: "CuriousServer", federation: SplitFederation) -> None:
    """Put a hijacking server in the place of the honest one, before any training.

    Args:
        server: whose target is looked at; its records take what is decoded.
        federation: that it takes over.

    Raises:
        InputError: more auxiliary images than there are test images, a defense that would be the server's to apply, or
            a network whose weights cannot be drawn anew.
    """
    attack, images = server.inversion, server.dataset.test.inputs
    assert isinstance(attack, HijackingServer)
    if (count := server.knowledge.auxiliary) > len(images):
        raise InputError(f"inversion.knowledge.auxiliary: expected at most the {len(images)} test images, got {count}")
    for defense in federation.defenses:
        if federation.algorithm.labels != "client" and type(defense).perturb is not ActivationDefense.perturb:
            raise InputError(
                f"defense: {type(defense).__name__} is applied by whoever has the labels, and with federation.labels: "
                f"{federation.algorithm.labels} that is the malicious server; expected distance_correlation, none, or "
                "labels: client"
            )
    device = federation.data.device
    draws = server.streams.torch("malicious server", "hijack")
    chosen = torch.randperm(len(images), generator=draws)[:count]
    auxiliary = images[chosen].float().to(device) / 255
    scale, pilot = pixel_scale(federation.data.normalization), drawn_anew(federation.bottom, draws)
    hijack = attack.begin(HijackView(pilot, auxiliary, scale), generator=draws)
    federation.take_over(hijack, disguised=attack.disguised)
    server.inversion, server.mean_image = hijack, auxiliary.mean(0).cpu()
    seen = set[int]()

    def see(crossing: Crossing) -> None:
        number, target = crossing.round, server.target
        if number not in target.rounds or crossing.client != target.client or number in seen:
            return
        seen.add(number)
        part = slice(target.images or MOST_FEATURES)
        if not bool(crossing.sent[part].isfinite().all()):
            server.leave(number, "its activations were not finite: there is nothing to decode")
            return
        originals, labels = federation.data.examples(crossing.examples[part])
        server.reconstruct(number, crossing.sent[part], originals, labels, ["the first batch of the client's turn"])

    federation.observers.append(see)


def drawn_anew(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """A copy with weights as its layers draw them in the beginning.

    Args:
        network: left unchanged.
        generator: on the CPU.

    Raises:
        InputError: a layer that does not say how.
    """
    device = next(network.parameters()).device
    # Layers draw where their weights lie, and a GPU draws other numbers.
    copy, seed = deepcopy(network).cpu(), int(torch.randint(2**62, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, layer in copy.named_modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
            elif any(True for _ in layer.parameters(recurse=False)):
                raise InputError(f"layer {name} ({type(layer).__name__}) does not say how its weights are drawn")
    return copy.to(device).requires_grad_(True)
