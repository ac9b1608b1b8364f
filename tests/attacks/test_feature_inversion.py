"""Feature inversion: images from a known extractor, from a drifted one, and what cannot be known."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import InvertFeatures
from fedsec.errors import InputError
from fedsec.threat import FeatureObservation, PixelScale, Reconstruction, Snapshot

SCALE = PixelScale((0.5, 0.45, 0.4), (0.25, 0.24, 0.26))
SHAPE = (3, 12, 12)


def stem(norm: str = "bn", seed: int = 0) -> nn.Sequential:
    """FedGKT's stem, fresh but for running statistics that are not the initial ones."""
    layer: nn.Module = nn.BatchNorm2d(16) if norm == "bn" else nn.GroupNorm(2, 16)
    made = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), layer, nn.ReLU())
    generator = torch.Generator().manual_seed(seed)
    made[0].weight.data.normal_(0, 0.12, generator=generator)
    return made.eval()


def drifted(start: nn.Sequential) -> nn.Sequential:
    """The same after some training: weights moved by a fifth, running statistics found."""
    made = stem()
    made.load_state_dict(start.state_dict())
    generator = torch.Generator().manual_seed(5)
    made[0].weight.data.add_(torch.randn(made[0].weight.shape, generator=generator), alpha=0.024)
    made[1].running_mean.add_(torch.randn(16, generator=generator), alpha=0.1)
    made[1].running_var.mul_(torch.rand(16, generator=generator) + 0.2)
    return made


def images(count: int = 3) -> Tensor:
    """Smooth colors with some texture."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, size=SHAPE[1:], mode="bilinear", align_corners=True)
    return (smooth + 0.1 * torch.rand(count, *SHAPE, generator=generator)).clamp(0, 1)


def observe(known: nn.Module, own: nn.Module, exact: bool, scale: PixelScale = SCALE) -> FeatureObservation:
    with torch.no_grad():
        features = own(scale.apply(images()))
    return FeatureObservation(known, features, SHAPE, scale, None, exact)


def psnr(found: Reconstruction) -> float:
    """The worst image's."""
    assert found.images is not None
    return -10 * float((found.images - images()).square().flatten(1).mean(1).log10().amax())


def test_the_clients_own_extractor_gives_the_images_back() -> None:
    found = InvertFeatures().reconstruct(observe(stem(), stem(), exact=True))
    assert psnr(found) > 45
    assert float(found.losses[-1]) < 1e-5
    assert found.iterations < 600


def test_without_a_scale_too() -> None:
    assert psnr(InvertFeatures().reconstruct(observe(stem(), stem(), exact=True, scale=PixelScale()))) > 45


def test_refining_follows_the_extractors_drift() -> None:
    own = drifted(stem())
    seen = observe(stem(), own, exact=False)
    kept, refined = (psnr(InvertFeatures(100, refine=refine).reconstruct(seen)) for refine in (False, True))
    assert refined > kept + 8
    assert refined > 25
    # An extractor that is said to be the client's own is taken at its word.
    trusted = InvertFeatures(100).reconstruct(observe(stem(), own, exact=True))
    assert psnr(trusted) == pytest.approx(kept, abs=1e-3)


def test_group_normalization_hides_the_contrast_and_nothing_else() -> None:
    found = InvertFeatures().reconstruct(observe(stem("gn"), stem("gn"), exact=True))
    assert found.images is not None
    truth, got = SCALE.apply(images()).flatten(1), SCALE.apply(found.images).flatten(1)
    factor = (truth * got).sum(1, keepdim=True) / got.square().sum(1, keepdim=True)
    left = (factor * got - truth).square().sum(1) / truth.square().sum(1)
    assert bool((left < 1e-3).all())
    # The prior fills the contrast in: the usual one, or as much of it as pixels have room for.
    power, pixels = got.square().mean(1), found.images.flatten(1)
    full = (pixels.amin(1) < 0.01) | (pixels.amax(1) > 0.99)
    assert bool((power < 1.05).all())
    assert bool(((power > 0.95) | full).all())


def test_every_image_is_a_problem_of_its_own_unless_the_extractor_is_refined() -> None:
    seen = observe(stem(), stem(), exact=True)
    alone = FeatureObservation(seen.extractor, seen.features[1:2], SHAPE, SCALE)
    together = InvertFeatures(iterations=20).reconstruct(seen).images
    single = InvertFeatures(iterations=20).reconstruct(alone).images
    assert together is not None
    assert single is not None
    # Only the features' mean power is shared.
    assert torch.allclose(together[1:2], single, atol=0.02)


def test_an_extractor_without_parameters() -> None:
    pool = nn.AvgPool2d(1)
    assert psnr(InvertFeatures(iterations=60).reconstruct(observe(pool, pool, exact=False))) > 40


def test_an_interrupt_keeps_the_best() -> None:
    shown: list[Snapshot] = []

    def watch(snapshot: Snapshot) -> None:
        shown.append(snapshot)
        if len(shown) == 2:
            raise KeyboardInterrupt

    found = InvertFeatures().reconstruct(observe(stem(), drifted(stem()), exact=False), watch=watch)
    assert found.interrupted
    assert found.images is not None
    assert torch.equal(found.images, shown[-1].images[0])
    assert shown[0].images.shape == (1, 3, *SHAPE)
    assert shown[0].labels.shape == (1, 3)
    assert float(shown[1].losses) <= float(shown[0].losses)
    assert len(found.losses) == 2


def test_time_runs_out() -> None:
    found = InvertFeatures(seconds=1e-9).reconstruct(observe(stem(), drifted(stem()), exact=False))
    assert found.iterations == 1
    assert found.images is not None
    assert not found.interrupted


def test_iterations_are_kept_to() -> None:
    found = InvertFeatures(iterations=25).reconstruct(observe(stem(), drifted(stem()), exact=False))
    assert found.iterations == 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "iterations and restarts must be at least 1"),
        ({"seconds": 0.0}, "seconds must be positive"),
        ({"tv": -1.0}, "tv must not be negative, not -1.0"),
        ({"contrast": float("nan")}, "contrast must not be negative, not nan"),
        ({"anchor": float("inf")}, "anchor must not be negative, not inf"),
        ({"fade": 0.0}, r"fade must lie in \(0, 1\], not 0.0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"InvertFeatures: {message}"):
        InvertFeatures(**options)
