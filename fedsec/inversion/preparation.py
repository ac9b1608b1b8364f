"""What an inversion needs before it begins: model, method, defense, device, and how many threads pay."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from fedsec.defense.updates import UpdateTransform, compose
from fedsec.errors import InputError
from fedsec.inversion.images import Victims
from fedsec.inversion.server_view import has_batch_statistics
from fedsec.inversion.settings import InversionSettings
from fedsec.matching.head import find_head
from fedsec.matching.separation.linear_chain import find_chain
from fedsec.metrics.lpips import BACKBONES, Lpips, MissingWeightsError
from fedsec.models import build
from fedsec.models.costs import module_costs
from fedsec.models.user_models import check_model, load_model
from fedsec.plugins import registry
from fedsec.threat import Inversion, Observation

__all__ = [
    "best_inversion",
    "build_defense",
    "build_inversion",
    "build_model",
    "choose_device",
    "load_lpips",
    "model_options",
    "paying_threads",
    "remarks_on",
    "threads_of_torch",
]

_SMALL = 1e8
"""Floating-point operations of a batch's forward pass below which one thread is taken without measuring."""
_GAIN = 1.25
"""How much faster several threads must be to be taken: they cost others, and suffer most from those."""


def build_model(settings: InversionSettings, victims: Victims, seed: int) -> nn.Module:
    """The model that is attacked, in float32.

    Args:
        settings: name, path or module, and options.
        victims: images that it takes.
        seed: of its initial weights.

    Raises:
        InputError: it cannot be made, or is no classifier of such images.
    """
    shape, classes = victims.input_shape, victims.num_classes
    if settings.own_model and settings.model_options:
        raise InputError("--model-option belongs to fedsec's models; a factory of your own takes none")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if isinstance(settings.model, nn.Module):
                model = deepcopy(settings.model)
                check_model(model, shape, classes)
            elif settings.own_model:
                model = load_model(settings.model, shape, classes)
            else:
                model = build(settings.model, shape, classes, **settings.model_options)
    except InputError as error:
        if "logits of shape" not in str(error):
            raise
        raise InputError(f"{error}; {_other_images(settings)}") from error
    return model.float()


def _other_images(settings: InversionSettings) -> str:
    """Where images come from that go with another number of logits."""
    if settings.own_images:
        return "--num-classes says how many logits the model has"
    return (
        f"the images are those of {getattr(settings.dataset, 'name', settings.dataset)}: --dataset takes others "
        "(digits and cifar10 have 10 classes), and --images with --num-classes your own"
    )


def build_inversion(settings: InversionSettings, name: str) -> Inversion:
    """The attacker's method, with its options."""
    if isinstance(settings.inversion, Inversion):
        return settings.inversion
    method: Inversion = registry.load("inversion", name)(**settings.resolved_options(name))
    return method


def best_inversion(settings: InversionSettings, model: nn.Module, observation: Observation) -> str:
    """The exact method where it applies, the general one elsewhere; the one that needs no last layer without it.

    Args:
        settings: is there a defense, are labels known?
        model: that is attacked.
        observation: of any batch.
    """
    observation = observation.as_gradient()
    head = find_head(observation)
    if head is None or head.weight_name not in observation.update:
        return "inverting_gradients" if settings.labels else "dlg"
    if settings.defense:
        # The exact method's equations do not survive most defenses; one attack for all makes defenses comparable.
        return "inverting_gradients"
    if observation.batch_size >= observation.num_classes or observation.local is not None:
        return "inverting_gradients"
    # Of a chain of linear layers images follow in closed form, kinks or not.
    follows = _is_smooth(model) or find_chain(observation, head) is not None
    return "decoupled" if follows else "inverting_gradients"


def _is_smooth(model: nn.Module) -> bool:
    """Whether pixels can be expected to follow from features: neither kinks, nor maxima, nor batch normalization."""
    kinks = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d)
    return not has_batch_statistics(model) and not any(isinstance(module, kinks) for module in model.modules())


def build_defense(settings: InversionSettings) -> UpdateTransform | None:
    """All defenses of the client's update as one, or None."""
    if not settings.defenses:
        return None
    return compose([registry.load("defense", name)(**options) for name, options in settings.defenses])


def remarks_on(settings: InversionSettings, model: nn.Module) -> list[str]:
    """What a reader should know of the model beside these settings, one line each."""
    remarks = []
    if any(_drops(module) for module in model.modules()):
        remarks.append("the model has dropout: client and attacker compute without it, which helps the attacker")
    if not has_batch_statistics(model):
        options = ["--client-mode eval"] if settings.client_mode == "eval" else []
        if settings.bn_statistics is not None:
            options.append(f"--bn-statistics {settings.bn_statistics}")
        remarks += [f"{option} has no effect: the model has no batch normalization" for option in options]
    return remarks


def _drops(module: nn.Module) -> bool:
    share = module.p if isinstance(module, _DropoutNd) else getattr(module, "dropout", 0.0)
    return isinstance(share, float) and share > 0


def choose_device(name: str) -> torch.device:
    """Where to compute.

    Raises:
        InputError: a GPU is asked for, and there is none.
    """
    if name != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise InputError("--device cuda: PyTorch finds no CUDA GPU; use --device cpu")
    return torch.device("cpu")


def load_lpips(settings: InversionSettings) -> tuple[Lpips | None, str | None]:
    """The perceptual distance, or one line of how to get it; only where it was asked for is anything downloaded."""
    try:
        return Lpips.load(settings.lpips or "alex", download=settings.lpips is not None), None
    except MissingWeightsError as error:
        if settings.lpips:
            return None, f"note: {error}"
        backbone, folder = BACKBONES["alex"], Path(torch.hub.get_dir()) / "checkpoints"
        return None, f"note: LPIPS needs weights; --lpips alex downloads them, or put {backbone.url} into {folder}"


def paying_threads(
    model: nn.Module, images: torch.Tensor, limit: int, clock: Callable[[], float] = time.perf_counter
) -> int:
    """How many CPU threads to compute with: one where more do not pay.

    Small models take one without measuring, so that their numbers do not depend on the moment. Others are timed here
    and now: beside other work, threads that wait for each other are slower than one by far.

    Args:
        model: that is attacked.
        images: a batch, as the model takes it.
        limit: threads that may be used.
        clock: seconds since any fixed moment.
    """
    if limit == 1 or images.is_cuda:
        return limit
    with suppress(Exception):  # a model that cannot be counted is timed
        if module_costs(deepcopy(model), tuple(images.shape[1:])).forward_flops * len(images) < _SMALL:
            return 1
    trial = deepcopy(model).eval()
    parameters = [parameter for parameter in trial.parameters() if parameter.requires_grad]

    def seconds(threads: int) -> float:
        with threads_of_torch(threads):
            times = []
            for _ in range(3):
                begun = clock()
                torch.autograd.grad(trial(images).square().sum(), parameters, allow_unused=True)
                times.append(clock() - begun)
        return min(times[1:])

    try:
        return limit if parameters and seconds(1) > _GAIN * seconds(limit) else 1
    except (RuntimeError, TypeError, ValueError):
        return 1  # the client will say what is wrong, in words


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """Let PyTorch compute with so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def model_options(settings: InversionSettings) -> dict[str, Any]:
    """All options of one of fedsec's models, defaults filled in; none of a model of one's own."""
    if not isinstance(settings.model, str) or settings.own_model:
        return {}
    return registry.check("model", settings.model, settings.model_options)
