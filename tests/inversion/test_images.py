"""Which images are attacked: disjoint batches, mixed as asked for, and clear words where there are too few."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedsec.data import load
from fedsec.errors import InputError
from fedsec.inversion.images import Victims, choose
from fedsec.inversion.settings import InversionSettings
from fedsec.seeds import Streams


def chosen(seed: int = 0, **options: Any) -> Victims:
    return choose(InversionSettings(seed=seed, **options), Streams(seed))


def test_by_default_two_whole_photographs() -> None:
    photos = load("photos")
    for seed in range(3):
        victims = chosen(seed)
        assert victims.images.shape == (1, 2, 3, 32, 32)
        for image, label, caption in zip(victims.images[0], victims.labels[0], victims.captions[0], strict=True):
            assert torch.equal(image, photos.test.images[label])
            assert caption == photos.classes[label]
        assert len(set(victims.labels[0].tolist())) == 2
    assert torch.equal(chosen(1).images, chosen(1).images)
    assert not torch.equal(chosen(1).images, chosen(2).images)


def test_whole_photographs_come_first_over_all_trials() -> None:
    victims = chosen(trials=4)
    assert sorted(victims.labels.flatten().tolist()) == list(range(8))
    whole = load("photos").test.images[:8]
    assert all(any(torch.equal(image, one) for one in whole) for image in victims.images.flatten(0, 1))
    assert len(set(chosen(batch_size=9).labels.flatten().tolist())) == 8


@pytest.mark.parametrize("classes", ["any", "same", "distinct"])
def test_batches_are_disjoint_and_mixed_as_asked(classes: Any) -> None:
    victims = chosen(dataset="digits", batch_size=6, trials=12, classes=classes)
    assert victims.images.shape == (12, 6, 1, 8, 8)
    pixels = load("digits").test.images.flatten(1)
    taken = [(pixels == image).all(1).nonzero()[0].item() for image in victims.images.flatten(0, 1).flatten(1)]
    assert len(set(taken)) == 72
    assert torch.equal(load("digits").test.labels[taken], victims.labels.flatten())
    kinds = [len(set(row.tolist())) for row in victims.labels]
    if classes == "same":
        assert set(kinds) == {1}
        assert len(set(victims.labels[:10, 0].tolist())) == 10
    if classes == "distinct":
        assert set(kinds) == {6}


def test_every_image_can_be_used() -> None:
    assert chosen(batch_size=8, trials=6, classes="distinct").images.shape[:2] == (6, 8)
    assert chosen(batch_size=6, trials=8, classes="same").images.shape[:2] == (8, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 49}, "1 batch of 49: only 48 images in photos's test split"),
        ({"batch_size": 10, "trials": 5}, "5 batches of 10: only 48 images"),
        ({"batch_size": 9, "classes": "distinct"}, "a batch of 9 cannot have different classes, there are 8"),
        ({"batch_size": 7, "classes": "same"}, "1 batch of 7: photos's test split has not enough images of one class"),
        ({"batch_size": 5, "trials": 9, "classes": "same"}, "not enough images of one class for more than 8"),
    ],
)
def test_too_few(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        chosen(**options)


def test_the_mean_image_is_public() -> None:
    digits = load("digits")
    victims = chosen(dataset="digits")
    expected = digits.train.images.double().mean(0) / 255
    assert torch.allclose(victims.mean_image.double(), expected, atol=1e-6)
    assert victims.mean_of == "the mean of digits's training images"


def files(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), 10 * number, np.uint8)).save(folder / name)
    return folder


def test_own_files_are_taken_in_order(tmp_path: Path) -> None:
    victims = chosen(images=(files(tmp_path, *(f"{letter}.png" for letter in "abcde")),), batch_size=2, trials=2)
    assert victims.images.shape == (2, 2, 3, 32, 32)
    assert victims.images.flatten(2).float().mean(2).tolist() == [[0, 10], [20, 30]]
    assert victims.labels.tolist() == [[0, 1], [2, 3]]
    assert victims.captions == (("a.png", "b.png"), ("c.png", "d.png"))
    assert victims.num_classes == 10
    assert victims.train is None
    assert victims.mean_of == "the mean of the embedded photographs"
    assert victims.mean_image.shape == (3, 32, 32)
    assert "4 of 5 images are used; --batch-size and --trials take more" in victims.notes


def test_own_files_in_class_folders(tmp_path: Path) -> None:
    folder = files(tmp_path, "cat/a.png", "dog/b.png", "dog/c.png")
    victims = chosen(images=(folder,), batch_size=2, classes="same", image_size=16, num_classes=5)
    assert victims.labels.tolist() == [[1, 1]]
    assert victims.classes == ("cat", "dog", "class 2", "class 3", "class 4")
    assert victims.input_shape == (3, 16, 16)


def test_one_own_file_is_a_batch_of_one(tmp_path: Path) -> None:
    path = files(tmp_path, "a.png") / "a.png"
    assert chosen(images=(path,)).images.shape[:2] == (1, 1)
    with pytest.raises(InputError, match="1 batch of 2: only 1 image in the one image given"):
        chosen(images=(path,), batch_size=2)
