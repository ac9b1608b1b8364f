"""The contract of inversions: no subclass gets past it."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.threat import Inversion, LocalSteps, Observation, Reconstruction

SHAPE = (1, 2, 2)


def observation(batch_size: int = 2, seed: int = 0) -> Observation:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    torch.manual_seed(seed)
    update = {name: torch.randn_like(row) for name, row in model.named_parameters()}
    return Observation(model, update, SHAPE, 3, batch_size)


def attack(result: Callable[[], Reconstruction]) -> Inversion:
    class Attack(Inversion):
        def recover(self, observations, *, generator, watch):  # type: ignore[no-untyped-def]
            return [result() for _ in observations]

    return Attack()


def answer(images: Tensor | None = None, labels: Tensor | None = None) -> Reconstruction:
    return Reconstruction(images, labels)


def test_a_sound_answer_passes() -> None:
    images = torch.rand(2, *SHAPE)
    found = attack(lambda: answer(images, torch.tensor([0, 2]))).reconstruct(observation())
    assert found.images is not None
    assert torch.equal(found.images, images)
    assert attack(lambda: answer(labels=torch.tensor([0, 2]))).reconstruct(observation()).images is None


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.rand(3, *SHAPE), None, r"images must be finite and of shape \(2, 1, 2, 2\)"),
        (torch.rand(2, *SHAPE) * torch.nan, None, "images must be finite"),
        (torch.rand(2, *SHAPE) + 1, None, r"images must lie in \[0, 1\]"),
        (torch.rand(2, *SHAPE) - 1, None, r"images must lie in \[0, 1\]"),
        (None, torch.tensor([0]), "labels must be 2 of int64"),
        (None, torch.tensor([0.0, 1.0]), "labels must be 2 of int64"),
        (None, torch.tensor([0, 3]), r"labels must lie in \[0, 3\)"),
    ],
)
def test_answers_that_break_the_contract(images: Tensor | None, labels: Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=rf"Attack\.recover: {message}"):
        attack(lambda: answer(images, labels)).reconstruct(observation())


def test_observations_attacked_together_must_be_alike() -> None:
    sound = attack(lambda: answer(torch.rand(2, *SHAPE)))
    first = observation()
    assert len(sound.reconstruct_many([first, observation(seed=1)])) == 2
    other_model = observation()
    other_model.model.get_parameter("1.bias").data.add_(1)
    for other, message in (
        (observation(batch_size=3), "agree in batch_size"),
        (replace(first, labels=torch.tensor([0, 1])), "grant the same knowledge"),
        (replace(first, update={"1.bias": torch.zeros(3)}), "updates of the same parameters"),
        (other_model, "share one model"),
    ):
        with pytest.raises(InputError, match=message):
            sound.reconstruct_many([first, other])
    with pytest.raises(InputError, match="no observation"):
        sound.reconstruct_many([])


def test_one_answer_for_each_observation() -> None:
    class Lazy(Inversion):
        def recover(self, observations, *, generator, watch):  # type: ignore[no-untyped-def]
            return []

    with pytest.raises(InputError, match="0 reconstructions of 1 observations"):
        Lazy().reconstruct(observation())


def test_the_contract_cannot_be_replaced() -> None:
    with pytest.raises(TypeError, match="may not define reconstruct"):
        type("Cheat", (Inversion,), {"reconstruct": lambda self: None})


def test_observations_attacked_together_must_share_buffers() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 3))
    first = Observation(model, {"2.bias": torch.ones(3)}, SHAPE, 3, 2)
    model.get_buffer("0.running_mean").add_(1)
    other = Observation(model, {"2.bias": torch.ones(3)}, SHAPE, 3, 2)
    with pytest.raises(InputError, match="share one model"):
        attack(lambda: answer(torch.rand(2, *SHAPE))).reconstruct_many([first, other])


def test_generators_of_other_devices_are_refused() -> None:
    elsewhere: Any = SimpleNamespace(device=torch.device("cuda:0"))
    with pytest.raises(InputError, match="Attack: generator must be on the CPU, not on cuda:0"):
        attack(lambda: answer(torch.rand(2, *SHAPE))).reconstruct(observation(), generator=elsewhere)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), "cannot take images of 1x2x2: .*shapes"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten()), "cannot take images of 1x2x2: .*channels"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "gives 2 logits, num_classes is 3"),
        (nn.Linear(2, 3), r"must give logits \[batch, classes\], of 2 images it gives shape \(2, 1, 2, 3\)"),
    ],
)
def test_models_that_do_not_go_with_the_observation(model: nn.Module, message: str) -> None:
    seen = Observation(model, {name: torch.ones_like(row) for name, row in model.named_parameters()}, SHAPE, 3, 2)
    with pytest.raises(InputError, match=f"Attack: the model {message}"):
        attack(lambda: answer(torch.rand(2, *SHAPE))).reconstruct(seen)


def test_trying_the_model_leaves_no_trace() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 3)).double().train()
    seen = Observation(model, {"3.bias": torch.ones(3)}, SHAPE, 3, 2)
    images, random = torch.rand(2, *SHAPE), torch.get_rng_state()
    attack(lambda: answer(images)).reconstruct(seen)
    assert torch.equal(torch.get_rng_state(), random)
    after = seen.model.state_dict()
    assert all(torch.equal(row, after[name]) for name, row in model.state_dict().items())


@pytest.mark.parametrize(
    ("touch", "message"),
    [
        (
            lambda seen: seen.update["1.bias"].zero_(),
            r"Attack\.recover changed `observations\[1\]\.update\['1\.bias'\]`",
        ),
        (
            lambda seen: seen.model[1].weight.mul_(2),
            r"Attack\.recover changed `observations\[1\]\.model\['1\.weight'\]`",
        ),
    ],
)
def test_observations_may_not_be_written_to(touch: Callable[[Any], object], message: str) -> None:
    first, second = observation(), observation(seed=1)
    with pytest.raises(InputError, match=message):
        attack(lambda: (touch(second), answer(torch.rand(2, *SHAPE)))[1]).reconstruct_many([first, second])


def test_updates_that_carry_nothing() -> None:
    sound = attack(lambda: answer(torch.rand(2, *SHAPE)))
    first = observation()
    nothing = replace(first, update={name: row * 0 for name, row in first.update.items()})
    with pytest.raises(InputError, match="Attack: the update is zero everywhere; there is nothing to recover"):
        sound.reconstruct_many([first, nothing])
    sound.reconstruct(replace(nothing, update={**nothing.update, "1.bias": torch.tensor([0.0, 1e-30, 0.0])}))
    huge = replace(first, local=LocalSteps(lr=1e-30, steps=1), update={"1.bias": torch.full((3,), 1e30)})
    with pytest.raises(InputError, match=r"Attack: the gradient of '1\.bias', from LocalSteps.* is not finite"):
        sound.reconstruct(huge)
