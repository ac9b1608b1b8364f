"""The contract of inversions of feature maps: no subclass gets past it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.testing import check_feature_inversion
from fedsec.threat import FeatureInversion, FeatureObservation, PixelScale, Reconstruction

SHAPE = (1, 4, 4)
LABELS = torch.tensor([1, 0])


def extractor() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())


def observation(**changes: Any) -> FeatureObservation:
    options = {"extractor": extractor(), "features": torch.rand(2, 2, 4, 4), "input_shape": SHAPE, "labels": LABELS}
    return FeatureObservation(**{**options, **changes})


def attack(recover: Callable[[FeatureObservation], Any]) -> FeatureInversion:
    class Attack(FeatureInversion):
        def recover(self, observation: FeatureObservation, *, generator: torch.Generator, watch: Any) -> Any:
            return recover(observation)

    return Attack()


def answer(images: Tensor | None, labels: Tensor | None = None) -> Reconstruction:
    return Reconstruction(images, labels)


def test_the_extractor_is_a_private_copy_in_eval_mode() -> None:
    mine = extractor().train()
    seen = observation(extractor=mine)
    mine[0].weight.data.zero_()
    assert mine.training
    assert not seen.extractor.training
    assert all(bool(row.any()) and not row.requires_grad for row in seen.extractor[0].parameters())


def test_features_and_labels_are_copies_in_the_extractors_dtype() -> None:
    features, labels = torch.rand(2, 2, 4, 4).half(), LABELS.clone()
    seen = observation(features=features, labels=labels)
    assert seen.features.dtype == torch.float32
    features.zero_()
    labels.zero_()
    assert bool(seen.features.any())
    assert torch.equal(seen.labels, LABELS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": torch.rand(2, 2, 4)}, "features must be floating-point feature maps"),
        ({"features": torch.ones(2, 2, 4, 4, dtype=torch.int64)}, "not torch.int64"),
        ({"features": torch.full((2, 2, 4, 4), torch.nan)}, "features must be finite, also as torch.float32"),
        ({"features": torch.full((2, 2, 4, 4), 1e300, dtype=torch.float64)}, "must be finite, also as torch.float32"),
        ({"features": torch.rand(2, 2, 4, 4, device="meta")}, "features are on meta, the extractor on cpu"),
        ({"input_shape": (4, 4)}, r"input_shape must be \(channels, height, width\)"),
        ({"scale": PixelScale((0.1, 0.2), (1.0, 1.0))}, "does not go with images of 1 channels"),
        ({"labels": torch.tensor([1])}, "labels must be 2 of int64 and not negative"),
        ({"labels": torch.tensor([1.0, 0.0])}, "labels must be 2 of int64"),
        ({"labels": torch.tensor([1, -1])}, "not negative"),
    ],
)
def test_observations_that_contradict_themselves(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"FeatureObservation: .*{message}"):
        observation(**wrong)


def test_a_sound_answer_passes_with_the_observed_labels() -> None:
    images = torch.rand(2, *SHAPE)
    found = attack(lambda seen: answer(images, torch.tensor([7, 7]))).reconstruct(observation())
    assert torch.equal(found.images, images)
    assert torch.equal(found.labels, LABELS)
    assert attack(lambda seen: answer(images, LABELS)).reconstruct(observation(labels=None)).labels is None


@pytest.mark.parametrize(
    ("recover", "message"),
    [
        (lambda seen: answer(None, LABELS), "Attack.recover: no images"),
        (lambda seen: answer(torch.rand(3, *SHAPE)), r"images must be finite and of shape \(2, 1, 4, 4\)"),
        (lambda seen: answer(torch.rand(2, *SHAPE) * torch.nan), "images must be finite"),
        (lambda seen: answer(torch.rand(2, *SHAPE) + 1), r"images must lie in \[0, 1\]"),
        (lambda seen: answer(torch.rand(2, *SHAPE) - 1), r"images must lie in \[0, 1\]"),
        (lambda seen: (seen.features.zero_(), answer(torch.rand(2, *SHAPE)))[1], "changed `features` in place"),
        (
            lambda seen: (seen.extractor[0].weight.mul_(2), answer(torch.rand(2, *SHAPE)))[1],
            r"changed `extractor\['0.weight'\]` in place",
        ),
        (
            lambda seen: (seen.extractor[1].running_mean.add_(2), answer(torch.rand(2, *SHAPE)))[1],
            r"changed `extractor\['1.running_mean'\]` in place",
        ),
    ],
)
def test_attack_that_breaks_the_contract(recover: Callable[[FeatureObservation], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attack(recover).reconstruct(observation())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": torch.zeros(2, 2, 4, 4)}, "the features are zero everywhere"),
        ({"extractor": nn.Conv2d(3, 2, 1)}, "the extractor cannot take images of 1x4x4: .*channels"),
        ({"extractor": nn.Conv2d(1, 2, 2)}, r"must give features of shape \(2, 2, 4, 4\), it gives shape \(2, 2, 3, 3"),
        ({"extractor": nn.LSTM(4, 4)}, "cannot take images|it gives tuple"),
    ],
)
def test_observations_that_cannot_be_attacked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"Attack: .*{message}"):
        attack(lambda seen: answer(torch.rand(2, *SHAPE))).reconstruct(observation(**changes))


def test_generators_of_other_devices_are_refused() -> None:
    elsewhere: Any = SimpleNamespace(device=torch.device("cuda:0"))
    with pytest.raises(InputError, match="Attack: generator must be on the CPU, not on cuda:0"):
        attack(lambda seen: answer(torch.rand(2, *SHAPE))).reconstruct(observation(), generator=elsewhere)


def test_the_contract_cannot_be_replaced() -> None:
    with pytest.raises(TypeError, match="may not define reconstruct"):
        type("Cheat", (FeatureInversion,), {"reconstruct": lambda self: None})


@pytest.mark.parametrize(
    ("misdeed", "message"),
    [
        (lambda seen: seen.features.data.zero_(), "the observation must not change"),
        (lambda seen: [row.data.zero_() for row in seen.extractor.parameters()], "the observation must not change"),
        (lambda seen: seen.extractor.train(), "the observation must not change"),
        (lambda seen: torch.rand(1), "global random state"),
    ],
)
def test_the_conformance_check_notices(misdeed: Callable[[FeatureObservation], object], message: str) -> None:
    def gray(seen: FeatureObservation) -> Reconstruction:
        return answer(torch.full((seen.batch_size, *seen.input_shape), 0.5))

    check_feature_inversion(attack(gray), gain=None)
    with pytest.raises(AssertionError, match="a PSNR of at least 6"):
        check_feature_inversion(attack(gray))
    with pytest.raises(AssertionError, match=message):
        check_feature_inversion(attack(lambda seen: (misdeed(seen), gray(seen))[1]), gain=None)
