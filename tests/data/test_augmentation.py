"""Views of images against loops over pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.data.augmentation import Augmentation
from fedsec.data.images import normalize
from fedsec.data.normalization import Normalization
from fedsec.errors import InputError

CONSTANTS = Normalization((0.4, 0.5), (0.2, 0.3))


@settings(max_examples=25, deadline=None)
@given(
    crop=st.integers(0, 3), flip=st.booleans(), cutout=st.integers(0, 4), seed=st.integers(0, 99), h=st.integers(1, 6)
)
def test_a_view_is_a_moved_and_mirrored_image_with_a_hole(
    crop: int, flip: bool, cutout: int, seed: int, h: int
) -> None:
    rng, w = np.random.default_rng(seed), 5
    images = torch.from_numpy(rng.integers(0, 256, (4, 2, h, w), dtype=np.uint8))
    augmentation = Augmentation(crop, flip, cutout)
    views = augmentation.draw((4,), (h, w), rng)
    found = augmentation.apply(images, torch.from_numpy(views), CONSTANTS)
    for n, (down, right, flipped, center_down, center_right) in enumerate(views.tolist()):
        for y in range(h):
            for x in range(w):
                source_y, source_x = y + down, (w - 1 - x if flipped else x) + right
                inside = 0 <= source_y < h and 0 <= source_x < w
                pixel = images[n, :, source_y, source_x] if inside else torch.zeros(2, dtype=torch.uint8)
                expected = normalize(pixel.view(1, 2, 1, 1), CONSTANTS).flatten()
                top, left = center_down - cutout // 2, center_right - cutout // 2
                if top <= y < top + cutout and left <= x < left + cutout:
                    expected = torch.zeros(2)
                torch.testing.assert_close(found[n, :, y, x], expected)


def test_no_augmentation_is_the_image() -> None:
    images = torch.randint(0, 256, (3, 2, 4, 4), dtype=torch.uint8)
    nothing = Augmentation(crop=0, flip=False)
    views = torch.from_numpy(nothing.draw((3,), (4, 4), np.random.default_rng(0)))
    assert torch.equal(nothing.apply(images, views, CONSTANTS), normalize(images, CONSTANTS))


def test_views_vary_within_their_bounds() -> None:
    views = Augmentation(crop=2, flip=True, cutout=3).draw((50, 40), (7, 9), np.random.default_rng(0)).reshape(-1, 5)
    assert set(views[:, 0]) == set(views[:, 1]) == {-2, -1, 0, 1, 2}
    assert views[:, 2].mean() == pytest.approx(0.5, abs=0.05)
    assert set(views[:, 3]) == set(range(7))
    assert set(views[:, 4]) == set(range(9))


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="must not be negative, got -1 and 0"):
        Augmentation(crop=-1)
