"""What an attacker can tell of a defense: composition, and observations that carry it."""

from typing import Any

import pytest
import torch
from torch import nn

from fedsec.attacks import DLG, Labels
from fedsec.errors import InputError
from fedsec.threat import Distortion, Observation


def mask(*values: bool) -> torch.Tensor:
    return torch.tensor(values)


def test_one_after_the_other() -> None:
    first = Distortion({"a": mask(True, True, False), "b": mask(True)}, {"a": 3.0, "b": 1.0})
    second = Distortion({"a": mask(False, True, False), "c": mask(False)}, {"a": 4.0}, rescaled=True)
    both = first.then(second)
    assert {name: row.tolist() for name, row in both.kept.items()} == {
        "a": [False, True, False],
        "b": [True],
        "c": [False],
    }
    assert both.noise == {"a": 5.0, "b": 1.0}
    assert (both.rescaled, both.signs) == (True, False)
    # Noise before a sign is no longer added to anything; noise after it is.
    assert first.then(Distortion(signs=True)).noise == {}
    assert Distortion(signs=True).then(first).noise == first.noise
    assert Distortion().then(first).kept.keys() == first.kept.keys()


def test_noise_before_an_update_was_cut() -> None:
    first = Distortion(noise={"a": 4.0, "b": 2.0})
    assert first.then(Distortion(rescaled=True, ceiling=1.0)).noise == {"a": 1.0, "b": 0.5}
    assert first.then(Distortion(rescaled=True, ceiling=5.0)).noise == first.noise
    assert first.then(Distortion(rescaled=True, ceiling=0.0)).noise == {}
    # Both in the units of what was sent: nothing is cut any more, and the lower ceiling counts for what came before.
    both = Distortion(noise={"a": 3.0}, ceiling=2.0).joined(Distortion(noise={"a": 4.0}, ceiling=1.0))
    assert (both.noise, both.ceiling) == ({"a": 5.0}, 1.0)
    assert both.joined(Distortion()).ceiling == 1.0
    assert Distortion().joined(Distortion()).ceiling is None


def test_what_was_carried_adds_up() -> None:
    first = Distortion(carried={"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([1.0])})
    both = first.joined(Distortion(carried={"a": torch.tensor([4.0, 1.0])}))
    assert {name: row.tolist() for name, row in both.carried.items()} == {"a": [5.0, 1.0], "b": [1.0]}
    assert first.then(Distortion(signs=True)).carried == {}


def test_what_is_whole_and_exact() -> None:
    assert Distortion(noise={"a": 1.0}).exact
    assert Distortion({"a": mask(True, True)}).exact
    assert not Distortion({"a": mask(True, False)}).exact
    assert not Distortion(signs=True).exact
    assert not Distortion(rescaled=True).exact
    assert Distortion({"a": mask(True, False)}).whole("b")


def test_it_keeps_copies() -> None:
    given = mask(True, True)
    told = Distortion({"a": given})
    given[0] = False
    assert told.kept["a"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("other", "left"),
    [
        (Distortion(), {"a": 1.0, "b": 2.0}),
        (Distortion({"a": mask(True, True)}), {"b": 2.0}),
        (Distortion(noise={"b": 0.1}), {"a": 1.0}),
        (Distortion(carried={"b": torch.ones(2)}), {"a": 1.0}),
        (Distortion({"c": mask(False)}, limit={"c": 3.0}), {"a": 1.0, "b": 2.0, "c": 3.0}),
        (Distortion(rescaled=True), {}),
        (Distortion(signs=True), {}),
    ],
)
def test_limits_hold_where_nothing_else_was_done(other: Distortion, left: dict[str, float]) -> None:
    told = Distortion({"a": mask(True, False), "b": mask(True, False)}, limit={"a": 1.0, "b": 2.0})
    assert told.joined(other).limit == other.joined(told).limit == told.then(other).limit == left


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distortion({"a": torch.ones(2)}), r"kept\['a'\] must be a tensor of torch.bool, got torch.float32"),
        (lambda: Distortion({"a": [True]}), "got list"),
        (lambda: Distortion(noise={"a": -1.0}), "noise of 'a' must be finite and not negative, got -1.0"),
        (lambda: Distortion(noise={"a": float("nan")}), "must be finite"),
        (lambda: Distortion(limit={"a": -1.0}), "limit of 'a' must be finite and not negative, got -1.0"),
        (lambda: Distortion(ceiling=-1.0), "ceiling must be finite and not negative, got -1.0"),
        (lambda: Distortion(carried={"a": torch.tensor([-1.0])}), r"carried\['a'\] must be finite deviations"),
        (lambda: Distortion(noise={3: 1.0}), "expected names of parameters, got 3"),
        (
            lambda: Distortion({"a": mask(True)}).then(Distortion({"a": mask(True, True)})),
            r"masks of 'a' have shapes \(1,\) on cpu and \(2,\) on cpu; expected the same",
        ),
    ],
)
def test_malformed(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def observation(distortion: Distortion | None, value: float = 1.0) -> Observation:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    for parameter in model.parameters():
        parameter.data.fill_(0.1)
    gradient = [torch.full_like(parameter, value) for parameter in model.parameters()]
    return Observation.of_gradient(
        model, gradient, input_shape=(1, 2, 2), num_classes=3, batch_size=1, distortion=distortion
    )


def test_an_observation_checks_it() -> None:
    told = observation(Distortion({"1.bias": mask(True, False, True)})).distortion
    assert told is not None
    assert told.kept["1.bias"].tolist() == [True, False, True]
    assert observation(None).distortion is None
    with pytest.raises(InputError, match=r"'bias' is none of the update's parameters: 1.weight, 1.bias"):
        observation(Distortion(noise={"bias": 1.0}))
    with pytest.raises(InputError, match="'bias' is none of the update's parameters"):
        observation(Distortion(carried={"bias": torch.ones(3)}))
    with pytest.raises(InputError, match=r"carried\['1.bias'\] has shape \(2,\), the update \(3,\)"):
        observation(Distortion(carried={"1.bias": torch.ones(2)}))
    with pytest.raises(InputError, match=r"kept\['1.bias'\] has shape \(2,\), the update \(3,\)"):
        observation(Distortion({"1.bias": mask(True, False)}))


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (None, Distortion()),
        (Distortion(), None),
        (Distortion(signs=True), Distortion()),
        (Distortion(rescaled=True), Distortion()),
    ],
)
def test_observations_attacked_together_grant_it_alike(first: Distortion | None, other: Distortion | None) -> None:
    with pytest.raises(InputError, match="the same knowledge of the clients' defense"):
        Labels().reconstruct_many([observation(first), observation(other)])


def test_nothing_but_what_was_dropped() -> None:
    nothing = Distortion({"1.weight": torch.zeros(3, 4, dtype=torch.bool), "1.bias": mask(False, False, False)})
    with pytest.raises(InputError, match="kept nothing of the update but zeros"):
        DLG(iterations=1).reconstruct(observation(nothing))
