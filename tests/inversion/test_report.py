"""The verdict in words, for every kind of result; pictures of many images."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from fedsec.inversion.features import Likeness, compare
from fedsec.inversion.figures import Frame, Pair, draw_loss, draw_reconstruction, matched, write_gif
from fedsec.inversion.report import verdict
from fedsec.metrics.images import Fidelity, ImageScore, Scores, score

CLEAR, TRACES, NOTHING = (26.0, 0.9), (16.0, 0.4), (12.5, 0.1)


def scores(*found: tuple[float, float]) -> Scores:
    guess = Fidelity(12.0, 0.2, None, 0.06)
    worse = Fidelity(9.0, 0.1, None, 0.12)
    images = [
        ImageScore(number, Fidelity(psnr, ssim, None, 10 ** (-psnr / 10)), worse, guess, 0, 0, psnr > 20)
        for number, (psnr, ssim) in enumerate(found)
    ]
    return Scores(tuple(images), len(images), len(images), 0.01)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([CLEAR], "The image is recognizable: PSNR 14.0 dB above the better of gray and the mean image."),
        ([CLEAR, (20, 0.8)], "Both images are recognizable: PSNR 8.0 to 14.0 dB above the better of"),
        ([CLEAR] * 5, "All 5 images are recognizable: PSNR 14.0 dB above"),
        ([CLEAR, TRACES, NOTHING], "1 of 3 images is recognizable, 1 more in traces: PSNR up to 14.0 dB above"),
        ([CLEAR, CLEAR, NOTHING], "2 of 3 images are recognizable: PSNR up to 14.0 dB above"),
        ([TRACES], "The image shows in traces only: PSNR up to 4.0 dB above"),
        ([TRACES, NOTHING], "1 of 2 images shows in traces only"),
        ([NOTHING], "The image is not recovered: it is 0.5 dB above the better of gray and the mean image."),
        ([(7, 0.0)], "The image is not recovered: it is 5.0 dB below the better of"),
        ([(7, 0.0), NOTHING], "Neither image is recovered: the best is 0.5 dB above"),
        ([(7, 0.0)] * 4, "None of the 4 images is recovered: none comes closer than the better of"),
        # Each of the two numbers alone is not enough.
        ([(26, 0.1)], "The image is not recovered"),
        ([(13, 0.9)], "The image is not recovered"),
    ],
)
def test_verdict(found: list[tuple[float, float]], words: str) -> None:
    assert verdict(scores(*found)).startswith(words)


def test_verdict_on_labels() -> None:
    assert verdict(Scores((), 4, 3, 0.01)) == "This attack recovers labels only: 3 of 4 labels right."


def batch(count: int, seed: int = 0, size: tuple[int, int, int] = (3, 8, 8)) -> list[Pair]:
    generator = torch.Generator().manual_seed(seed)
    originals = torch.rand(count, *size, generator=generator)
    found = torch.rand(count, *size, generator=generator)
    labels = torch.arange(count) % 3
    scored = score(found, originals, labels=labels, true_labels=labels.flip(0), mean_image=None)
    return [
        Pair(originals[i], found[each.reconstruction], f"a long name of image ${i}$", "label", each)
        for i, each in enumerate(scored.images)
    ]


@pytest.mark.parametrize(
    ("batches", "pages"),
    [([1], 1), ([16], 1), ([17], 1), ([2] * 8, 1), ([2] * 9, 1), ([16] * 5, 1), ([16] * 6, 2), ([20] * 3, 2)],
)
def test_pages(tmp_path: Path, batches: list[int], pages: int) -> None:
    pairs = [batch(count, seed) for seed, count in enumerate(batches)]
    files = draw_reconstruction(tmp_path, pairs, "decoupled on a model with quite a long name, " * 3)
    assert [path.name for path in files] == ["reconstruction.png", "reconstruction-2.png"][:pages]
    for path in files:
        with Image.open(path) as picture:
            assert picture.width >= 820


def test_images_of_any_shape(tmp_path: Path) -> None:
    heights = {}
    for size in ((1, 28, 28), (3, 224, 224), (3, 20, 40), (1, 400, 30)):
        [path] = draw_reconstruction(tmp_path, [batch(2, size=size)], "title")
        with Image.open(path) as picture:
            heights[size] = picture.height
            assert len(picture.convert("L").getcolors() or range(300)) > 50  # it shows something
    assert heights[3, 20, 40] < heights[1, 28, 28] < heights[1, 400, 30]


def test_loss_curves(tmp_path: Path) -> None:
    assert draw_loss(tmp_path, [torch.zeros(0), torch.ones(1)], [0, 1]) == []
    for count in (1, 3, 20):
        losses = [torch.logspace(0, -3, 30) for _ in range(count)]
        losses[0][3:] = torch.tensor([float("nan"), float("inf"), 0.0]).repeat(9)
        (path,) = draw_loss(tmp_path, losses, [100] * count)
        assert path.stat().st_size > 5000
    draw_loss(tmp_path, [torch.zeros(5)], [5])


def test_gif(tmp_path: Path) -> None:
    originals = torch.rand(2, 3, 1, 8, 8)
    frames = [Frame(f"iteration {number}", torch.rand(2, 3, 1, 8, 8)) for number in range(4)]
    with Image.open(write_gif(tmp_path / "a.gif", originals, frames)) as animation:
        assert getattr(animation, "n_frames", 1) == 4


def test_frames_are_matched_batch_by_batch() -> None:
    originals = torch.rand(2, 5, 1, 4, 4)
    mixed = torch.stack([originals[0].flip(0), originals[1].roll(2, 0)])
    assert torch.equal(matched(mixed, originals), originals)


def test_features_are_compared_in_any_order() -> None:
    truth = torch.rand(5, 20, dtype=torch.float64)
    same = compare(truth.roll(2, 0).float(), truth)
    assert same.cosine == pytest.approx(1)
    assert same.error < 1e-6
    assert compare(2 * truth, truth) == Likeness(pytest.approx(1), pytest.approx(1))  # type: ignore[arg-type]
