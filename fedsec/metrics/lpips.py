"""Perceptual distance, with backbone weights that are the published ones or are not used at all."""

import hashlib
import http.client
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor, nn

from fedsec.data.download import Progress, copy
from fedsec.errors import DataError, FedsecError, InputError
from fedsec.files import replacing
from fedsec.metrics.fidelity import checked

__all__ = ["BACKBONES", "MIN_SIDE", "Backbone", "Lpips", "MissingWeightsError", "Network"]

Network = Literal["alex", "vgg", "squeeze"]

MIN_SIDE = 64  # pixels; below, the backbones' last maps shrink to a pixel or to nothing
_CHUNK = 16  # images in one forward pass
_TIMEOUT = 10.0  # seconds without a byte


@dataclass(frozen=True)
class Backbone:
    """A published file of ImageNet weights.

    Args:
        file: its name in torch's folder of checkpoints.
        sha256_prefix: first hexadecimal digits of its hash.
        url: where its publisher offers it.
    """

    file: str
    sha256_prefix: str
    url: str


BACKBONES: dict[Network, Backbone] = {
    "alex": Backbone(
        "alexnet-owt-7be5be79.pth", "7be5be79", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
    ),
    "vgg": Backbone("vgg16-397923af.pth", "397923af", "https://download.pytorch.org/models/vgg16-397923af.pth"),
    "squeeze": Backbone(
        "squeezenet1_1-b8a52dc0.pth", "b8a52dc0", "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"
    ),
}


class MissingWeightsError(FedsecError):
    """The backbone's weights are not on this machine; the text is one line that says how to get them."""


class Lpips:
    """Learned perceptual image patch similarity: a weighted distance of a network's unit-normalized activations.

    Args:
        network: name of the backbone.
        module: of the package `lpips`, its backbone's weights loaded.

    Reference: Zhang, Isola, Efros, Shechtman and Wang, "The unreasonable effectiveness of deep features as a perceptual
        metric", CVPR 2018, arXiv:1801.03924 (version 0.1 of its linear layers).
    """

    def __init__(self, network: Network, module: nn.Module) -> None:
        self.network = network
        self._module = module.eval().requires_grad_(False)

    @classmethod
    def load(
        cls,
        network: Network = "alex",
        *,
        weights: Path | None = None,
        download: bool = True,
        progress: Progress | None = None,
    ) -> "Lpips":
        """The metric with the published weights of its backbone.

        They are looked for in `weights`, if that is given, and otherwise in torch's folder of checkpoints
        ($TORCH_HOME/hub/checkpoints), into which they are downloaded if they are not there.

        Args:
            network: the backbone.
            weights: the file of its weights, or the folder where that file lies.
            download: whether the network may be asked.
            progress: called with the file's name, the bytes so far and the bytes in all (None if the server does not
                say).

        Raises:
            InputError: there is no such network, or no such file as `weights`.
            MissingWeightsError: the weights are neither here nor could they be downloaded.
            DataError: a file is there but is not the published one.
        """
        if network not in get_args(Network):
            raise InputError(f"LPIPS: there is no network {network!r}, only {', '.join(get_args(Network))}")
        backbone = BACKBONES[network]
        if weights is not None:
            path = weights / backbone.file if weights.is_dir() else weights
            if not path.is_file():
                raise InputError(f"LPIPS: there is no file {path}; expected {backbone.file} from {backbone.url}")
        else:
            path = Path(torch.hub.get_dir()) / "checkpoints" / backbone.file
            if not path.is_file():
                _fetch(network, path, download, progress)
        return cls(network, _build(network, _read(path, backbone)))

    def name(self, height: int, width: int) -> str:
        """What to call the metric for images of this size: `lpips_alex`, or `lpips_alex@64` where they are enlarged."""
        return f"lpips_{self.network}" + (f"@{MIN_SIDE}" if min(height, width) < MIN_SIDE else "")

    @torch.no_grad()
    def __call__(
        self,
        images: Float[Tensor, "batch channels height width"],
        originals: Float[Tensor, "batch channels height width"],
    ) -> Float64[Tensor, "batch"]:
        """Distance of each image from its original; 0 for the same image.

        Images whose shorter side is below `MIN_SIDE` are enlarged to it bilinearly; gray ones get three equal channels.

        Args:
            images: in [0, 1], of one or three channels.
            originals: in [0, 1], matched by index.

        Raises:
            InputError: not two equally large batches of finite pixels in [0, 1], of one or three channels.
        """
        images, originals = checked(images, originals)
        if images.shape[1] not in (1, 3):
            raise InputError(f"LPIPS: images must have one or three channels, not {images.shape[1]}")
        chunks = [slice(begin, begin + _CHUNK) for begin in range(0, len(images), _CHUNK)]
        distances = [self._module(_prepared(images[c]), _prepared(originals[c]), normalize=True) for c in chunks]
        return torch.cat(distances).flatten().double()


