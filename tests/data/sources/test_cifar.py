"""CIFAR's published layout: read as published, nothing interpreted before its hash is right."""

import hashlib
import os
import pickle
import struct
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from fedsec.data import DATASETS, load
from fedsec.data.folders import list_images
from fedsec.data.image_files import decode_all
from fedsec.data.sources.cifar import CIFAR10, CIFAR100, CifarSource
from fedsec.errors import DataError


def text(value: str) -> bytes:
    """A Python 2 string in pickle's protocol 2."""
    return b"T" + struct.pack("<i", len(value)) + value.encode("latin1")


def texts(values: list[str]) -> bytes:
    return b"](" + b"".join(map(text, values)) + b"e"


def numbers(values: list[int]) -> bytes:
    return b"](" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"e"


def array(values: np.ndarray) -> bytes:
    """A uint8 array as NumPy under Python 2 pickled it in 2009."""
    dtype = b"cnumpy\ndtype\n" + text("u1") + b"K\x00K\x01\x87R(K\x03" + text("|") + b"NNN" + 2 * b"J\xff\xff\xff\xff"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", length) for length in values.shape) + b"t"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R"
    return empty + b"(K\x01" + shape + dtype + b"K\x00tb\x89" + text(values.tobytes().decode("latin1")) + b"tb"


def record(**items: bytes) -> bytes:
    """A dictionary of what the functions above give."""
    return b"\x80\x02}" + b"".join(text(key) + value + b"s" for key, value in items.items()) + b"."


