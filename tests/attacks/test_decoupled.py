"""The decoupled attack, end to end on networks small enough for a test."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from fedsec.attacks.decoupled import Decoupled, _labelings
from fedsec.errors import InputError
from fedsec.threat import LocalSteps, Observation, PixelScale, Reconstruction, Snapshot

SCALE = PixelScale((0.45,), (0.25,))


def network(classes: int = 10, seed: int = 0) -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(8 * 36, classes),
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5, generator=generator)
    return model


def relu_network(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, width in pairwise((144, *widths)):
        layers += [nn.Linear(before, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10))


def pictures(size: int, seed: int = 0) -> Tensor:
    """Smooth images of strong contrast."""
    coarse = torch.rand(size, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(12, 12), mode="bilinear", align_corners=True)


def observe(
    images: Tensor, labels: Tensor, *, model: nn.Module | None = None, granted: bool = False, classes: int = 10
) -> Observation:
    model = model or network(classes)
    gradient = torch.autograd.grad(F.cross_entropy(model(SCALE.apply(images)), labels), list(model.parameters()))
    return Observation.of_gradient(
        model,
        gradient,
        input_shape=images.shape[1:],
        num_classes=classes,
        batch_size=len(images),
        scale=SCALE,
        labels=labels if granted else None,
    )


def errors(found: Reconstruction, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """Mean squared error of each image, matched to the originals; labels must come along if given."""
    assert found.images is not None
    distances = (found.images[:, None] - images).square().flatten(2).mean(2)
    rows, columns = linear_sum_assignment(distances.numpy())
    if labels is not None:
        assert found.labels is not None
        assert torch.equal(found.labels[rows], labels[columns])
    return distances[rows, columns]


@pytest.mark.parametrize("labels", [[3, 7], [4, 4], [1, 1, 8]])
def test_batches_beat_gray_by_far(labels: list[int]) -> None:
    images, truth = pictures(len(labels)), torch.tensor(labels)
    found = Decoupled(iterations=5).reconstruct(observe(images, truth))
    gray = (images - 0.5).square().mean()
    assert not found.notes
    assert float(errors(found, images, truth).max()) < float(gray) / 4  # 6 dB


def test_features_are_reported_in_the_order_of_labels() -> None:
    images, labels = pictures(3), torch.tensor([5, 2, 5])
    model = network()
    found = Decoupled(iterations=1).reconstruct(observe(images, labels, model=model))
    with torch.no_grad():
        truth = model[:-1](SCALE.apply(images))
    assert found.features is not None
    assert found.labels is not None
    assert found.labels.tolist() == [2, 5, 5]
    cosine = F.cosine_similarity(found.features[:, None], truth, dim=2)
    assert float(cosine[0, 1]) > 0.99999
    assert sorted(cosine[1:].argmax(1).tolist()) == [0, 2]


def test_granted_labels_keep_their_order() -> None:
    labels = torch.tensor([9, 0])
    found = Decoupled(iterations=1).reconstruct(observe(pictures(2), labels, granted=True))
    assert found.labels is not None
    assert torch.equal(found.labels, labels)


def test_together_is_one_by_one() -> None:
    observations = [observe(pictures(2, seed), torch.tensor([seed, 3]), granted=True) for seed in range(2)]
    attack = Decoupled(iterations=2)
    together = attack.reconstruct_many(observations)
    for each, observation in zip(together, observations, strict=True):
        alone = attack.reconstruct(observation)
        assert each.images is not None
        assert alone.images is not None
        torch.testing.assert_close(each.images, alone.images, atol=0.01, rtol=0)


def test_seeds_reproduce() -> None:
    observation = observe(pictures(2), torch.tensor([1, 2]))
    attack = Decoupled(iterations=1, restarts=2)
    first, second = (attack.reconstruct(observation, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert first.images is not None
    assert second.images is not None
    assert torch.equal(first.images, second.images)


def test_more_images_than_the_classes_tell_apart() -> None:
    images, labels = pictures(3), torch.tensor([0, 1, 2])
    found = Decoupled(iterations=2).reconstruct(observe(images, labels, classes=3))
    assert found.features is None
    assert found.images is not None
    assert "tells at most 2 images apart, not 3" in found.notes[0]


def test_unsolvable_gradient_is_noted_and_matched_as_a_whole() -> None:
    observation = observe(pictures(2), torch.tensor([1, 2]), granted=True)
    generator = torch.Generator().manual_seed(0)
    broken = {name: row[torch.randperm(len(row), generator=generator)] for name, row in observation.update.items()}
    damaged = Observation(observation.model, broken, (1, 12, 12), 10, 2, SCALE, labels=observation.labels)
    found = Decoupled(iterations=1, starts=4).reconstruct(damaged)
    assert found.features is None
    assert "no features explain" in found.notes[0]


def test_several_local_steps_are_noted_and_one_is_the_gradient_it_is() -> None:
    images, labels, model = pictures(2), torch.tensor([1, 2]), network()
    seen = observe(images, labels, model=model)
    update = {name: -0.1 * row for name, row in seen.update.items()}
    one, two = (
        Decoupled(iterations=1).reconstruct(
            Observation(model, update, (1, 12, 12), 10, 2, SCALE, LocalSteps(0.1, steps), labels)
        )
        for steps in (1, 2)
    )
    expected = Decoupled(iterations=1).reconstruct(replace(seen, labels=labels))
    assert one.notes == expected.notes
    assert one.features is not None
    assert expected.features is not None
    torch.testing.assert_close(one.features, expected.features, rtol=1e-3, atol=1e-3)
    assert any("local steps" in note for note in two.notes)


def test_interrupted() -> None:
    def watch(snapshot: Snapshot) -> None:
        if snapshot.iteration == 2:
            raise KeyboardInterrupt

    found = Decoupled(iterations=50).reconstruct(observe(pictures(2), torch.tensor([1, 2])), watch=watch)
    assert found.interrupted
    assert found.iterations == 2
    assert found.images is not None
    assert found.features is not None


def test_no_linear_head() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 10), nn.Tanh())
    with pytest.raises(InputError, match="last linear layer"):
        Decoupled().reconstruct(observe(pictures(2), torch.tensor([1, 2]), model=model, granted=True))


def test_a_head_that_the_client_does_not_train() -> None:
    """Nothing of it was sent: with granted labels the rest is matched, and said so; without them, what is missing."""
    seen = observe(pictures(1), torch.tensor([4]), granted=True)
    frozen = {name: row for name, row in seen.update.items() if not name.startswith("5.")}
    recovered = Decoupled(iterations=8).reconstruct(replace(seen, update=frozen))
    assert recovered.features is None
    assert "leaves out '5.weight'" in recovered.notes[0]
    assert float(errors(recovered, pictures(1))) < float((pictures(1) - 0.5).square().mean()) / 2
    with pytest.raises(InputError, match=r"leaves out '5\.weight'.*dlg"):
        Decoupled().reconstruct(replace(seen, update=frozen, labels=None))


def test_a_linear_model_has_no_body() -> None:
    images, labels = pictures(2), torch.tensor([1, 1])
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
    found = Decoupled(iterations=8).reconstruct(observe(images, labels, model=model))
    assert float(errors(found, images).max()) < 1e-3


@pytest.mark.parametrize("widths", [(40,), (32, 24)])
def test_relu_networks_are_solved_layer_by_layer(widths: tuple[int, ...]) -> None:
    images, labels = pictures(4), torch.tensor([1, 1, 6, 9])
    observations = [observe(images, labels, model=relu_network(*widths)) for _ in range(2)]
    broken = dict(observations[1].update)
    broken["1.weight"] = broken["1.weight"].roll(1, 0)
    results = Decoupled(iterations=1).reconstruct_many([observations[0], replace(observations[1], update=broken)])
    assert float(errors(results[0], images, labels).max()) < 1e-12
    assert results[0].notes == ("images were computed from their features in closed form, layer by layer",)
    assert float(results[0].losses[-1]) < 1e-12
    assert results[0].iterations == 0
    assert "unexplained: the whole update is matched instead" in results[1].notes[0]
    assert results[1].iterations == 1
    assert results[1].features is not None


def test_a_layer_that_was_not_sent_is_not_solved() -> None:
    images, labels = pictures(2), torch.tensor([1, 6])
    seen = observe(images, labels, model=relu_network(32, 24), granted=True)
    sent = {name: row for name, row in seen.update.items() if name != "1.weight"}
    recovered = Decoupled(iterations=1).reconstruct(replace(seen, update=sent))
    assert "leaves out '1.weight': the whole update is matched" in recovered.notes[0]


def test_labelings_come_by_distance_without_repeats() -> None:
    scores = torch.tensor([1.6, 0.9, 0.5])
    found = [tuple(labels.tolist()) for labels in _labelings(torch.tensor([2, 1, 0]), scores, [1, 0, 0], 6)]
    counts = torch.stack([torch.bincount(torch.tensor(labels), minlength=3) for labels in found])
    distances = (counts - scores).square().sum(1)
    assert torch.equal(distances, distances.sort().values)
    assert len(set(found)) == len(found) == 6  # two images of three classes, the third being certain
    assert bool((counts[:, 0] >= 1).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"feature_weight": 0.0}, "feature_weight must be positive"),
        ({"tv_end": 1.5}, "tv_end"),
        ({"seconds": -1.0}, "seconds > 0"),
    ],
)
def test_malformed_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Decoupled(**options)  # type: ignore[arg-type]


class Looks(nn.Module):
    """Looks at values, which `vmap` cannot handle."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, images: Tensor) -> Tensor:
        assert float(images.detach().sum()) < float("inf")
        logits: Tensor = self.body(images)
        return logits


def test_models_that_cannot_be_stacked_are_attacked_one_by_one() -> None:
    model = Looks()
    batches = [(pictures(2, seed), torch.tensor([seed, 5])) for seed in range(2)]
    seen = [observe(images, labels, model=model) for images, labels in batches]
    for found, (images, labels) in zip(Decoupled(iterations=3).reconstruct_many(seen), batches, strict=True):
        gray = (images - 0.5).square().flatten(1).mean(1)
        assert float((errors(found, images, labels) / gray).max()) < 0.2


def test_observations_together_on_a_network_with_batch_statistics() -> None:
    layers = (
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8, track_running_stats=False),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(8 * 144, 3),
    )
    torch.manual_seed(0)
    model = nn.Sequential(*layers).train()
    seen = [
        observe(pictures(3, seed), torch.tensor([0, 1, 2]), model=model, granted=True, classes=3) for seed in range(2)
    ]
    together = Decoupled(iterations=2).reconstruct_many(seen)
    alone = Decoupled(iterations=2).reconstruct(seen[0])
    assert float(together[0].losses[-1]) == pytest.approx(float(alone.losses[-1]), rel=0.05)