def _prepared(images: Tensor) -> Tensor:
    """As the backbone wants them: float32, large enough, three channels."""
    images = images.to(torch.float32)
    height, width = images.shape[2:]
    shorter = min(height, width)
    if shorter < MIN_SIDE:
        size = (round(height * MIN_SIDE / shorter), round(width * MIN_SIDE / shorter))
        images = F.interpolate(images, size, mode="bilinear", align_corners=False)
    return images.expand(-1, 3, -1, -1)


def _fetch(network: Network, path: Path, download: bool, progress: Progress | None) -> None:
    """Download a backbone's file, whole and checked or not at all.

    Raises:
        MissingWeightsError: it could not be had.
    """
    backbone = BACKBONES[network]
    reason = "it may not be downloaded"
    if download:
        try:
            with replacing(path) as partial:
                said = None if progress is None else lambda _, *sizes: progress(path.name, *sizes)
                checksum = copy(backbone.url, partial, "sha256", said, _TIMEOUT)
                if not checksum.startswith(backbone.sha256_prefix):
                    raise OSError(f"the server gave another file (SHA-256 {checksum})")
            return
        except (OSError, http.client.HTTPException) as error:
            reason = f"the download failed ({getattr(error, 'reason', None) or error or type(error).__name__})"
    raise MissingWeightsError(
        f"LPIPS ({network}) needs {backbone.file}, and {reason}; get {backbone.url} and put it into {path.parent}"
    )


def _read(path: Path, backbone: Backbone) -> dict[str, Tensor]:
    """A backbone's weights by name, interpreted only if they are the published ones.

    Raises:
        DataError: they are not.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if not digest.startswith(backbone.sha256_prefix):
                raise DataError(
                    f"{path} is truncated, corrupt or not the published file (SHA-256 {digest[:16]}..., expected "
                    f"{backbone.sha256_prefix}...); delete it and get {backbone.url}"
                )
            file.seek(0)
            state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path} is unreadable ({error})") from error
    return state


def _build(network: Network, state: dict[str, Tensor]) -> nn.Module:
    """The package's module; its linear layers come with it, its backbone from torchvision's `state`."""
    # The random weights that the constructor draws are all replaced, so they must not move the caller's generator.
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # The package asks torchvision for an untrained network in the way of old versions.
        for message in ("The parameter 'pretrained' is deprecated", "Arguments other than a weight enum"):
            warnings.filterwarnings("ignore", message, UserWarning)
        import lpips

        module: nn.Module = lpips.LPIPS(net=network, pnet_rand=True, pretrained=True, verbose=False)
    backbone = module.get_submodule("net")
    # The slices keep torchvision's numbering: slice2.3.weight there is features.3.weight here.
    backbone.load_state_dict({name: state["features." + name.partition(".")[2]] for name in backbone.state_dict()})
    return module
