"""PercentilePrivacy against values computed by NVFlare 2.8.1's own class, and what an attacker who knows it sees."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsec.defense.updates import compose
from fedsec.defenses import GaussianNoise, PercentilePrivacy

WEIGHT = (torch.arange(12) * 7 % 13 - 6).float().div(100).view(3, 4)
UPDATE = {"w": WEIGHT, "b": torch.tensor([0.5, -0.021, 0.002]), "s": torch.tensor(0.7)}
NVFLARE = [
    (10, 0.01, 1, [-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1], [1, -1, 0]),
    (50, 0.03, 1, [-3, 0, -3, 0, -3, 0, 0, 3, 0, 3, 0, 3], [3, 0, 0]),
    (50, 0.03, 5, [-6, 0, -5, 0, -4, 0, 0, 4, 0, 5, 0, 6], [15, 0, 0]),
    (25, 1.0, 2, [-6, 0, -5, 2, -4, 3, -3, 4, -2, 5, 0, 6], [50, -2.1, 0]),
]
"""percentile, gamma, local steps; what it sent of w and b, in hundredths. The scalar was sent as it was."""


@pytest.mark.parametrize(("percentile", "gamma", "steps", "weight", "bias"), NVFLARE)
def test_values_are_those_of_nvflare(
    percentile: float, gamma: float, steps: int, weight: list[float], bias: list[float]
) -> None:
    sent = PercentilePrivacy(percentile, gamma, steps)(UPDATE)
    assert (100 * sent["w"]).flatten().tolist() == pytest.approx(weight, abs=1e-5)
    assert (100 * sent["b"]).tolist() == pytest.approx(bias, abs=1e-5)
    assert sent["s"].item() == UPDATE["s"].item()


def test_by_default_nine_tenths_of_the_entries_are_sent_as_they_are() -> None:
    update = {"w": 1e-3 * torch.randn(40, 50, generator=torch.Generator().manual_seed(0))}
    sent = PercentilePrivacy()(update)["w"]
    assert int((sent == update["w"]).sum()) == 1800
    known = PercentilePrivacy().known({"w": sent})
    assert torch.equal(known.kept["w"], sent != 0)
    assert known.limit["w"] >= float(update["w"][sent == 0].abs().max())
    assert not known.noise


def slow(row: np.ndarray, percentile: float, gamma: float) -> np.ndarray:
    """The formula, entry by entry."""
    order = sorted(abs(value) for value in row)
    place = percentile / 100 * (len(order) - 1)
    low = int(place)
    high = min(low + 1, len(order) - 1)
    cutoff = order[low] + (place - low) * (order[high] - order[low])
    return np.array([max(-gamma, min(gamma, value)) if abs(value) >= cutoff else 0.0 for value in row])


@pytest.mark.parametrize("percentile", [0, 33, 90, 100])
def test_it_follows_the_formula(percentile: float) -> None:
    row = np.random.default_rng(1).normal(size=37)
    sent = PercentilePrivacy(percentile, 0.8)({"w": torch.from_numpy(row)})["w"]
    assert sent.numpy() == pytest.approx(slow(row, percentile, 0.8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_an_attacker_sees_what_was_cut_off(dtype: torch.dtype) -> None:
    update: dict[str, Tensor] = {"w": torch.tensor([0.005, -0.02, 0.004, 0.003, 0.006], dtype=dtype)}
    few = PercentilePrivacy(percentile=0)
    known = few.known(few(update))
    assert known.kept["w"].tolist() == [True, False, True, True, True]
    assert not known.signs
    most = PercentilePrivacy(percentile=0, gamma=0.0041)
    assert most.known(most(update)).signs


def test_beside_noise_it_says_what_was_dropped_and_no_more() -> None:
    chain = compose([PercentilePrivacy(50), GaussianNoise(0.1)])
    known = chain.known(chain(UPDATE))
    assert known.noise == {"w": 0.1, "b": 0.1, "s": 0.1}
    assert not known.signs
    assert not known.limit


def test_it_says_itself_that_it_guarantees_nothing() -> None:
    assert PercentilePrivacy.guarantee.startswith("none:")
    assert PercentilePrivacy.called_private
