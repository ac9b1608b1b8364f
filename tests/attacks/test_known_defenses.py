"""Attackers who know how the client defended its update, beside those who do not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import DLG, Analytic, Decoupled, GradInversion, InvertingGradients, Labels
from fedsec.defense.updates import ClientSide, UpdateTransform
from fedsec.defenses import ClipUpdate, GaussianNoise, Prune, Sign, Soteria
from fedsec.errors import InputError
from fedsec.threat import Observation


def defend(seen: Observation, defense: UpdateTransform, images: Tensor, labels: Tensor) -> tuple[Observation, ...]:
    """What attackers see who do not know the defense, and who do."""
    sent = defense(seen.update, client=ClientSide(seen.model, seen.scale.apply(images), labels))
    naive = replace(seen, update=sent)
    return naive, replace(naive, distortion=defense.known(sent))


@pytest.mark.parametrize(
    ("defense", "gain"),
    [(Prune(0.9), 3.0), (Soteria(0.8), 3.0), (GaussianNoise(1.0, relative=True), 0.3)],
    ids=lambda each: type(each).__name__ if isinstance(each, UpdateTransform) else "",
)
def test_who_knows_the_defense_recovers_more(
    client: Any, pictures: Any, decibels: Any, defense: UpdateTransform, gain: float
) -> None:
    images, labels = pictures(1, seed=3), torch.tensor([2])
    attack = InvertingGradients(iterations=200, tv=1e-3)
    naive, adaptive = (attack.reconstruct(each) for each in defend(client(images, labels), defense, images, labels))
    assert decibels(adaptive.images, images) > decibels(naive.images, images) + gain


def test_every_matching_attack_sees_through_pruning(client: Any, pictures: Any, decibels: Any) -> None:
    images, labels = pictures(1, seed=3), torch.tensor([2])
    naive, adaptive = defend(client(images, labels, granted=True), Soteria(0.5), images, labels)
    for attack in (DLG(iterations=6), GradInversion(iterations=80, restarts=1, tv=1e-3), Decoupled(iterations=5)):
        found = attack.reconstruct(adaptive)
        assert decibels(found.images, images) > decibels(attack.reconstruct(naive).images, images) + 1
    assert any("too little of the last layer" in note for note in found.notes)


def test_the_angle_ignores_clipping(client: Any, pictures: Any, decibels: Any) -> None:
    images, labels = pictures(1, seed=3), torch.tensor([2])
    seen = client(images, labels, granted=True)
    naive, adaptive = defend(seen, ClipUpdate(1e-2), images, labels)
    assert decibels(DLG(iterations=15).reconstruct(adaptive).images, images) > 20
    assert decibels(DLG(iterations=15).reconstruct(naive).images, images) < 10


LABELED: list[tuple[UpdateTransform, list[int]]] = [
    (Sign(scaled=False), [0, 3]),
    (ClipUpdate(1e-3), [0, 3]),
    (ClipUpdate(1e-3), [1, 1]),
    (Soteria(0.8), [1, 1]),
    (Prune(0.5), [0, 3]),
]


@pytest.mark.parametrize(("defense", "truth"), LABELED, ids=lambda each: str(each) if isinstance(each, list) else "")
def test_labels_in_spite_of_a_known_defense(
    client: Any, pictures: Any, defense: UpdateTransform, truth: list[int]
) -> None:
    images, labels = pictures(2, seed=4), torch.tensor(truth)
    _, adaptive = defend(client(images, labels), defense, images, labels)
    found = Labels().reconstruct(adaptive)
    assert found.labels is not None
    assert found.labels.tolist() == truth


def test_signs_do_not_count(client: Any, pictures: Any) -> None:
    images, labels = pictures(3, seed=4), torch.tensor([0, 0, 3])
    _, adaptive = defend(client(images, labels), Sign(), images, labels)
    found = Labels().reconstruct(adaptive)
    assert found.labels is not None
    assert set(found.labels.tolist()) == {0, 3}
    assert "of signs alone, classes that repeat cannot be told from those that do not" in found.notes
    assert "labels read from the last layer by signs" in found.notes


@pytest.fixture(name="dense")
def _dense(client: Callable[..., Observation]) -> Callable[..., Observation]:
    def make(images: Tensor, labels: Tensor) -> Observation:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = nn.Sequential(nn.Flatten(), nn.Linear(100, 30), nn.Tanh(), nn.Linear(30, 5))
        return client(images, labels, model=model, granted=True)

    return make


def test_the_closed_form_takes_kept_entries_only(dense: Any, pictures: Any, decibels: Any) -> None:
    images, labels = pictures(1, seed=3), torch.tensor([2])
    naive, adaptive = defend(dense(images, labels), Prune(0.8), images, labels)
    found = Analytic().reconstruct(adaptive)
    assert found.images is not None
    assert decibels(Analytic().reconstruct(naive).images, images) < 10
    right = (found.images - images).abs() < 1e-3
    gray = found.images == 0.5
    assert bool((right | gray).all())
    assert float(right.float().mean()) > 0.4
    assert bool(gray.any()) == any("of the pixels were dropped" in note for note in found.notes)


def test_the_closed_form_says_what_it_cannot_do(dense: Any, pictures: Any) -> None:
    images, labels = pictures(2, seed=3), torch.tensor([2, 4])
    seen = dense(images, labels)
    with pytest.raises(InputError, match="only their signs were sent; expected their values"):
        Analytic().reconstruct(defend(seen, Sign(), images, labels)[1])
    with pytest.raises(InputError, match="of which the defense dropped entries; expected one image"):
        Analytic().reconstruct(defend(seen, Prune(0.5), images, labels)[1])
    found = Analytic().reconstruct(defend(seen, ClipUpdate(1e-3), images, labels)[1])
    whole = Analytic().reconstruct(seen)
    assert found.images is not None
    assert whole.images is not None
    assert torch.allclose(found.images, whole.images, atol=1e-3)
    noisy = Analytic().reconstruct(defend(seen, GaussianNoise(1e-6), images, labels)[1])
    assert "the gradient carries noise: approximate" in noisy.notes


def test_labels_are_inferred_from_one_row_that_was_kept(client: Any, pictures: Any) -> None:
    images, labels = pictures(2, seed=4), torch.tensor([0, 3])
    seen = client(images, labels)
    naive, adaptive = defend(seen, Prune(0.8), images, labels)
    assert int((naive.update["3.bias"] != 0).sum()) == 1
    found = Labels().reconstruct(adaptive).labels
    assert found is not None
    assert found.tolist() == [0, 3]
    assert F.one_hot(found, 5).sum() == 2
