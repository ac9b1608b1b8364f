"""Feature and logit poisoning against what their definitions say, entry by entry."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsec.attacks import FeaturePoison, LogitPoison
from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.threat import Knowledge, KnowledgePoisoning


def knowledge(count: int = 5, classes: int = 4, seed: int = 0) -> Knowledge:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 3, 4, 4, generator=generator) * torch.tensor([1.0, 5.0, 0.1]).view(3, 1, 1) + 2
    labels = torch.randint(0, classes, (count,), generator=generator)
    return Knowledge(features, torch.randn(count, classes, generator=generator), labels)


def distort(attack: KnowledgePoisoning, honest: Knowledge, seed: int = 0) -> Knowledge:
    return attack.distort(honest, num_classes=honest.num_classes, generator=torch.Generator().manual_seed(seed))


@given(count=st.integers(2, 12), seed=st.integers(0, 1000))
def test_shuffling_leaves_no_example_its_features(count: int, seed: int) -> None:
    honest = knowledge(count, seed=seed)
    made = distort(FeaturePoison("shuffle"), honest, seed)
    owners = [[other for other in range(count) if torch.equal(row, honest.features[other])] for row in made.features]
    assert sorted(owner for (owner,) in owners) == list(range(count))
    assert all(owner != place for place, (owner,) in enumerate(owners))


def test_shuffling_depends_on_the_generator() -> None:
    honest = knowledge(20)
    first, other = (distort(FeaturePoison("shuffle"), honest, seed) for seed in (0, 1))
    assert not torch.equal(first.features, other.features)


def test_a_single_example_cannot_be_shuffled() -> None:
    honest = knowledge(1)
    assert torch.equal(distort(FeaturePoison("shuffle"), honest).features, honest.features)


def test_noise_has_each_channels_moments_and_nothing_else() -> None:
    honest = knowledge(400)
    made = distort(FeaturePoison("noise"), honest, seed=7)
    for channel in range(3):
        was, is_now = honest.features[:, channel], made.features[:, channel]
        assert float(is_now.mean()) == pytest.approx(float(was.mean()), abs=0.05 * float(was.std()))
        assert float(is_now.std()) == pytest.approx(float(was.std()), rel=0.05)
        related = torch.corrcoef(torch.stack([was.flatten(), is_now.flatten()]))[0, 1]
        assert abs(float(related)) < 0.05


def test_noise_of_half_precision_features_is_finite() -> None:
    honest = knowledge(200)
    half = Knowledge(honest.features.half() * 100, honest.logits, honest.labels)
    assert bool(distort(FeaturePoison(), half).features.isfinite().all())


@pytest.mark.parametrize(("options", "factor"), [({}, 10.0), ({"scale": -0.5}, -0.5)])
def test_scaled_features(options: dict[str, Any], factor: float) -> None:
    honest = knowledge()
    assert torch.equal(distort(FeaturePoison("scale", **options), honest).features, honest.features * factor)


@given(count=st.integers(1, 6), classes=st.integers(2, 7), seed=st.integers(0, 1000))
def test_poisoned_logits_entry_by_entry(count: int, classes: int, seed: int) -> None:
    honest = knowledge(count, classes, seed)
    mirrored, negated, sure = (
        distort(LogitPoison(mode, scale=2.0), honest).logits for mode in ("mirror", "negate", "confident")
    )
    for row in range(count):
        wrong = (int(honest.labels[row]) + 1) % classes
        for column in range(classes):
            assert mirrored[row, column] == 2 * honest.logits[row, classes - 1 - column]
            assert negated[row, column] == -2 * honest.logits[row, column]
            assert sure[row, column] == (20 if column == wrong else 0)
        assert negated[row].argmax() == honest.logits[row].argmin()
    assert bool((sure.argmax(1) != honest.labels).all())


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        (FeaturePoison, {"mode": "Noise"}, "mode must be noise, shuffle or scale, not 'Noise'"),
        (FeaturePoison, {"mode": "shuffle", "scale": 2.0}, "scale goes with mode scale, not with mode shuffle"),
        (FeaturePoison, {"mode": "scale", "scale": float("nan")}, "scale must be finite, not nan"),
        (LogitPoison, {"mode": "flip"}, "mode must be mirror, negate or confident, not 'flip'"),
        (LogitPoison, {"scale": 0.0}, "scale must be positive and finite, not 0.0"),
        (LogitPoison, {"scale": float("inf")}, "scale must be positive and finite"),
    ],
)
def test_options_out_of_range(attack: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"{attack.__name__}: {message}"):
        attack(**options)


@pytest.mark.parametrize(
    ("kind", "name", "base"),
    [
        ("attack", "feature_poison", "KnowledgePoisoning"),
        ("attack", "logit_poison", "KnowledgePoisoning"),
        ("inversion", "feature_inversion", "FeatureInversion"),
        ("defense", "robust_loss", "KnowledgeDefense"),
        ("defense", "knowledge_screening", "KnowledgeDefense"),
    ],
)
def test_the_registry_tells_the_interface(kind: str, name: str, base: str) -> None:
    assert registry.entry(kind, name).interface == base
