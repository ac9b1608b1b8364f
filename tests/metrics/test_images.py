"""Image scores against formulas written out here, and the bookkeeping around them."""

import itertools
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsec.errors import InputError
from fedsec.metrics.fidelity import ssim_window
from fedsec.metrics.images import MAX_PSNR, Scores, assign, merge, mse, psnr, score, ssim

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 9, 12), (1, 5, 6), (3, 3, 3)]


def pictures(batch: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed))


def noisy(originals: Tensor, scale: float, seed: int = 1) -> Tensor:
    noise = torch.randn(originals.shape, generator=torch.Generator().manual_seed(seed))
    return (originals + scale * noise).clamp(0, 1)


def ssim_by_hand(image: Tensor, original: Tensor, side: int) -> float:
    """All windows of side x side pixels weigh alike; variances are divided by n - 1; C1 = 0.01^2, C2 = 0.03^2."""
    values = []
    for x, y in zip(image.double(), original.double(), strict=True):
        for top in range(x.shape[0] - side + 1):
            for left in range(x.shape[1] - side + 1):
                a, b = (p[top : top + side, left : left + side].flatten() for p in (x, y))
                n = len(a)
                mean_a, mean_b = a.sum() / n, b.sum() / n
                var_a, var_b = ((a - mean_a) ** 2).sum() / (n - 1), ((b - mean_b) ** 2).sum() / (n - 1)
                cov = ((a - mean_a) * (b - mean_b)).sum() / (n - 1)
                luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
                values.append(float(luminance * (2 * cov + 9e-4) / (var_a + var_b + 9e-4)))
    return sum(values) / len(values)


def test_psnr_of_known_errors() -> None:
    originals = torch.full((4, 1, 8, 8), 0.25)
    images = originals + torch.tensor([0.1, 0.01, 0.5, 0.0]).view(4, 1, 1, 1)
    assert mse(images, originals).tolist() == pytest.approx([0.01, 1e-4, 0.25, 0.0], abs=1e-8)
    assert psnr(images, originals).tolist() == pytest.approx([20.0, 40.0, 10 * math.log10(4), MAX_PSNR], abs=1e-4)
    # One bit of float32 away from an exact match the error is below the cap's, too.
    assert psnr(torch.nextafter(originals, originals + 1), originals).tolist() == [MAX_PSNR] * 4


@pytest.mark.parametrize("shape", SHAPES)
def test_against_formulas(shape: tuple[int, ...]) -> None:
    originals = pictures(3, shape)
    images = noisy(originals, 0.2)
    squares = [(a - b).double().square().sum().item() / a.numel() for a, b in zip(images, originals, strict=True)]
    assert mse(images, originals).tolist() == pytest.approx(squares, rel=1e-6)
    assert psnr(images, originals).tolist() == pytest.approx([-10 * math.log10(s) for s in squares], rel=1e-6)
    side = ssim_window(*shape[1:])
    by_hand = [ssim_by_hand(a, b, side) for a, b in zip(images, originals, strict=True)]
    assert ssim(images, originals).tolist() == pytest.approx(by_hand, abs=1e-6)
    assert ssim(originals, originals).tolist() == pytest.approx([1.0] * 3)


@pytest.mark.parametrize(("size", "side"), [((8, 8), 7), ((28, 28), 7), ((64, 6), 5), ((4, 4), 3), ((3, 9), 3)])
def test_window_of_ssim(size: tuple[int, int], side: int) -> None:
    assert ssim_window(*size) == side


@given(batch=st.integers(1, 12), data=st.data(), noise=st.floats(0, 0.05))
@settings(max_examples=30, deadline=None)
def test_assignment_undoes_a_permutation(batch: int, data: st.DataObject, noise: float) -> None:
    originals = pictures(batch, (1, 4, 4), seed=data.draw(st.integers(0, 1000)))
    order = torch.tensor(data.draw(st.permutations(range(batch))))
    shuffled = noisy(originals, noise)[order]  # place k holds original order[k]
    assert torch.equal(assign(shuffled, originals), order.argsort())
    labels = torch.arange(batch)
    scores = score(shuffled, originals, labels=labels[order], true_labels=labels, mean_image=None)
    assert scores.metrics["matched_label_accuracy"] == 1
    assert scores.metrics["mse"] == pytest.approx(float(mse(noisy(originals, noise), originals).mean()), abs=1e-12)


