"""The interface of defenses of single updates: its contract, composition and error feedback."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from fedsec.defense.updates import UNDISTORTED, ClientSide, UpdateTransform, compose, whole_columns, with_feedback
from fedsec.defenses import ClipUpdate, GaussianNoise, Prune, Quantize, Sign
from fedsec.errors import InputError
from fedsec.testing import check_update_transform
from fedsec.threat import Distortion

Change = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]


class Custom(UpdateTransform):
    def __init__(self, change: Change) -> None:
        self.change = change

    def transform(
        self, update: dict[str, Tensor], *, generator: torch.Generator, client: ClientSide | None
    ) -> Mapping[str, Tensor]:
        return self.change(update)

    def known(self, sent: Mapping[str, Tensor], later: Distortion = UNDISTORTED) -> Distortion:
        return Distortion()


def updates(count: int, seed: int = 0) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {"a": torch.randn(3, 4, generator=generator), "b": torch.randn(5, generator=generator)} for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda update: {"a": update["a"]}, "Custom.transform: gave a for an update of a, b"),
        (lambda update: {**update, "b": update["b"][1:]}, r"of shape \(4,\) on cpu for 'b'; expected .* \(5,\)"),
        (lambda update: {**update, "b": update["b"].double()}, "gave torch.float64"),
        (lambda update: {name: row.zero_() for name, row in update.items()}, "changed `update.* in place"),
    ],
)
def test_a_subclass_that_breaks_the_contract(change: Change, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Custom(change)(updates(1)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda update: {name: torch.rand_like(row) for name, row in update.items()}, "global random state"),
        (lambda update: {name: row * torch.nan for name, row in update.items()}, "finite values"),
        (lambda update: update, "an update that changes"),
    ],
)
def test_the_check_notices(change: Change, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_update_transform(Custom(change))


def test_the_check_is_passed() -> None:
    check_update_transform(Custom(lambda update: {name: row / 2 for name, row in update.items()}))
    check_update_transform(compose([Prune(0.5, error_feedback=True), GaussianNoise(0.1), Sign(error_feedback=True)]))


def test_no_subclass_replaces_the_contract() -> None:
    with pytest.raises(TypeError, match="may not define __call__"):
        type("Broken", (Custom,), {"__call__": lambda self, update: update})


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({}, "the update is empty"),
        ({"a": torch.ones(2, dtype=torch.int64)}, r"update\['a'\] must hold floating-point numbers, got torch.int64"),
        ({"a": torch.zeros(0)}, r"got torch.float32 of shape \(0,\)"),
    ],
)
def test_malformed_updates(update: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClipUpdate(1.0)(update)
    with pytest.raises(InputError, match=message):
        with_feedback(ClipUpdate(1.0), update)


def test_a_client_has_images_and_labels() -> None:
    images, labels = torch.zeros(2, 1, 4, 4), torch.tensor([0, 1])
    for wrong in ((images[0], labels), (images.long(), labels), (images[:0], labels[:0])):
        with pytest.raises(InputError, match="images must be the model's input"):
            ClientSide(nn.Linear(1, 1), *wrong)
    for others in (labels[:1], labels.float()):
        with pytest.raises(InputError, match="labels must be 2 of int64"):
            ClientSide(nn.Linear(1, 1), images, others)


def test_a_composition_applies_its_members_in_order() -> None:
    update = {"w": torch.tensor([3.0, -1.0, 0.5, -4.0])}
    assert compose([Prune(0.5), ClipUpdate(1.0)])(update)["w"].tolist() == pytest.approx([0.6, 0, 0, -0.8])
    assert compose([Prune(0.5), Sign()])(update)["w"].tolist() == [1.75, 0, 0, -1.75]
    assert compose([Sign(), Prune(0.5)])(update)["w"].tolist() == pytest.approx([0, 0, 2.125, -2.125])
    assert torch.equal(compose([])(update)["w"], update["w"])
    nested = compose([compose([Prune(0.5), Sign()]), ClipUpdate(1.0)])
    told = nested.known(nested(update))
    assert (told.signs, told.rescaled, told.kept["w"].tolist()) == (True, True, [True, False, False, True])


def test_members_draw_from_one_generator() -> None:
    update = {"w": torch.zeros(1000)}
    twice = compose([GaussianNoise(1.0), GaussianNoise(1.0)])
    made = twice(update, generator=torch.Generator().manual_seed(1))["w"]
    assert float(made.std()) == pytest.approx(2**0.5, rel=0.1)
    assert twice.known({"w": made}).noise["w"] == pytest.approx(2**0.5)


@pytest.mark.parametrize(
    "transform",
    [
        Prune(0.9, error_feedback=True),
        Quantize(2, error_feedback=True),
        Sign(error_feedback=True),
        compose([Prune(0.5, error_feedback=True), ClipUpdate(1e9), Quantize(3, error_feedback=True)]),
    ],
    ids=lambda each: type(each).__name__,
)
def test_nothing_is_lost_with_feedback(transform: UpdateTransform) -> None:
    assert transform.error_feedback
    generator = torch.Generator().manual_seed(0)
    rounds, carried = updates(5), None
    total = {name: torch.zeros_like(row) for name, row in rounds[0].items()}
    for update in rounds:
        sent, carried = with_feedback(transform, update, carried, generator=generator)
        assert list(sent) == ["a", "b"]
        for name, row in sent.items():
            total[name] += row
    assert carried is not None
    assert any(bool(row.any()) for row in carried.values())
    for name, row in total.items():
        held = sum(each for key, each in carried.items() if key.rpartition("/")[2] == name)
        assert torch.allclose(row + held, torch.stack([each[name] for each in rounds]).sum(0), atol=1e-5)


def test_each_member_has_a_memory_of_its_own() -> None:
    chain = compose([Prune(0.5, error_feedback=True), Sign(), Sign(error_feedback=True)])
    _, carried = with_feedback(chain, {"w": torch.tensor([4.0, 1.0, -2.0, 0.0])})
    assert carried["0/w"].tolist() == [0.0, 1.0, 0.0, 0.0]
    # 4, 0, -2, 0 -> 1.5, 0, -1.5, 0 -> 0.75, 0, -0.75, 0
    assert carried["2/w"].tolist() == [0.75, 0.0, -0.75, 0.0]
    assert set(carried) == {"0/w", "2/w"}


def test_the_memory_comes_back_by_hand() -> None:
    prune = Prune(0.5, error_feedback=True)
    sent, carried = with_feedback(prune, {"w": torch.tensor([4.0, 3.0])})
    assert (sent["w"].tolist(), carried["w"].tolist()) == ([4.0, 0.0], [0.0, 3.0])
    sent, carried = with_feedback(prune, {"w": torch.tensor([4.0, 3.0])}, carried)
    assert (sent["w"].tolist(), carried["w"].tolist()) == ([0.0, 6.0], [4.0, 0.0])
    # Calling the transform itself, or one without feedback, carries nothing.
    assert prune({"w": torch.tensor([4.0, 3.0])})["w"].tolist() == [4.0, 0.0]
    assert with_feedback(Prune(0.5), {"w": torch.tensor([4.0, 3.0])})[1] == {}


def test_half_precision_carries_what_it_cannot_hold() -> None:
    sign = Sign(error_feedback=True)
    update = {"w": torch.tensor([1.0, 1e-4], dtype=torch.float16)}
    sent, carried = with_feedback(sign, update)
    assert sent["w"].dtype == torch.float16
    assert carried["w"].dtype == torch.float32
    sent, _ = with_feedback(sign, update, carried)
    assert sent["w"].dtype == torch.float16


def test_a_memory_that_does_not_fit() -> None:
    prune = Prune(0.5, error_feedback=True)
    with pytest.raises(InputError, match=r"carried\['w'\] has shape \(3,\), the update \(2,\)"):
        with_feedback(prune, {"w": torch.ones(2)}, {"w": torch.ones(3)})
    with pytest.raises(InputError, match="carried has '0/w', which belongs to no member"):
        with_feedback(prune, {"w": torch.ones(2)}, {"0/w": torch.ones(2)})


def test_a_matrix_of_one_row_is_pruned_by_entries() -> None:
    """Each of its columns is an entry, so that a mask says nothing of columns dropped whatever they hold."""
    row = torch.tensor([True, False, True])
    assert not whole_columns(row[None])
    assert whole_columns(row.expand(2, 3))
    assert not whole_columns(torch.tensor([[True, False], [True, True]]))
