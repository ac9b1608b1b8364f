"""What a client sends, against a plain training loop; and that nothing of its images goes along."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data import Normalization
from fedsec.errors import InputError
from fedsec.inversion.client import observe
from fedsec.inversion.server_view import ServerKnowledge, has_batch_statistics, pixel_scale
from fedsec.threat import LocalSteps, Observation, PixelScale

NORMALIZATION = Normalization((0.4, 0.5, 0.6), (0.2,))
LABELS = torch.tensor([2, 0, 2, 1])


def images(count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, 6, 6), generator=generator, dtype=torch.uint8)


def network(norm: bool = True) -> nn.Module:
    torch.manual_seed(3)
    middle = nn.BatchNorm2d(4) if norm else nn.Identity()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), middle, nn.Tanh(), nn.Flatten(), nn.Linear(64, 3))
    for buffer in model.buffers():
        buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return model


def by_hand(pixels: Tensor) -> Tensor:
    mean = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
    return (pixels.double() / 255 - mean) / 0.2


def see(model: nn.Module, seed: int = 0, **options: Any) -> Observation:
    options = {"num_classes": 3, "normalization": NORMALIZATION, **options}
    return observe(model, images(), LABELS, generator=torch.Generator().manual_seed(seed), **options)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("norm", [True, False])
def test_gradient(norm: bool, mode: str) -> None:
    model = network(norm)
    before = state(model)
    seen = see(model, mode=mode)
    twin = network(norm).double().train(mode == "train")
    twin.load_state_dict(before)
    F.cross_entropy(twin(by_hand(images())), LABELS).backward()
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(seen.update[name].double(), parameter.grad, atol=1e-5)
        assert seen.update[name].dtype == torch.float32
    assert (seen.batch_size, seen.input_shape, seen.num_classes) == (4, (3, 6, 6), 3)
    assert seen.local is None
    assert seen.scale == PixelScale((0.4, 0.5, 0.6), (0.2, 0.2, 0.2)) == pixel_scale(NORMALIZATION)


def test_the_mode_matters_to_the_gradient() -> None:
    one, other = (see(network(), mode=mode).update["0.weight"] for mode in ("train", "eval"))
    assert not torch.allclose(one, other)


def test_local_steps_follow_shuffled_epochs() -> None:
    model = network(norm=False)
    local = LocalSteps(lr=0.1, steps=3, batch_size=3)
    seen = see(model, seed=9, local=local)
    generator = torch.Generator().manual_seed(9)
    first, second = (torch.randperm(4, generator=generator) for _ in range(2))
    twin = network(norm=False).double()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for chosen in (first[:3], first[3:], second[:3]):
        optimizer.zero_grad()
        F.cross_entropy(twin(by_hand(images())[chosen]), LABELS[chosen]).backward()
        optimizer.step()
    before = dict(model.named_parameters())
    for name, parameter in twin.named_parameters():
        assert torch.allclose(seen.update[name].double(), (parameter - before[name].double()).detach(), atol=1e-5)
    assert seen.local == local


def test_one_local_step_on_everything_is_the_gradient() -> None:
    model = network(norm=False)
    stepped = see(model, local=LocalSteps(lr=0.5, steps=1))
    for name, row in see(model).update.items():
        assert torch.allclose(stepped.gradient[name], row, atol=1e-5)


@pytest.mark.parametrize("local", [None, LocalSteps(lr=0.1, steps=2, batch_size=2)])
@pytest.mark.parametrize("statistics", ["batch", "none", "running", "sent"])
def test_the_broadcast_model_stays_as_it_is(local: LocalSteps | None, statistics: Any) -> None:
    model = network().eval()
    before = state(model)
    seen = see(model, local=local, knowledge=ServerKnowledge(bn_statistics=statistics))
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in seen.model.state_dict().items())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_statistics_that_are_granted(mode: str) -> None:
    model = network()
    seen = see(model, mode=mode, knowledge=ServerKnowledge(bn_statistics="batch"))
    assert seen.statistics is not None
    assert list(seen.statistics) == ["1"]
    entered = model[0].double()(by_hand(images())).detach()  # type: ignore[index]
    mean, variance = seen.statistics["1"]
    expected = entered.mean((0, 2, 3))
    assert torch.allclose(mean.double(), expected, atol=1e-5)
    spread = (entered - expected.view(1, -1, 1, 1)).square().sum((0, 2, 3)) / (4 * 4 * 4)
    assert torch.allclose(variance.double(), spread, atol=1e-5)
    assert seen.model[1].training == (mode == "train")


def test_statistics_are_those_of_all_images_before_the_first_step() -> None:
    knowledge = ServerKnowledge(bn_statistics="batch")
    stepped = see(network(), local=LocalSteps(lr=0.1, steps=3, batch_size=2), knowledge=knowledge).statistics
    once = see(network(), knowledge=knowledge).statistics
    assert stepped is not None
    assert once is not None
    assert all(torch.equal(one, other) for one, other in zip(stepped["1"], once["1"], strict=True))


def test_sent_statistics_are_the_batch_s_for_one_step_and_near_it_for_several() -> None:
    batch = see(network(), knowledge=ServerKnowledge(bn_statistics="batch")).statistics
    assert batch is not None
    for local, close in ((None, 1e-4), (LocalSteps(lr=0.1, steps=1), 1e-4), (LocalSteps(lr=0.01, steps=3), 0.05)):
        sent = see(network(), local=local, knowledge=ServerKnowledge(bn_statistics="sent"))
        assert sent.statistics is not None
        assert sent.model[1].training
        for row, truth in zip(sent.statistics["1"], batch["1"], strict=True):
            torch.testing.assert_close(row, truth, rtol=close, atol=close)


def test_dropout_is_off_beside_batch_normalization() -> None:
    model = network()
    plain = see(model)
    dropping = nn.Sequential(*list(model)[:3], nn.Dropout(0.5), *list(model)[3:])
    updates = [see(dropping).update for _ in range(2)]
    for name, row in updates[0].items():
        assert torch.equal(row, updates[1][name])
    assert torch.equal(updates[0]["5.weight"], plain.update["4.weight"])


def test_what_the_attacker_assumes() -> None:
    model = network()
    assert see(model).model[1].training
    assert see(model).statistics is None
    assert not see(model, knowledge=ServerKnowledge(bn_statistics="running")).model[1].training
    assert not any(
        layer.training for layer in see(network(norm=False), knowledge=ServerKnowledge(bn_statistics="batch")).model
    )
    assert see(network(norm=False), knowledge=ServerKnowledge(bn_statistics="batch")).statistics is None
    assert has_batch_statistics(model)
    assert not has_batch_statistics(network(norm=False))


def test_labels_only_where_granted_and_in_no_order() -> None:
    model = network()
    assert see(model).labels is None
    orders = set()
    for seed in range(8):
        labels = see(model, seed=seed, knowledge=ServerKnowledge(labels=True)).labels
        assert labels is not None
        assert labels.sort().values.tolist() == [0, 1, 2, 2]
        orders.add(tuple(labels.tolist()))
    assert len(orders) > 1


def test_frozen_parameters_are_not_sent() -> None:
    model = network(norm=False)
    model[0].requires_grad_(False)  # type: ignore[index]
    assert set(see(model).update) == {"4.weight", "4.bias"}
    with pytest.raises(InputError, match="no parameter to train"):
        see(model.requires_grad_(False))


def test_a_model_that_cannot_take_the_batch() -> None:
    with pytest.raises(InputError, match="the model cannot be evaluated on a batch of 4: "):
        see(nn.Linear(5, 3))


def test_an_update_that_is_not_finite() -> None:
    with pytest.raises(InputError, match="finite"):
        see(network(norm=False), local=LocalSteps(lr=1e38, steps=4))


def test_the_observation_has_no_place_for_the_truth() -> None:
    kinds = {each.name: str(each.type) for each in dataclasses.fields(Observation)}
    assert set(kinds) == {
        "model",
        "update",
        "input_shape",
        "num_classes",
        "batch_size",
        "scale",
        "local",
        "labels",
        "statistics",
        "distortion",
        "loss",
        "reduction",
        "loss_scale",
        "remarks",
        "unsent",
    }
    seen = see(network(), knowledge=ServerKnowledge(labels=True, bn_statistics="batch"))
    assert set(vars(seen)) == set(kinds)
    for tensor in tensors(vars(seen)):
        assert tensor.shape[-3:] != (3, 6, 6)
        assert tensor.numel() != images().numel()


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, nn.Module):
        return [*value.parameters(), *value.buffers()]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in tensors(item)]
    if isinstance(value, tuple):
        return [tensor for item in value for tensor in tensors(item)]
    return tensors(vars(value)) if dataclasses.is_dataclass(value) else []
