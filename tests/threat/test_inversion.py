"""The contract of inversions: no subclass gets past it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fedsec.errors import InputError
from fedsec.threat import Inversion, Observation, Reconstruction

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
