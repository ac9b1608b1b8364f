"""Plain centralized training, for attacks on trained networks, and a cache of what it made.

Adam with a learning rate that falls to zero along half a cosine, no augmentation: enough to tell a network of so many
epochs from an untrained one, sigmoid networks included (on which SGD often does not get away from chance), and nothing
else to configure.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data import Normalization
from fedsec.data.cache import cache_folder
from fedsec.data.dataset import Split
from fedsec.data.images import normalize
from fedsec.errors import InputError
from fedsec.files import replacing
from fedsec.randomness import seeded

__all__ = ["Training", "Watch", "train", "trained"]

_REVISION = 2
"""To be raised with any change of `train` that changes the weights: it makes cached ones obsolete."""

Watch = Callable[[int, float], None]
"""Called after each epoch with its number, from 1, and the mean loss of its batches."""


@dataclass(frozen=True)
class Training:
    """How long and how fast a network is trained.

    Args:
        epochs: passes over the images, at least 1.
        lr: Adam's learning rate in the first step, positive.
        batch_size: the most images in one step; an epoch is cut into batches of equal size, to within one image.

    Raises:
        InputError: a number out of range.
    """

    epochs: int
    lr: float = 3e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(
                f"training: epochs and batch_size must be at least 1, got {self.epochs} and {self.batch_size}"
            )
        if not 0 < self.lr < math.inf:
            raise InputError(f"training: lr must be positive, got {self.lr}")


def train(
    model: nn.Module,
    split: Split,
    normalization: Normalization,
    training: Training,
    *,
    generator: torch.Generator,
    watch: Watch | None = None,
) -> None:
    """Train a model in place, in train mode, on the device where it lies; its mode is kept.

    The rate of step t of T is lr / 2 (1 + cos(pi t / T)). `fedsec.metrics.evaluation.evaluate` measures the result.

    Args:
        model: trained from the weights that it has.
        split: the training images.
        normalization: of pixels.
        training: length and speed.
        generator: orders the images and seeds what the model itself draws (dropout); no global generator moves.
        watch: called after each epoch.

    Raises:
        InputError: the model has nothing to train, or the loss is no longer finite.
    """
    parameters = _trainable(model)
    device, dtype = parameters[0].device, parameters[0].dtype
    images, labels = split.images.to(device), split.labels.to(device)
    optimizer = torch.optim.Adam(parameters, training.lr)
    batches = -(-len(split) // training.batch_size)
    rates = _half_cosine(training.lr, training.epochs * batches)
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        with seeded(_integer(generator), device):
            for epoch in range(1, training.epochs + 1):
                order = torch.randperm(len(split), generator=generator, device=generator.device).to(device)
                total = torch.zeros((), device=device)
                for chosen in order.tensor_split(batches):
                    inputs = normalize(images[chosen], normalization).to(dtype)
                    loss = F.cross_entropy(model(inputs), labels[chosen])
                    _step(optimizer, loss, next(rates))
                    total += loss.detach()
                mean = float(total) / batches
                if not math.isfinite(mean):
                    raise InputError(
                        f"training: the loss of epoch {epoch} is {mean} at lr {training.lr}; use a smaller lr"
                    )
                if watch is not None:
                    watch(epoch, mean)
    finally:
        optimizer.zero_grad()
        for module, mode in modes.items():
            module.training = mode


def trained(
    model: nn.Module,
    split: Split,
    normalization: Normalization,
    training: Training,
    *,
    seed: int,
    architecture: str,
    folder: Path | None = None,
    watch: Watch | None = None,
) -> bool:
    """Train a model in place like `train`, or load what the same training made before.

    Weights are filed under a hash of all that decides them: architecture, initial weights, images and labels,
    normalization, training, seed, torch's version and the kind of device. A damaged file is replaced; a folder that
    cannot be written costs time, not correctness.

    Args:
        model: trained from the weights that it has.
        split: the training images.
        normalization: of pixels.
        training: length and speed.
        seed: of the generator that `train` gets.
        architecture: name and options of the model. Code that can change under the same name must not be cached: use
            `train` for a user's own model.
        folder: where weights are kept; by default in the user's cache.
        watch: called after each epoch, if the model is trained.

    Returns:
        Whether the weights were found and no training was needed.

    Raises:
        InputError: see `train`.
    """
    recipe = {
        "revision": _REVISION,
        "architecture": f"{architecture}\n{model}",
        "initial": _digest(model.state_dict()),
        "data": _digest({"images": split.images, "labels": split.labels}),
        "normalization": asdict(normalization),
        "training": asdict(training),
        "optimizer": "adam",
        "seed": seed,
        "torch": torch.__version__,
        "device": _trainable(model)[0].device.type,
    }
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    path = (folder or cache_folder() / "trained") / f"{key[:32]}.safetensors"
    if _load(path, model):
        return True
    train(model, split, normalization, training, generator=torch.Generator().manual_seed(seed), watch=watch)
    _save(path, model)
    return False


def _half_cosine(lr: float, steps: int) -> Iterator[float]:
    return (lr * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps))


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise InputError("training: the model has no trainable parameter")
    return parameters


def _load(path: Path, model: nn.Module) -> bool:
    """Whether the file is whole and fits the model; then its weights are in the model."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
            digest = (file.metadata() or {}).get("digest")
    except (OSError, SafetensorError):
        return False
    if digest != _digest(state) or _shapes(state) != _shapes(model.state_dict()):
        return False
    model.load_state_dict(state)
    return True


def _save(path: Path, model: nn.Module) -> None:
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    try:
        with replacing(path) as partial:
            save_file(state, partial, metadata={"digest": _digest(state)})
    except OSError:
        pass


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}


def _integer(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
