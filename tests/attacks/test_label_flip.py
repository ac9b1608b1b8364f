"""Label flipping, class by class."""

import pytest
import torch
from torch import Tensor

from fedsec.attacks import LabelFlip
from fedsec.errors import InputError

IMAGES = torch.zeros(1000, 1, 2, 2, dtype=torch.uint8)
LABELS = torch.arange(1000) % 10


def flip(attack: LabelFlip, num_classes: int = 10, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    images, labels = attack.poison(IMAGES, LABELS, num_classes=num_classes, generator=generator)
    assert images is IMAGES
    return labels


def test_mirror() -> None:
    assert flip(LabelFlip())[:10].tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert flip(LabelFlip(mode="mirror"), num_classes=11)[5] == 5


def test_pair_changes_the_source_only() -> None:
    flipped = flip(LabelFlip(mode="pair", source=0, target=7))
    assert flipped[:10].tolist() == [7, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_random_is_always_wrong_and_every_other_class_is_as_likely() -> None:
    flipped = flip(LabelFlip(mode="random"))
    assert (flipped != LABELS).all()
    shifts = ((flipped - LABELS) % 10).bincount(minlength=10)
    assert shifts[0] == 0
    assert shifts[1:].min() > 70
    assert shifts[1:].max() < 160
    assert torch.equal(flipped, flip(LabelFlip(mode="random")))
    assert not torch.equal(flipped, flip(LabelFlip(mode="random"), seed=1))


def test_all_to_one() -> None:
    assert flip(LabelFlip(mode="all_to_one", target=7)).unique().tolist() == [7]
    assert flip(LabelFlip(mode="all_to_one", target=2, spared=9))[:10].tolist() == [2, 2, 2, 2, 2, 2, 2, 2, 2, 9]
    named = LabelFlip("all_to_one", target="two", spared="nine").resolve({"two": 2, "nine": 9}.__getitem__)  # type: ignore[arg-type]
    assert (named.source, named.target, named.spared) == (None, 2, 9)


def test_shift() -> None:
    assert flip(LabelFlip(mode="shift"))[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize("mode", ["mirror", "random", "shift"])
def test_a_share_of_the_examples(mode: str) -> None:
    flipped = flip(LabelFlip(mode=mode, flipped_fraction=0.25))  # type: ignore[arg-type]
    assert int((flipped != LABELS).sum()) == 250
    everything = flip(LabelFlip(mode=mode))  # type: ignore[arg-type]
    changed = flipped != LABELS
    assert torch.equal(flipped[changed], everything[changed])
    assert int((flip(LabelFlip(mode=mode, flipped_fraction=1e-9)) != LABELS).sum()) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "all_to_one"},
        {"mode": "all_to_one", "target": 1, "spared": 1},
        {"mode": "all_to_one", "target": 1, "source": 2},
        {"mode": "mirror", "spared": 1},
        {"flipped_fraction": 0.0},
        {"flipped_fraction": 1.5},
        {"mode": "shuffle"},
        {"mode": "pair"},
        {"mode": "pair", "source": 1},
        {"mode": "pair", "target": 1},
        {"mode": "pair", "source": 1, "target": 1},
        {"mode": "pair", "source": -1, "target": 1},
        {"mode": "mirror", "source": 1},
        {"mode": "random", "target": 1},
    ],
)
def test_malformed_options(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="LabelFlip: "):
        LabelFlip(**options)  # type: ignore[arg-type]


def test_classes_that_do_not_exist() -> None:
    with pytest.raises(InputError, match="target=10 must be classes, below 10"):
        flip(LabelFlip(mode="pair", source=0, target=10))
    single = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(InputError, match="at least two classes"):
        LabelFlip(mode="random").poison(IMAGES[:3], single, num_classes=1, generator=torch.Generator())


def test_classes_by_name() -> None:
    names = ["airplane", "cat", "dog"]
    attack = LabelFlip("pair", source="dog", target="cat")
    with pytest.raises(InputError, match="names of classes need a dataset; expected numbers, or a call of resolve"):
        flip(attack)
    numbered = attack.resolve(lambda one: one if isinstance(one, int) else names.index(one))
    assert (numbered.source, numbered.target) == (2, 1)
    assert flip(numbered)[:4].tolist() == [0, 1, 1, 3]
    mixed = LabelFlip("pair", source=0, target="dog").resolve(lambda one: one if isinstance(one, int) else 2)
    assert (mixed.source, mixed.target) == (0, 2)
    with pytest.raises(InputError, match="two different classes"):
        LabelFlip("pair", source=1, target="cat").resolve(lambda one: 1)
    random = LabelFlip("random")
    assert random.resolve(names.index) is random  # type: ignore[arg-type]