@given(batch=st.integers(1, 5), seed=st.integers(0, 1000), levels=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_assignment_is_optimal(batch: int, seed: int, levels: int) -> None:
    # Few levels of gray make ties and equal images; the sum is the least all the same.
    originals = (pictures(batch, (1, 2, 2), seed) * levels).round() / levels
    images = (pictures(batch, (1, 2, 2), seed + 1) * levels).round() / levels
    found = assign(images, originals)
    assert sorted(found.tolist()) == list(range(batch))
    sums = [float(mse(images[list(p)], originals).sum()) for p in itertools.permutations(range(batch))]
    assert float(mse(images[found], originals).sum()) == pytest.approx(min(sums), abs=1e-9)


def batch_of_three() -> tuple[Tensor, Scores]:
    originals = pictures(3, (3, 8, 8))
    # Place 0: original 2 exactly. Place 1: original 0 with some noise. Place 2: original 1 with a lot.
    images = torch.stack([originals[2], noisy(originals, 0.02)[0], noisy(originals, 0.3)[1]])
    labels, true_labels = torch.tensor([4, 1, 0]), torch.tensor([0, 1, 4])
    mean_image = torch.full((3, 8, 8), 0.4)
    return originals, score(images, originals, labels=labels, true_labels=true_labels, mean_image=mean_image)


def test_records_of_a_batch() -> None:
    originals, scores = batch_of_three()
    records = scores.images
    assert [record.reconstruction for record in records] == [1, 2, 0]
    assert [record.recovered for record in records] == [True, False, True]
    assert [(record.true_label, record.label, record.label_right) for record in records] == [
        (0, 1, False),
        (1, 0, False),
        (4, 4, True),
    ]
    gray, mean_image = (torch.full_like(originals, level) for level in (0.5, 0.4))
    assert [record.gray.psnr for record in records] == pytest.approx(psnr(gray, originals).tolist())
    assert [record.gray.ssim for record in records] == pytest.approx(ssim(gray, originals).tolist())
    assert [record.mean_image and record.mean_image.mse for record in records] == pytest.approx(
        mse(mean_image, originals).tolist()
    )


def test_summary_of_a_batch() -> None:
    _, scores = batch_of_three()
    metrics = scores.metrics
    records = scores.images
    assert metrics["label_accuracy"] == 1  # {0, 1, 4} in some order
    assert metrics["matched_label_accuracy"] == pytest.approx(1 / 3)
    assert metrics["recovered"] == pytest.approx(2 / 3)
    assert metrics["psnr"] == pytest.approx(sum(record.found.psnr for record in records) / 3)
    assert metrics["psnr_best"] == MAX_PSNR
    assert metrics["ssim_best"] == pytest.approx(1)
    assert metrics["mse_best"] == 0
    assert metrics["ssim_mean_image"] == pytest.approx(sum(r.mean_image.ssim for r in records if r.mean_image) / 3)
    assert metrics["mse_gray"] == pytest.approx(sum(record.gray.mse for record in records) / 3)
    assert metrics["lpips"] is metrics["lpips_best"] is metrics["lpips_gray"] is metrics["lpips_mean_image"] is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_label_accuracy_counts_the_multisets_intersection(pairs: list[tuple[int, int]]) -> None:
    found, truth = (list(column) for column in zip(*pairs, strict=True))
    left = list(truth)
    for label in found:
        if label in left:
            left.remove(label)
    originals = torch.zeros(len(truth), 1, 4, 4)
    scores = score(None, originals, labels=torch.tensor(found), true_labels=torch.tensor(truth), mean_image=None)
    assert scores.metrics["label_accuracy"] == pytest.approx(1 - len(left) / len(truth))


def test_an_exact_match_keeps_means_finite() -> None:
    originals = pictures(2, (1, 8, 8))
    images = torch.stack([originals[0], torch.zeros(1, 8, 8)])
    scores = score(images, originals, labels=None, true_labels=torch.tensor([0, 1]), mean_image=originals[1])
    metrics = scores.metrics
    assert metrics["psnr"] == pytest.approx((MAX_PSNR + float(psnr(images, originals)[1])) / 2)
    json.dumps(scores.as_json(), allow_nan=False)
    # Constant images are where a similarity could divide by zero.
    flat = torch.full((2, 1, 8, 8), 0.5)
    flat_scores = score(flat, flat, labels=None, true_labels=torch.tensor([0, 1]), mean_image=flat[0])
    assert flat_scores.metrics["ssim_gray"] == pytest.approx(1)
    json.dumps(merge([scores, flat_scores]).as_json(), allow_nan=False)


def test_labels_only() -> None:
    labels, truth = torch.tensor([1, 1, 2]), torch.tensor([1, 2, 3])
    scores = score(None, pictures(3, (1, 8, 8)), labels=labels, true_labels=truth, mean_image=torch.zeros(1, 8, 8))
    plain = scores.as_json()
    assert plain["images"] == []
    assert plain["metrics"].pop("label_accuracy") == pytest.approx(2 / 3)
    assert set(plain["metrics"].values()) == {None}


def test_images_without_labels_or_mean_image() -> None:
    originals = pictures(2, (1, 8, 8))
    scores = score(noisy(originals, 0.1), originals, labels=None, true_labels=torch.tensor([3, 4]), mean_image=None)
    absent = {name for name, value in scores.metrics.items() if value is None}
    assert absent == {
        "label_accuracy",
        "matched_label_accuracy",
        *(f"{name}_mean_image" for name in ("psnr", "ssim", "lpips", "mse")),
        *("lpips", "lpips_best", "lpips_gray"),
    }
    assert [image["label_right"] for image in scores.as_json()["images"]] == [None, None]
    assert [image["true_label"] for image in scores.as_json()["images"]] == [3, 4]


def test_plain_data() -> None:
    _, scores = batch_of_three()
    plain = json.loads(json.dumps(scores.as_json(), allow_nan=False))
    assert plain["settings"] == {"recovered_mse": 0.01, "ssim_window": 7, "lpips": None, "max_psnr": 100}
    measures = [f"{name}{of}" for name in ("psnr", "ssim", "lpips", "mse") for of in ("", "_gray", "_mean_image")]
    best = [f"{name}_best" for name in ("psnr", "ssim", "lpips", "mse")]
    assert plain["metrics"].keys() == {*measures, *best, "label_accuracy", "matched_label_accuracy", "recovered"}
    assert all(
        image.keys() == {*measures, "trial", "reconstruction", "recovered", "true_label", "label", "label_right"}
        for image in plain["images"]
    )


def test_a_stricter_threshold_recovers_less() -> None:
    originals = torch.full((2, 1, 4, 4), 0.5)
    images = originals + torch.tensor([0.05, 0.2]).view(2, 1, 1, 1)
    truth = torch.tensor([0, 0])
    shares = [
        score(images, originals, labels=None, true_labels=truth, mean_image=None, recovered_mse=limit).metrics[
            "recovered"
        ]
        for limit in (0.001, 0.01, 0.1)
    ]
    assert shares == [0, 0.5, 1]


def test_merged_trials_weigh_every_image_alike() -> None:
    originals = pictures(3, (1, 8, 8))
    truth = torch.tensor([0, 1, 2])
    single = score(originals[:1], originals[:1], labels=truth[:1], true_labels=truth[:1], mean_image=None)
    images = noisy(originals, 0.3)
    wrong = torch.tensor([3, 3, 2])
    triple = score(images, originals, labels=wrong, true_labels=truth, mean_image=None)
    merged = merge([single, triple])
    assert merged.batch_size == 4
    assert merged.metrics["psnr"] == pytest.approx((MAX_PSNR + float(psnr(images, originals).sum())) / 4)
    assert merged.metrics["psnr_best"] == MAX_PSNR
    assert merged.metrics["label_accuracy"] == merged.metrics["matched_label_accuracy"] == pytest.approx(2 / 4)
    assert [image.trial for image in merged.images] == [0, 1, 1, 1]
    labels_only = score(None, originals, labels=wrong, true_labels=truth, mean_image=None)
    assert merge([labels_only, labels_only]).metrics["label_accuracy"] == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="measured alike"):
        merge([single, labels_only])
    with pytest.raises(InputError, match="no scores"):
        merge([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(2, 1, 8, 9)}, "one shape"),
        ({"images": torch.zeros(3, 1, 8, 8)}, "one shape"),
        ({"images": torch.full((2, 1, 8, 8), 200.0)}, r"images must have pixels in \[0, 1\]"),
        ({"images": torch.full((2, 1, 8, 8), math.nan)}, "images must be finite"),
        ({"originals": torch.zeros(2, 1, 8, 8, dtype=torch.uint8)}, "originals must be finite floating-point"),
        ({"originals": torch.zeros(0, 1, 8, 8), "true_labels": torch.tensor([])}, "no originals"),
        ({"labels": torch.tensor([1])}, "labels must be 2"),
        ({"true_labels": torch.tensor([[1, 2]])}, "true_labels must be 2"),
        ({"mean_image": torch.zeros(3, 8, 8)}, "mean image has shape"),
        ({"images": torch.zeros(2, 1, 2, 8), "originals": torch.zeros(2, 1, 2, 8)}, "at least 3 x 3"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"images": torch.zeros(2, 1, 8, 8), "originals": torch.zeros(2, 1, 8, 8)}
    given |= {"labels": torch.tensor([1, 2]), "true_labels": torch.tensor([1, 2]), "mean_image": None} | change
    with pytest.raises(InputError, match=message):
        score(given.pop("images"), given.pop("originals"), **given)


def test_scores_of_the_first_originals_are_those_of_their_reconstructions() -> None:
    originals = pictures(4, (1, 8, 8))
    images, labels = originals[[3, 2, 1, 0]], torch.tensor([3, 2, 1, 7])
    scores = score(images, originals, labels=labels, true_labels=torch.tensor([0, 1, 2, 3]), mean_image=None)
    first = scores.first(2)
    assert [image.reconstruction for image in first.images] == [3, 2]
    assert (first.batch_size, first.labels_in_common, first.metrics["label_accuracy"]) == (2, 1, 0.5)
    assert first.metrics["recovered"] == 1
