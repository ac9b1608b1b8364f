"""What an installed package brings: a dataset, a partition and a model, through the tables that scenarios ask."""

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from fedsec.data import check, load, status
from fedsec.data.partitions import Partition
from fedsec.errors import DataError, InputError, PartitionError
from fedsec.models import build
from fedsec.plugins import registry

SOURCE = '''
from pathlib import Path
import torch
from torch import nn
from fedsec.data import Partition, Source, Split

class Halves(Source):
    """Bright and dark images."""

    name = "halves"
    layout = ""
    input_shape = (1, 2, 2)
    num_classes = 2
    embedded_in = "brought_package"
    how_to_get = "it comes with its package"

    def read(self, folder: Path):
        labels = torch.arange(8) % 2
        images = (labels * 200).to(torch.uint8).view(8, 1, 1, 1).expand(8, 1, 2, 2).contiguous()
        return Split(images, labels), Split(images, labels), ("dark", "bright")

class Broken(Halves):
    """Halves of another shape than it says."""

    name = "broken"
    input_shape = (1, 3, 3)

class Odd(Partition):
    """Every other example, and the rest."""

    needs_classes = False

    def assign(self, strata, num_clients, num_strata, rng):
        return [example % num_clients for example in range(len(strata))]

class Forgetful(Partition):
    """Leaves the last example out."""

    def assign(self, strata, num_clients, num_strata, rng):
        return torch.zeros(len(strata) - 1, dtype=torch.int64)

class Tiny(nn.Sequential):
    """A linear layer."""

    def __init__(self, input_shape, num_classes: int, bias: bool = True) -> None:
        super().__init__(nn.Flatten(), nn.Linear(4, num_classes, bias=bias))

def nothing(input_shape, num_classes):
    """No model at all."""
'''


@pytest.fixture(autouse=True)
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """An installed package, `brought_package`, and a way to add further entry points."""
    points = [
        EntryPoint(name, f"brought_package.parts:{attribute}", f"fedsec.{group}")
        for group, name, attribute in (
            ("datasets", "halves", "Halves"),
            ("partitions", "odd", "Odd"),
            ("partitions", "forgetful", "Forgetful"),
            ("models", "tiny", "Tiny"),
        )
    ]

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [point for point in points if point.group == group]

    (tmp_path / "brought_package").mkdir()
    (tmp_path / "brought_package" / "__init__.py").touch()
    (tmp_path / "brought_package" / "parts.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    registry._plugins.cache_clear()

    def bring(group: str, attribute: str) -> None:
        points.append(EntryPoint(attribute.lower(), f"brought_package.parts:{attribute}", f"fedsec.{group}"))
        registry._plugins.cache_clear()

    yield bring
    registry._plugins.cache_clear()
    for name in [name for name in sys.modules if name.startswith("brought_package")]:
        del sys.modules[name]


def test_a_dataset_is_loaded_listed_and_checked() -> None:
    dataset = load("halves")
    assert (dataset.name, dataset.classes, dataset.source) == (
        "halves",
        ("dark", "bright"),
        "embedded in brought_package",
    )
    assert dataset.train.images.unique().tolist() == [0, 200]
    assert check("halves").fingerprint == dataset.fingerprint
    entry = status()[-1]
    assert (entry.name, entry.present, entry.description) == ("halves", True, "Bright and dark images.")


def test_a_dataset_that_is_not_what_it_says_is_an_error(brought: Callable[[str, str], None]) -> None:
    brought("datasets", "Broken")
    with pytest.raises(DataError, match="broken: images in embedded in brought_package are 1x2x2, expected 1x3x3"):
        load("broken")


@pytest.mark.parametrize(
    ("attribute", "says"), [("Odd", "no dataset but a partition"), ("nothing", "Source"), ("absent", "absent")]
)
def test_no_dataset_at_all_is_an_error(brought: Callable[[str, str], None], attribute: str, says: str) -> None:
    brought("datasets", attribute)
    with pytest.raises(InputError, match=f"'{attribute.lower()}'.*{says}"):
        load(attribute.lower())


def test_a_partition_may_return_a_list_and_must_return_all() -> None:
    odd: Partition = registry.load("partition", "odd")()
    parts = odd(None, 2, rng=np.random.default_rng(0), num_examples=5)
    assert [part.tolist() for part in parts] == [[0, 2, 4], [1, 3]]
    forgetful: Partition = registry.load("partition", "forgetful")()
    with pytest.raises(PartitionError, match=r"Forgetful: assign must return one client .* got int64 \[4\]"):
        forgetful(np.zeros(5, np.int64), 2, rng=np.random.default_rng(0))


def test_a_model_is_built_with_its_options(brought: Callable[[str, str], None]) -> None:
    model = build("tiny", (1, 2, 2), 3, bias=False)
    assert [weight.shape for weight in model.parameters()] == [(3, 4)]
    with pytest.raises(InputError, match=r"model 'tiny': .*depth"):
        build("tiny", (1, 2, 2), 3, depth=2)
    brought("models", "nothing")
    with pytest.raises(InputError, match=r"model 'nothing': expected a torch\.nn\.Module, got an .*NoneType"):
        build("nothing", (1, 2, 2), 3)
