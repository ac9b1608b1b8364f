"""How close images are to their originals: PSNR, SSIM, MSE and, where its weights are at hand, LPIPS."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fedsec.errors import InputError

if TYPE_CHECKING:
    from fedsec.metrics.lpips import Lpips

__all__ = ["MAX_PSNR", "SSIM_WINDOW", "Fidelity", "measure", "mse", "psnr", "ssim", "ssim_window"]

MAX_PSNR = 100.0  # dB, an MSE of 1e-10; an exact match would otherwise make every mean infinite
SSIM_WINDOW = 7  # pixels a side; smaller only for images that are smaller
_ROUNDING = 1e-4  # how far rounding may carry a pixel out of [0, 1]


@dataclass(frozen=True)
class Fidelity:
    """One image beside its original.

    Attributes:
        psnr: in dB, at most `MAX_PSNR`; higher is closer.
        ssim: at most 1; higher is closer.
        lpips: perceptual distance, lower is closer; None without its weights.
        mse: of pixels in [0, 1]; lower is closer.
    """

    psnr: float
    ssim: float
    lpips: float | None
    mse: float


def measure(
    images: Float[Tensor, "batch channels height width"],
    originals: Float[Tensor, "batch channels height width"],
    lpips: "Lpips | None" = None,
) -> list[Fidelity]:
    """Every measure of each image, matched by index.

    Args:
        images: in [0, 1].
        originals: in [0, 1].
        lpips: the network to measure perceptual distances with, if there is one.

    Raises:
        InputError: see `mse` and `ssim`.
    """
    distances = [None] * len(originals) if lpips is None else lpips(images, originals).tolist()
    columns = (
        psnr(images, originals).tolist(),
        ssim(images, originals).tolist(),
        distances,
        mse(images, originals).tolist(),
    )
    return [Fidelity(*row) for row in zip(*columns, strict=True)]


def mse(
    images: Float[Tensor, "batch channels height width"], originals: Float[Tensor, "batch channels height width"]
) -> Float64[Tensor, "batch"]:
    """Mean squared error of each image's pixels.

    Args:
        images: in [0, 1].
        originals: in [0, 1], matched by index.

    Raises:
        InputError: not two equally large batches of finite pixels in [0, 1].
    """
    images, originals = checked(images, originals)
    return (images - originals).square().flatten(1).mean(1)


def psnr(
    images: Float[Tensor, "batch channels height width"], originals: Float[Tensor, "batch channels height width"]
) -> Float64[Tensor, "batch"]:
    """Peak signal-to-noise ratio of each image in dB: min(10 log10(1 / MSE), `MAX_PSNR`).

    Args:
        images: in [0, 1].
        originals: in [0, 1], matched by index.

    Raises:
        InputError: see `mse`.
    """
    import numpy as np
    from skimage.metrics import peak_signal_noise_ratio

    images, originals = checked(images, originals)
    with np.errstate(divide="ignore"):
        ratios = [
            float(peak_signal_noise_ratio(original, image, data_range=1))  # type: ignore[no-untyped-call]
            for original, image in zip(originals.numpy(), images.numpy(), strict=True)
        ]
    return torch.tensor(ratios, dtype=torch.float64).clamp_(max=MAX_PSNR)


def ssim(
    images: Float[Tensor, "batch channels height width"], originals: Float[Tensor, "batch channels height width"]
) -> Float64[Tensor, "batch"]:
    """Structural similarity of each image: uniform window, sample covariance, the mean over positions and channels.

    The window is `ssim_window` pixels a side and never leaves the image. (Wang et al. weight an 11 x 11 window by a
    Gaussian and take the population's covariance, which gives some 0.03 less on noisy 32 x 32 photographs.)

    Args:
        images: in [0, 1].
        originals: in [0, 1], matched by index.

    Raises:
        InputError: see `mse` and `ssim_window`.

    Reference: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
        similarity", IEEE Transactions on Image Processing 13(4), 2004.
    """
    from skimage.metrics import structural_similarity

    images, originals = checked(images, originals)
    window = ssim_window(images.shape[2], images.shape[3])
    options = {"data_range": 1, "channel_axis": 0, "win_size": window}
    similarities = [
        float(structural_similarity(original, image, **options))  # type: ignore[no-untyped-call]
        for original, image in zip(originals.numpy(), images.numpy(), strict=True)
    ]
    return torch.tensor(similarities, dtype=torch.float64)


def ssim_window(height: int, width: int) -> int:
    """Side of the window that SSIM uses: `SSIM_WINDOW`, or the largest odd number that fits a smaller image.

    Raises:
        InputError: the image is too small for any window.
    """
    side = min(height, width, SSIM_WINDOW)
    if side < 3:
        raise InputError(f"SSIM needs images of at least 3 x 3 pixels, not {height} x {width}")
    return side if side % 2 else side - 1


def checked(images: Tensor, originals: Tensor) -> tuple[Tensor, Tensor]:
    """Both batches in float64 on the CPU.

    Raises:
        InputError: not two equally large batches of finite pixels in [0, 1].
    """
    if images.ndim != 4 or images.shape != originals.shape or not images.numel():
        raise InputError(
            "expected images and originals of one shape [batch, channels, height, width], got "
            f"{tuple(images.shape)} and {tuple(originals.shape)}"
        )
    pair = []
    for name, tensor in (("images", images), ("originals", originals)):
        pixels = tensor.detach().to("cpu", torch.float64)
        if not tensor.is_floating_point() or not bool(pixels.isfinite().all()):
            raise InputError(f"{name} must be finite floating-point pixels, not {tensor.dtype} or not finite")
        low, high = float(pixels.min()), float(pixels.max())
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            raise InputError(f"{name} must have pixels in [0, 1], not in [{low:.4g}, {high:.4g}]")
        pair.append(pixels)
    return pair[0], pair[1]
