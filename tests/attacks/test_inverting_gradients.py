"""Inverting gradients: single gradients, local steps, restarts together and alone, budgets."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.attacks import InvertingGradients
from fedsec.errors import InputError
from fedsec.threat import LocalSteps, PixelScale, Snapshot


def test_one_image_without_its_label(client: Any, pictures: Any, decibels: Any) -> None:
    images = pictures(1)
    found = InvertingGradients(iterations=400, tv=1e-3).reconstruct(client(images, torch.tensor([3])))
    assert found.labels is not None
    assert found.labels.tolist() == [3]
    assert decibels(found.images, images) > 10
    assert float(found.losses[-1]) < 0.05 * float(found.losses[0])


@pytest.mark.parametrize(
    "local",
    [LocalSteps(0.1, steps=3), LocalSteps(0.05, steps=4, batch_size=1), LocalSteps(0.3, steps=1)],
    ids=["same batch", "two epochs of single images", "one step"],
)
def test_local_steps_are_unrolled(client: Any, pictures: Any, decibels: Any, local: LocalSteps) -> None:
    images, labels = pictures(2, seed=3), torch.tensor([1, 4])
    seen = client(images, labels, local=local, granted=True)
    # The granted labels come in another order than the client's: the first restart is wrong about it.
    found = InvertingGradients(iterations=200, tv=1e-3, restarts=6).reconstruct(seen)
    assert decibels(found.images, images) > 6


def test_scales_are_undone(client: Any, pictures: Any, decibels: Any) -> None:
    images = pictures(1, seed=2)
    seen = client(images, torch.tensor([0]), scale=PixelScale((0.4,), (0.2,)))
    assert decibels(InvertingGradients(iterations=400).reconstruct(seen).images, images) > 10


def test_restarts_together_equal_restarts_one_by_one(client: Any, pictures: Any) -> None:
    seen = [client(pictures(2, seed), torch.tensor([seed, 2])) for seed in range(2)]
    options: dict[str, Any] = {"iterations": 25, "restarts": 3, "signed": False}
    together = InvertingGradients(**options).reconstruct_many(seen)
    by_observation = InvertingGradients(**options, at_once=1).reconstruct_many(seen)
    for first, second in zip(together, by_observation, strict=True):
        assert first.images is not None
        assert second.images is not None
        # Adam divides by the root of tiny numbers, which carries rounding a long way.
        assert torch.allclose(first.images, second.images, atol=5e-3)
        assert first.iterations == second.iterations == 25
        assert float(first.losses[-1]) == pytest.approx(float(second.losses[-1]), rel=1e-3)


def test_the_restart_with_the_least_matching_loss_counts(client: Any, pictures: Any) -> None:
    seen = client(pictures(1), torch.tensor([1]))
    many = InvertingGradients(iterations=30, restarts=5).reconstruct(seen)
    alone = InvertingGradients(iterations=30, restarts=1).reconstruct(seen)
    assert float(many.losses.min()) <= float(alone.losses.min())


def test_seeds_reproduce_and_matter(client: Any, pictures: Any) -> None:
    seen = client(pictures(1), torch.tensor([1]))

    def run(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        images = InvertingGradients(iterations=10).reconstruct(seen, generator=generator).images
        assert images is not None
        return images

    assert torch.equal(run(1), run(1))
    assert not torch.allclose(run(1), run(2))


def test_interrupted_searches_keep_the_best(client: Any, pictures: Any) -> None:
    shown: list[Snapshot] = []

    def watch(snapshot: Snapshot) -> None:
        shown.append(snapshot)
        if snapshot.iteration >= 20:
            raise KeyboardInterrupt

    seen = client(pictures(1), torch.tensor([1]))
    found = InvertingGradients(iterations=200).reconstruct(seen, watch=watch)
    assert found.interrupted
    assert found.iterations == 20
    assert found.images is not None
    assert torch.equal(found.images, shown[-1].images[0])
    assert [snapshot.iteration for snapshot in shown] == list(range(0, 21, 2))
    assert all((later.losses <= earlier.losses).all() for earlier, later in pairwise(shown))


def test_budgets_end_the_search(client: Any, pictures: Any) -> None:
    seen = client(pictures(1), torch.tensor([1]))
    assert InvertingGradients(iterations=10**6, seconds=0.3).reconstruct(seen).iterations < 10**6
    assert InvertingGradients(iterations=800, plateau=20, tv=1e-1).reconstruct(seen).iterations < 600


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": 0},
        {"restarts": 0},
        {"lr": 0.0},
        {"tv": -1.0},
        {"bn": float("nan")},
        {"plateau": 0},
        {"at_once": 0},
        {"seconds": -1.0},
    ],
)
def test_numbers_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"must (be at least 1|be positive|not be negative)"):
        InvertingGradients(**wrong)
