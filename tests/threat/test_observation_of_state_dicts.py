"""What other frameworks store, as an observation: the same as one's own, and what it tells of the training."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsec.attacks import Labels
from fedsec.errors import InputError
from fedsec.threat import Distortion, LocalSteps, Observation

SHAPE = (1, 4, 4)
KNOWN: dict[str, Any] = {"input_shape": SHAPE, "num_classes": 3, "batch_size": 2}
ONE = LocalSteps(lr=0.1, steps=1)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def trained(model: nn.Module, local: LocalSteps, labels: tuple[int, ...] = (0, 2)) -> nn.Module:
    client = deepcopy(model)
    optimizer = torch.optim.SGD(client.parameters(), lr=local.lr)
    images = torch.rand(len(labels), *SHAPE, generator=torch.Generator().manual_seed(3))
    for _ in range(local.steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(client(images), torch.tensor(labels)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return client


def test_it_is_the_observation_of_the_difference() -> None:
    model = network().train()
    before, after = deepcopy(model.state_dict()), trained(model, ONE).state_dict()
    seen = Observation.of_state_dicts(before, after, model=network().train(), local=ONE, **KNOWN)
    difference = {name: after[name] - before[name] for name in before if not name.endswith("tracked")}
    same = Observation.of_update(model, difference, local=ONE, **KNOWN)
    assert seen.update.keys() == same.update.keys()
    assert all(torch.equal(seen.update[name], same.update[name]) for name in same.update)
    assert seen.statistics is not None
    assert same.statistics is not None
    torch.testing.assert_close(seen.statistics["1"], same.statistics["1"])
    assert not seen.remarks


def test_arrays_names_of_wrappers_and_an_untrained_architecture_do() -> None:
    model = network().train()
    before = {f"module.{name}": values.clone() for name, values in model.state_dict().items()}
    after = {f"_orig_mod.{name}": values.numpy() for name, values in trained(model, ONE).state_dict().items()}
    torch.manual_seed(7)
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    kept = deepcopy(other.state_dict())
    seen = Observation.of_state_dicts(before, after, model=other, local=ONE, **KNOWN)
    assert torch.equal(seen.model.state_dict()["3.weight"], before["module.3.weight"])
    assert all(torch.equal(values, kept[name]) for name, values in other.state_dict().items())


def test_modes_follow_what_statistics_did() -> None:
    model = network().train()
    before, after = deepcopy(model.state_dict()), trained(model, ONE).state_dict()
    seen = Observation.of_state_dicts(before, after, model=network().eval(), local=ONE, **KNOWN)
    assert seen.model[1].training  # type: ignore[index]
    assert seen.remarks == (
        "running statistics of 1 layers moved: the client trained them in train mode, taken so here",
    )
    still = trained(network().eval(), ONE).state_dict()
    quiet = Observation.of_state_dicts(before, still, model=network().eval(), local=ONE, **KNOWN)
    assert not quiet.model[1].training  # type: ignore[index]
    assert not quiet.remarks
    weights_only = {name: values for name, values in after.items() if ".running" not in name}
    assert Observation.of_state_dicts(before, weights_only, model=model, local=ONE, **KNOWN).statistics is None


def test_counters_tell_the_steps() -> None:
    model = network().train()
    after = trained(model, LocalSteps(lr=0.1, steps=4)).state_dict()
    before = model.state_dict()
    wrong = Observation.of_state_dicts(before, after, model=model, local=ONE, **KNOWN)
    assert wrong.remarks == ("normalization layers counted 4 batches, and the client is said to take 1",)
    unknown = Observation.of_state_dicts(before, after, model=model, local=None, **KNOWN)
    assert unknown.remarks[1] == "normalization layers counted 4 batches"
    right = Observation.of_state_dicts(before, after, model=model, local=LocalSteps(lr=0.1, steps=4), **KNOWN)
    assert right.statistics is not None
    assert unknown.statistics is not None
    torch.testing.assert_close(right.statistics["1"], unknown.statistics["1"])
    silent = {name: values for name, values in after.items() if not name.endswith("tracked")}
    assert Observation.of_state_dicts(before, silent, model=model, local=None, **KNOWN).statistics is None


@pytest.mark.parametrize("lr", [0.01, 100.0])
def test_an_unknown_training_is_a_direction_and_labels_are_read_all_the_same(lr: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12))
    after = trained(model, LocalSteps(lr=lr, steps=1), labels=(5, 5, 2)).state_dict()
    known = {**KNOWN, "num_classes": 12, "batch_size": 3}
    seen = Observation.of_state_dicts(model.state_dict(), after, model=model, local=None, **known)
    assert seen.local is None
    assert "is not known" in seen.remarks[0]
    drift = after["1.weight"] - model.state_dict()["1.weight"]
    cosine = nn.functional.cosine_similarity(seen.update["1.weight"].flatten(), drift.flatten(), dim=0)
    assert float(cosine) == pytest.approx(-1)
    result = Labels().reconstruct(seen)
    assert result.labels is not None
    assert result.labels.tolist() == [2, 5, 5]
    assert result.notes[0] == seen.remarks[0]


def _without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda state: {key: values for key, values in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (_without("3.bias"), {}, "after: lacks '3.bias'"),
        (lambda state: {**state, "x": torch.ones(1)}, {}, "after: has 'x', which the reference does not have"),
        (lambda state: {**state, "3.bias": torch.ones(2)}, {}, r"after: '3.bias' has shape \(2,\); expected \(3,\)"),
        (lambda state: network().train().state_dict(), {}, "before and after have the same parameters"),
        (lambda state: network(), {}, "after: expected a state dict, .* call its state_dict"),
        (lambda state: state, {"model": "resnet"}, "model must be the module of the state dicts, not str"),
        (lambda state: state, {"model": nn.Linear(4, 3)}, "model: has no '0.weight'"),
        (
            lambda state: state,
            {"local": {"lr": 0.1}},
            r"local must be LocalSteps\(lr=\.\.\., steps=\.\.\.\) or None, not dict",
        ),
        (lambda state: state, {"input_shape": (5,)}, r"input_shape must be \(channels, height, width\), got \(5,\)"),
        (lambda state: state, {"input_shape": (9, 6, 6)}, r"the model does not take images of shape \(9, 6, 6\): "),
        (lambda state: state, {"local": None, "distortion": Distortion()}, "a known distortion has the units"),
        (lambda state: {**state, "3.bias": torch.full((3,), torch.nan)}, {}, "after: '3.bias' must be finite"),
        (lambda state: {**state, "3.bias": torch.full((3,), torch.inf)}, {"local": None}, "after: '3.bias' must be"),
    ],
)
def test_what_does_not_go_together_is_told(change: Any, options: Any, message: str) -> None:
    model = network().train()
    after = change(dict(trained(model, ONE).state_dict()))
    with pytest.raises(InputError, match=message):
        Observation.of_state_dicts(model.state_dict(), after, **{"model": model, "local": ONE, **KNOWN, **options})


def test_exchanged_states_are_noticed() -> None:
    model = network().train()
    after = trained(model, ONE).state_dict()
    with pytest.raises(InputError, match="are they exchanged"):
        Observation.of_state_dicts(after, model.state_dict(), model=model, local=None, **KNOWN)


def test_a_state_of_another_size_or_in_part_is_no_start() -> None:
    model = network()
    after = trained(model.train(), ONE).state_dict()
    short = {name: values for name, values in model.state_dict().items() if name != "3.bias"}
    with pytest.raises(InputError, match=r"3\.bias"):
        Observation.of_state_dicts(short, after, model=model, local=ONE, **KNOWN)
    wide = {**model.state_dict(), "3.bias": torch.ones(4)}
    with pytest.raises(InputError, match="model does not load before"):
        Observation.of_state_dicts(wide, {**after, "3.bias": torch.zeros(4)}, model=model, local=ONE, **KNOWN)
