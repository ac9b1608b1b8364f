"""What canary examples look like, and how many different ones there are."""

import numpy as np
import pytest
import torch

from fedsec.errors import InputError
from fedsec.runs.audits.canaries_kinds import canary_examples

IMAGES = torch.randint(0, 256, (30, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(30) % 4


def made(kind: str, count: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    return canary_examples(kind, IMAGES[:count], LABELS[:count], 4, np.random.default_rng(0))


def test_mislabelled_examples_have_another_label_and_natural_ones_their_own() -> None:
    images, labels = made("mislabelled")
    assert torch.equal(images, IMAGES)
    assert not bool((labels == LABELS).any())
    assert set(labels.tolist()) == {0, 1, 2, 3}
    images, labels = made("natural")
    assert torch.equal(images, IMAGES)
    assert torch.equal(labels, LABELS)


def test_a_dirac_is_one_bright_pixel_and_a_blank_one_level() -> None:
    images, labels = made("dirac")
    assert images.shape == IMAGES.shape
    assert ((images == 255).flatten(1).sum(1) == 3).all()  # in every channel
    assert ((images == 0).flatten(1).sum(1) == 57).all()
    pairs = {(int(image[0].argmax()), int(label)) for image, label in zip(images, labels, strict=True)}
    assert len(pairs) == 30
    assert len({pixel for pixel, _ in pairs}) == 20  # every pixel once before any comes again
    images, labels = made("blank")
    assert (images.flatten(1) == images.flatten(1)[:, :1]).all()
    assert len({int(image.flatten()[0]) for image in images}) == 30


def test_more_canaries_than_there_are_different_ones_are_refused() -> None:
    small = IMAGES[:9, :, :1, :2]
    with pytest.raises(InputError, match="there are 8 different dirac canaries of such images, and 9 were asked for"):
        canary_examples("dirac", small, LABELS[:9], 4, np.random.default_rng(0))


def test_what_has_no_classes_or_no_pixels_has_natural_canaries_only() -> None:
    vectors, numbers = torch.rand(3, 2), torch.rand(3)
    assert canary_examples("natural", vectors, numbers, 0, np.random.default_rng(0))[1] is numbers
    with pytest.raises(InputError, match="mislabelled needs classes, and targets are numbers"):
        canary_examples("mislabelled", vectors, numbers, 0, np.random.default_rng(0))
    with pytest.raises(InputError, match="blank needs images; expected mislabelled or natural"):
        canary_examples("blank", vectors, LABELS[:3], 4, np.random.default_rng(0))
