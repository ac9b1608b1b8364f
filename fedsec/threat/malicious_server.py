"""The interface of malicious servers: they send a client a model of their own making, and read its update."""

from abc import abstractmethod
from copy import deepcopy
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedsec.arithmetic import arithmetic
from fedsec.errors import InputError
from fedsec.threat.inversion import Inversion
from fedsec.threat.observed.local_steps import LocalSteps
from fedsec.threat.observed.pixel_scale import PixelScale

__all__ = ["MaliciousServer", "ServerView"]


@dataclass(frozen=True, eq=False)
class ServerView:
    """All that a server knows when it makes the model that it sends. There is no field for the truth.

    Attributes:
        model: architecture and current weights, as the server would send them honestly.
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.
        batch_size: how many images the client has.
        scale: how pixels become the model's input.
        local: the client's local training, as the server prescribed it; None for a single gradient.
        auxiliary: images of the clients' kind that no client has, in [0, 1]; None where none are granted.
        auxiliary_labels: their classes.
        clients: whose updates the server sees in one sum, under secure aggregation; 1 where it sees the client's own.
        place: of this client among them, from 0.

    Raises:
        InputError: the parts do not go together.
    """

    model: nn.Module
    input_shape: tuple[int, int, int]
    num_classes: int
    batch_size: int
    scale: PixelScale = field(default_factory=PixelScale)
    local: LocalSteps | None = None
    auxiliary: Float[Tensor, "images channels height width"] | None = None
    auxiliary_labels: Int64[Tensor, "images"] | None = None
    clients: int = 1
    place: int = 0

    @property
    def summed(self) -> int:
        """How many images the update that the server sees is about, if all clients of a sum have as many."""
        return self.clients * self.batch_size

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.num_classes < 2:
            raise InputError(
                f"ServerView: batch_size must be at least 1 and num_classes at least 2, got {self.batch_size} and "
                f"{self.num_classes}"
            )
        if not 0 <= self.place < self.clients:
            raise InputError(
                f"ServerView: place must lie in [0, clients), got {self.place} and clients = {self.clients}"
            )
        images, labels = self.auxiliary, self.auxiliary_labels
        if images is None:
            if labels is not None:
                raise InputError("ServerView: auxiliary_labels without auxiliary images")
            return
        if images.ndim != 4 or tuple(images.shape[1:]) != tuple(self.input_shape) or not len(images):
            raise InputError(
                f"ServerView: auxiliary images must have shape (images, {', '.join(map(str, self.input_shape))}), got "
                f"{tuple(images.shape)}"
            )
        if not bool(((images >= 0) & (images <= 1)).all()):
            raise InputError("ServerView: auxiliary images must lie in [0, 1]")
        if labels is not None and labels.shape != (len(images),):
            raise InputError(f"ServerView: {len(images)} auxiliary images with {len(labels)} labels")


class MaliciousServer(Inversion):
    """A server that sends a model of its own making to a client, and reads the update that comes back.

        crafted = attack.craft(ServerView(model, input_shape, num_classes, batch_size))
        ...                                        # the client trains `crafted`, and sends its update
        attack.reconstruct(Observation.of_gradient(crafted, gradient, ...))

    A subclass fills in `build` and `recover`. What `recover` needs to know of the making lies in the model, so that the
    two may happen in different processes.

    Attributes:
        changes_architecture: whether it puts modules of its own into the model; else it changes weights only.
        separates_clients: whether each client of a sum receives a model of its own (see `ServerView.place`), by which
            its part of the sum is told from the others'; else all of them receive the same, made for one of them.
        needs_auxiliary: whether it is refused without labeled images of the server's own.
    """

    changes_architecture: ClassVar[bool] = False
    separates_clients: ClassVar[bool] = False
    needs_auxiliary: ClassVar[bool] = False

    @final
    def craft(self, view: ServerView, *, generator: torch.Generator | None = None) -> nn.Module:
        """The model that the server sends.

        Args:
            view: all that the server knows; left unchanged.
            generator: the only source of randomness, on the CPU; one seeded with 0 by default.

        Returns:
            A model of its own for the same images and classes, in the modes of the view's.

        Raises:
            InputError: the attack cannot be used on this model, or broke this contract.
        """
        name = type(self).__name__
        generator = generator or torch.Generator().manual_seed(0)
        if generator.device.type != "cpu":
            raise InputError(f"{name}: generator must be on the CPU, not on {generator.device}")
        held = {**dict(view.model.named_parameters()), **dict(view.model.named_buffers())}
        before = {key: tensor.detach().clone() for key, tensor in held.items()}
        with arithmetic(next(iter(held.values())).device):
            model = self.build(view, generator=generator)
        if not isinstance(model, nn.Module) or model is view.model:
            raise InputError(f"{name}.build: expected a new nn.Module, got {type(model).__name__}")
        if any(not torch.equal(tensor, before[key]) for key, tensor in held.items()):
            raise InputError(f"{name}.build changed the view's model; it must return a new one")
        own = {id(tensor) for tensor in held.values()}
        if any(id(tensor) in own for tensor in (*model.parameters(), *model.buffers())):
            raise InputError(f"{name}.build: the model shares tensors with the view's; expected copies")
        if not self.changes_architecture:
            _check_same_architecture(name, view.model, model)
        _check_output(name, view, model)
        return model

    @abstractmethod
    def build(self, view: ServerView, *, generator: torch.Generator) -> nn.Module:
        """The model that the server sends; see `craft`, which checks both sides of the contract."""


def _check_same_architecture(name: str, honest: nn.Module, crafted: nn.Module) -> None:
    shapes, theirs = ({key: (row.shape, row.dtype) for key, row in m.state_dict().items()} for m in (honest, crafted))
    layers, their_layers = ({key: type(module) for key, module in m.named_modules()} for m in (honest, crafted))
    if shapes != theirs or layers != their_layers:
        raise InputError(f"{name}.build: changes the architecture, and its changes_architecture says that it does not")


def _check_output(name: str, view: ServerView, model: nn.Module) -> None:
    trial = deepcopy(model).eval()
    parameter = next(trial.parameters())
    gray = torch.full((2, *view.input_shape), 0.5, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        logits = trial(view.scale.apply(gray))
    if tuple(logits.shape) != (2, view.num_classes):
        raise InputError(
            f"{name}.build: the model must give {view.num_classes} logits an image, got {logits.shape[1:]}"
        )
    if not bool(logits.isfinite().all()):
        raise InputError(f"{name}.build: the model's logits of a gray image are not finite")
