"""SPEAR separates batches exactly, says when it did, and names what stops it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import spear
from fedsec.attacks.spear import SPEAR
from fedsec.defenses import ClipUpdate, GaussianNoise, Prune, Sign
from fedsec.errors import InputError
from fedsec.matching.separation.sparse_columns import SparseColumns
from fedsec.models import build
from fedsec.threat import Distortion, LocalSteps, Observation, PixelScale, Reconstruction, Snapshot

SHAPE, SCALE = (1, 6, 6), PixelScale((0.5,), (0.3,))


def batch(size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, *SHAPE, generator=generator), torch.randint(10, (size,), generator=generator)


def network(seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build("mlp", SHAPE, 10, **{"hidden": (160,), **options})


def gradient(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    loss = F.cross_entropy(model(SCALE.apply(images).to(next(model.parameters()).dtype)), labels)
    names = [name for name, _ in model.named_parameters()]
    return dict(zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True))


def seen(model: nn.Module, images: Tensor, truth: Tensor, **known: Any) -> Observation:
    return Observation(model, gradient(model, images, truth), SHAPE, 10, len(images), SCALE, **known)


def check_exact(result: Reconstruction, images: Tensor, labels: Tensor, decibels: float = 100) -> None:
    """All images have come back, each with its own label."""
    assert result.images is not None
    assert result.labels is not None
    errors = (result.images[:, None] - images).square().flatten(2).mean(2)
    order = errors.argmin(0)
    assert float(errors.amin(0).max()) < 10 ** (-decibels / 10)
    assert torch.equal(result.labels[order], labels)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("hidden", [(160,), (160, 40)])
def test_batches_are_exact(size: int, hidden: tuple[int, ...]) -> None:
    images, labels = batch(size)
    model = network(hidden=hidden)
    result = SPEAR().reconstruct(seen(model, images, labels))
    check_exact(result, images, labels)
    assert result.notes == (f"{size} of {size} images explain which neurons are silent for them",)


def test_double_precision_gives_more_digits() -> None:
    images, labels = batch(4)
    images = images.double()
    result = SPEAR().reconstruct(seen(network().double(), images, labels))
    check_exact(result, images, labels, decibels=200)


def test_labels_that_are_granted_are_given_to_their_images() -> None:
    images, labels = batch(6, seed=3)
    shuffled = labels[torch.tensor([3, 1, 5, 0, 2, 4])]
    check_exact(SPEAR().reconstruct(seen(network(), images, labels, labels=shuffled)), images, labels)


def test_a_sum_of_clients_is_a_larger_batch() -> None:
    """What a server sees under secure aggregation: the weighted sum of what it may not see."""
    model, (images, labels) = network(), batch(7)
    first, second = gradient(model, images[:2], labels[:2]), gradient(model, images[2:], labels[2:])
    summed = {name: (2 * first[name] + 5 * second[name]) / 7 for name in first}
    check_exact(SPEAR().reconstruct(Observation(model, summed, SHAPE, 10, 7, SCALE)), images, labels)


def test_local_steps_leave_the_zeros() -> None:
    model, (images, labels) = network(), batch(4)
    local, worker = LocalSteps(lr=0.01, steps=4, batch_size=2), network()
    for _, places in local.slots(4):
        rows = gradient(worker, images[places], labels[places])
        for name, parameter in worker.named_parameters():
            parameter.data -= local.lr * rows[name]
    update = {name: parameter - model.get_parameter(name) for name, parameter in worker.named_parameters()}
    update = {name: row.detach() for name, row in update.items()}
    result = SPEAR(seconds=20).reconstruct(Observation(model, update, SHAPE, 10, 4, SCALE, local))
    check_exact(result, images, labels, decibels=60)


def defended(defense: Any) -> tuple[Reconstruction, Tensor, Tensor]:
    model, (images, labels) = network(), batch(4)
    sent = defense(gradient(model, images, labels), generator=torch.Generator().manual_seed(0))
    known = Observation(model, sent, SHAPE, 10, 4, SCALE, distortion=defense.known(sent))
    return SPEAR(draws=3000).reconstruct(known), images, labels


def test_clipping_changes_no_direction() -> None:
    check_exact(*defended(ClipUpdate(1e-3)))


def test_noise_makes_the_zeros_vanish_and_it_says_so() -> None:
    result, images, _ = defended(GaussianNoise(0.1, relative=True))
    assert result.images is not None
    assert "relative error" in result.notes[-1]
    assert float((result.images[:, None] - images).square().flatten(2).mean(2).amin(0).mean()) > 1e-3


@pytest.mark.parametrize(("defense", "why"), [(Prune(0.5), "dropped entries"), (Sign(), "only its signs")])
def test_what_leaves_no_rows_is_refused(defense: Any, why: str) -> None:
    with pytest.raises(InputError, match=f"{why}.*expected its values"):
        defended(defense)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_layers_without_a_relu_are_refused(activation: str) -> None:
    with pytest.raises(InputError, match="spear needs a ReLU after the first layer"):
        SPEAR().reconstruct(seen(network(activation=activation), *batch(2)))


def test_networks_that_begin_otherwise_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10))
    with pytest.raises(InputError, match="spear needs a model whose first layer is linear"):
        SPEAR().reconstruct(seen(model, *batch(2)))


def test_too_few_draws_give_what_neurons_show_and_say_so() -> None:
    images, labels = batch(12)
    result = SPEAR(draws=1).reconstruct(seen(network(), images, labels))
    assert result.images is not None
    assert "of 12 columns were found in 512 draws, and no image is known without all of them" in result.notes[0]
    assert float(result.losses[-1]) == 1


def test_too_few_neurons_are_named() -> None:
    result = SPEAR().reconstruct(seen(network(hidden=(8,)), *batch(6)))
    assert "too few to tell 6 images apart" in result.notes[0]


def test_images_that_occur_twice_are_told_once() -> None:
    images, labels = batch(3)
    images, labels = images[[0, 1, 2, 2]], labels[[0, 1, 2, 2]]
    result = SPEAR().reconstruct(seen(network(), images, labels))
    assert "tells 3 images apart, not 4" in result.notes[1]
    assert result.images is not None
    errors = (result.images[:, None] - images).square().flatten(2).mean(2).amin(0)
    assert float(errors.max()) < 1e-10


def test_an_interrupt_keeps_what_was_found() -> None:
    model, several = network(), [batch(2, seed) for seed in range(2)]
    looked = []

    def watch(snapshot: Snapshot) -> None:
        looked.append(snapshot)
        if float(snapshot.losses[0]) < 0.1:
            raise KeyboardInterrupt

    first, second = SPEAR().reconstruct_many([seen(model, *one) for one in several], watch=watch)
    assert first.interrupted
    assert second.interrupted
    check_exact(first, *several[0])
    assert second.notes == ("no rows were drawn: shown is what single neurons show",)
    assert looked[-1].images.shape == (2, 2, *SHAPE)


@pytest.mark.parametrize(
    ("options", "why"), [({"draws": 0}, "draws must be at least 1"), ({"seconds": 0.0}, "seconds")]
)
def test_options_out_of_range(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        SPEAR(**options)


def test_a_distortion_of_other_layers_does_not_matter() -> None:
    model, (images, labels) = network(), batch(3)
    name = [name for name, _ in model.named_parameters()][-2]
    kept = {name: torch.zeros_like(model.get_parameter(name), dtype=torch.bool)}
    observation = seen(model, images, labels, distortion=Distortion(kept))
    check_exact(SPEAR().reconstruct(observation), images, labels)


def test_a_complete_set_that_explains_no_zeros_does_not_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    search = spear.search_sparse_columns

    def misled(factor: Tensor, **options: Any) -> Iterator[SparseColumns]:
        rows, rank = factor.shape
        yield SparseColumns(torch.eye(rank).double(), torch.zeros(rank, rows, dtype=torch.bool), 0, complete=True)
        yield from search(factor, **options)

    monkeypatch.setattr(spear, "search_sparse_columns", misled)
    images, labels = batch(4)
    check_exact(SPEAR().reconstruct(seen(network(), images, labels)), images, labels)
