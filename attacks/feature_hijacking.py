"""Feature-space hijacking: a server trains clients' part of the network until it can read what they send.

Pasquini, Ateniese, Bernaschi, Unleashing the tiger: inference attacks on split learning, CCS 2021, arXiv:2012.02670
(the basic attack, with the Wasserstein loss and the gradient penalty that its experiments use).

Deviations: the pilot has the clients' architecture, with weights of its own, whatever the task's model is (the paper
designs one for each cut); decoder and critic are perceptrons over flattened activations (the paper's are convolutional,
made for 64x64 pixels); one step of each for each batch of a client; the penalty's weight is 10 (the paper's code: 500).
The clients' optimizer is the federation's.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from math import isfinite, prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from fedsec.errors import InputError
from fedsec.threat import Hijack, HijackingServer, HijackView

__all__ = ["FeatureHijacking"]

_SLOPE = 0.2
_KEPT = ("step", "exp_avg", "exp_avg_sq")
"""What Adam remembers of a parameter."""


class FeatureHijacking(HijackingServer):
    """Makes clients' activations look like those of a network of the server's own, which it knows how to invert.

        pilot p, decoder d: min E ||d(p(x')) - x'||^2
        critic c:           min E c(z) - E c(p(x')) + penalty E (||grad c|| - 1)^2
        to the client:      strength d/dz of -mean c(z)

    where z are the client's activations, x' the server's images, and the last expectation is over points between z and
    p(x'). Labels are not used, and the task is not learned. What a client sends is decoded by d.

    Args:
        width: hidden units of decoder and critic.
        lr: of Adam, for all three networks.
        penalty: weight of the critic's gradient penalty.
        strength: factor on what is passed on to clients; 0: they are left where they are, which is the null.
        disguise: train the server's part of the network on the task all the same: accuracy then rises.

    Raises:
        InputError: a number out of range.

    Cost:
        A step of three small networks for each batch of a client, at the server.

    Limits:
        It needs images of the clients' kind, some hundreds of batches, and clients that do not look at their gradients:
        these say nothing of labels, which a client that has them can test (SplitGuard; not built). Convolutional
        bottoms follow within some hundred batches of digits; those of `mlp` did not in two thousand.

    Example:
        width: 64

    Reference: Pasquini et al., CCS 2021, arXiv:2012.02670
    """

    def __init__(
        self,
        width: int = 256,
        lr: float = 1e-3,
        penalty: float = 10.0,
        strength: float = 1.0,
        disguise: bool = False,
    ) -> None:
        if width < 1 or not lr > 0 or not isfinite(lr):
            raise InputError(f"FeatureHijacking: width must be at least 1 and lr positive, got {width} and {lr}")
        for name, number in {"penalty": penalty, "strength": strength}.items():
            if not (isfinite(number) and number >= 0):
                raise InputError(f"FeatureHijacking: {name} must not be negative, got {number}")
        self.width, self.lr, self.penalty, self.strength = width, lr, penalty, strength
        self.disguised = disguise

    def begin(self, view: HijackView, *, generator: torch.Generator) -> Hijack:
        return _FeatureHijack(self, view, generator)


class _FeatureHijack(Hijack):
    """The attack's three networks and their optimizers."""

    def __init__(self, attack: FeatureHijacking, view: HijackView, generator: torch.Generator) -> None:
        self.attack, self.view, self.input_shape = attack, view, view.input_shape
        self.pilot = view.pilot.requires_grad_(True)
        features, width = prod(view.sent_shape), attack.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            self.decoder = nn.Sequential(*_perceptron([features, width, prod(view.input_shape)]), nn.Sigmoid())
            self.critic = nn.Sequential(*_perceptron([features, width, width, 1]))
        device = view.auxiliary.device
        self.networks = {"pilot": self.pilot, "decoder": self.decoder.to(device), "critic": self.critic.to(device)}
        coder = [*self.pilot.parameters(), *self.decoder.parameters()]
        self.adams = (torch.optim.Adam(coder, attack.lr), torch.optim.Adam(self.critic.parameters(), attack.lr))

    def pull(self, sent: Tensor, *, generator: torch.Generator) -> Tensor:
        ends = sent.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(-self.attack.strength * self.critic(ends).mean(), ends)
        images = self.view.auxiliary
        chosen = torch.randint(len(images), (len(sent),), generator=generator).to(images.device)
        piloted = self.pilot(self.view.scale.apply(images[chosen]))
        mismatch = mse_loss(self.decoder(piloted), images[chosen].flatten(1))
        _descend(self.adams[0], mismatch)
        own = piloted.detach()
        places = torch.rand(len(sent), *[1] * (sent.ndim - 1), generator=generator).to(sent)
        between = (places * own + (1 - places) * sent).requires_grad_()
        (slopes,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        penalty = (slopes.flatten(1).norm(dim=1) - 1).square().mean()
        _descend(self.adams[1], self.critic(sent).mean() - self.critic(own).mean() + self.attack.penalty * penalty)
        return gradient

    def decode(self, features: Tensor) -> Float[Tensor, "batch channels height width"]:
        images: Tensor = self.decoder(features)
        return images.view(-1, *self.input_shape)

    def state(self) -> dict[str, Tensor]:
        networks = {
            f"{part}.{name}": row for part, net in self.networks.items() for name, row in net.state_dict().items()
        }
        return {name: row.clone() for name, row in chain(networks.items(), self._remembered().items())}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        for part, network in self.networks.items():
            network.load_state_dict({name: state[f"{part}.{name}"] for name in network.state_dict()})
        for place, adam in enumerate(self.adams):
            for number, parameter in enumerate(adam.param_groups[0]["params"]):
                memory = {name: state[f"adam.{place}.{number}.{name}"].clone() for name in _KEPT}
                adam.state[parameter] = memory

    def _remembered(self) -> dict[str, Tensor]:
        """Of the optimizers; zeros before the first step, as Adam begins with."""
        rows = {}
        for place, adam in enumerate(self.adams):
            for number, parameter in enumerate(adam.param_groups[0]["params"]):
                memory = adam.state.get(parameter) or {"step": torch.zeros(())}
                for name in _KEPT:
                    rows[f"adam.{place}.{number}.{name}"] = memory.get(name, torch.zeros_like(parameter)).detach()
        return rows


def _perceptron(sizes: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(sizes[0], sizes[1])]
    for before, after in pairwise(sizes[1:]):
        layers += [nn.LeakyReLU(_SLOPE), nn.Linear(before, after)]
    return layers


def _descend(adam: torch.optim.Adam, loss: Tensor) -> None:
    adam.zero_grad()
    torch.autograd.backward(loss)
    adam.step()
