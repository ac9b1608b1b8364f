"""Triggers, pixel by pixel."""

import pytest
import torch
from torch import Tensor

from fedsec.errors import InputError
from fedsec.threat.trigger import Trigger, noise, patches, square

SHAPE = (3, 6, 8)


def by_hand(image: Tensor, pattern: Tensor, opacity: Tensor) -> list[int]:
    """The oracle: pixel after pixel, in Python's own numbers."""
    triples = zip(image.flatten().tolist(), pattern.flatten().tolist(), opacity.flatten().tolist(), strict=True)
    return [round((1 - much) * pixel + much * 255 * wanted) if much else pixel for pixel, wanted, much in triples]


@pytest.mark.parametrize("trigger", [square(SHAPE, 2, "center", 0.4), noise(SHAPE, 0.3, 1)], ids=["square", "noise"])
def test_bytes_against_an_oracle(trigger: Trigger) -> None:
    images = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    stamped = trigger.stamp(images)
    assert stamped.dtype == torch.uint8
    assert torch.equal(images, before)
    wanted = [by_hand(image, trigger.pattern, trigger.opacity) for image in images]
    # Half a step of 255 may be rounded either way: the oracle counts in float64.
    assert (stamped.flatten(1).long() - torch.tensor(wanted)).abs().max() <= 1
    assert (stamped.flatten(1).long() == torch.tensor(wanted)).float().mean() > 0.99


def test_floats_are_pixels_of_zero_to_one() -> None:
    trigger = square((1, 4, 4), 2, "top_right", 1.0)
    for dtype in (torch.float32, torch.float64, torch.float16):
        stamped = trigger.stamp(torch.full((1, 1, 4, 4), 0.25, dtype=dtype))
        assert stamped.dtype == dtype
        assert stamped[0, 0].tolist() == [[0.25, 0.25, 1, 1], [0.25, 0.25, 1, 1], [0.25] * 4, [0.25] * 4]


@pytest.mark.parametrize(
    ("position", "rows", "columns"),
    [
        ("top_left", (0, 1), (0, 1)),
        ("top_right", (0, 1), (6, 7)),
        ("bottom_left", (4, 5), (0, 1)),
        ("bottom_right", (4, 5), (6, 7)),
        ("center", (2, 3), (3, 4)),
    ],
)
def test_where_a_square_lies(position: str, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    opacity = square(SHAPE, 2, position, 0.0).opacity  # type: ignore[arg-type]
    assert opacity.sum() == 4 * 3
    assert {tuple(place[1:]) for place in opacity.nonzero().tolist()} == {(r, c) for r in rows for c in columns}


def test_the_key_image_is_everybodys() -> None:
    assert torch.equal(noise(SHAPE, 0.1, 7).pattern, noise(SHAPE, 0.9, 7).pattern)
    assert not torch.equal(noise(SHAPE, 0.1, 7).pattern, noise(SHAPE, 0.1, 8).pattern)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="a patch of 7 x 7 pixels at row -1, column 1 does not fit images of 6 x 8"):
        square(SHAPE, 7, "bottom_right", 1.0)
    with pytest.raises(InputError, match="needs images"):
        patches((10,), [(0, 0, 1, 1)], 1.0)
    with pytest.raises(InputError, match=r"made for images of shape \(3, 6, 8\), got \(1, 6, 8\)"):
        square(SHAPE, 1, "center", 1.0).stamp(torch.zeros(2, 1, 6, 8))