@pytest.fixture(params=[CIFAR10, CIFAR100])
def published(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[type[CifarSource], Path, dict[str, np.ndarray], list[int]]:
    """A small dataset in the published layout, whose hashes torchvision is made to expect."""
    kind: type[CifarSource] = request.param
    rng = np.random.default_rng(3)
    folder = tmp_path / "root" / kind.base_folder
    folder.mkdir(parents=True)
    pixels, labels, hashes = {}, [], {}
    for name in (*kind.train_files, *kind.test_files):
        pixels[name] = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
        own = rng.integers(0, kind.num_classes or 0, 4).tolist()
        if name in kind.train_files:
            labels += own
        content = {"data": array(pixels[name]), kind.labels_key: numbers(own)}
        coarse = {} if kind is CIFAR10 else {"coarse_labels": numbers([label // 5 for label in own])}
        (folder / name).write_bytes(record(**content, **coarse))
    names = [f"class {i}" for i in range(kind.num_classes or 0)]
    coarse = {} if kind is CIFAR10 else {"coarse_label_names": texts([f"coarse {i}" for i in range(20)])}
    (folder / kind.meta_file).write_bytes(record(**{kind.classes_key: texts(names)}, **coarse))
    for path in folder.iterdir():
        hashes[path.name] = hashlib.md5(path.read_bytes()).hexdigest()
    publisher = getattr(datasets, kind.torchvision_class)
    monkeypatch.setattr(publisher, "train_list", [[name, hashes[name]] for name in kind.train_files])
    monkeypatch.setattr(publisher, "test_list", [[name, hashes[name]] for name in kind.test_files])
    monkeypatch.setattr(publisher, "meta", {**publisher.meta, "md5": hashes[kind.meta_file]})
    return kind, folder, pixels, labels


def test_published_layout(published: tuple[type[CifarSource], Path, dict[str, np.ndarray], list[int]]) -> None:
    kind, folder, pixels, labels = published
    for root in (folder.parent, folder):
        dataset = load(kind.name, root, download=False)
        assert dataset.source == str(folder)
        assert dataset.train.images.shape == (4 * len(kind.train_files), 3, 32, 32)
        expected = np.concatenate([pixels[name] for name in kind.train_files])
        assert np.array_equal(dataset.train.images.numpy().reshape(-1, 3072), expected)
        assert np.array_equal(dataset.test.images.numpy().reshape(-1, 3072), pixels[kind.test_files[0]])
        assert dataset.train.labels.tolist() == labels
        assert dataset.classes[1] == "class 1"


def test_same_as_torchvision(published: tuple[type[CifarSource], Path, dict[str, np.ndarray], list[int]]) -> None:
    kind, folder, _, _ = published
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, about what the files contain, under some versions of NumPy
        theirs = getattr(datasets, kind.torchvision_class)(folder.parent)
    ours = load(kind.name, folder.parent)
    assert np.array_equal(ours.train.images.numpy(), theirs.data.transpose(0, 3, 1, 2))
    assert ours.train.labels.tolist() == theirs.targets
    assert list(ours.classes) == theirs.classes


def test_coarse_labels_are_classes_of_their_own_or_stand_above_the_fine_ones(
    published: tuple[type[CifarSource], Path, dict[str, np.ndarray], list[int]],
) -> None:
    kind, folder, _, labels = published
    if kind is CIFAR10:
        assert load("cifar10", folder).superclasses == ()
        with pytest.raises(DataError, match="unknown key for dataset 'cifar10'"):
            load("cifar10", folder, options={"labels": "coarse"})
        return
    fine, coarse = load("cifar100", folder), load("cifar100", folder, options={"labels": "coarse"})
    assert (fine.num_classes, coarse.num_classes, coarse.classes[3]) == (100, 20, "coarse 3")
    assert coarse.train.labels.tolist() == [label // 5 for label in labels]
    assert [fine.superclasses[label] for label in labels] == coarse.train.labels.tolist()
    assert coarse.superclasses == ()


class Bomb:
    """Unpickling it leaves a mark."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled_before_its_hash_is_right(
    published: tuple[type[CifarSource], Path, dict[str, np.ndarray], list[int]], tmp_path: Path
) -> None:
    kind, folder, _, _ = published
    for name in (kind.meta_file, kind.train_files[0], kind.test_files[0]):
        whole = (folder / name).read_bytes()
        for content in (pickle.dumps(Bomb(tmp_path / "mark")), whole[:-1], b""):
            (folder / name).write_bytes(content)
            with pytest.raises(DataError, match=rf"{name} is truncated, corrupt or not the published file \(MD5"):
                load(kind.name, folder.parent)
        (folder / name).write_bytes(whole)
    assert not (tmp_path / "mark").exists()


def test_not_even_with_the_right_hash_does_a_file_run_code(
    published: tuple[type[CifarSource], Path, dict[str, np.ndarray], list[int]], tmp_path: Path
) -> None:
    kind, folder, _, _ = published
    bomb = pickle.dumps(Bomb(tmp_path / "mark"))
    (folder / kind.meta_file).write_bytes(bomb)
    getattr(datasets, kind.torchvision_class).meta["md5"] = hashlib.md5(bomb).hexdigest()
    with pytest.raises(DataError, match=r"names posix\.mkdir; only arrays are allowed"):
        load(kind.name, folder.parent)
    assert not (tmp_path / "mark").exists()


def test_missing_batch(published: tuple[type[CifarSource], Path, dict[str, np.ndarray], list[int]]) -> None:
    kind, folder, _, _ = published
    (folder / kind.test_files[0]).unlink()
    with pytest.raises(DataError, match=rf"is incomplete: it lacks {kind.test_files[0]}"):
        load(kind.name, folder.parent)


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
def test_names_are_torchvision_s(kind: type[CifarSource]) -> None:
    publisher = getattr(datasets, kind.torchvision_class)
    assert kind.base_folder == publisher.base_folder
    assert list(kind.train_files) == [name for name, _ in publisher.train_list]
    assert list(kind.test_files) == [name for name, _ in publisher.test_list]
    assert (kind.meta_file, kind.classes_key) == (publisher.meta["filename"], publisher.meta["key"])


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_real_cifar(real_data: Callable[[str], Path], name: str) -> None:
    folder = real_data(name)
    classes = DATASETS[name].num_classes or 0
    if (folder / "train").is_dir():  # an image folder: decoding 60,000 images would take long, and tell nothing more
        listing = list_images(folder)
        assert len(listing.classes) == classes
        for split, number in (("train", 50_000), ("test", 10_000)):
            assert set(Counter(label for _, label in listing.files[split]).values()) == {number // classes}
            assert decode_all([path for path, _ in listing.files[split][::1000]]).shape[1:] == (3, 32, 32)
        return
    dataset = load(name, folder, download=False)
    assert dataset.train.images.shape == (50_000, 3, 32, 32)
    assert dataset.test.images.shape == (10_000, 3, 32, 32)
    assert list(dataset.classes) == sorted(dataset.classes)
    assert set(dataset.train.labels.bincount().tolist()) == {50_000 // classes}
