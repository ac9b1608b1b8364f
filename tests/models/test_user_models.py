"""A user's own model by reference: what works, and one line for everything that does not."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from fedsec.errors import InputError
from fedsec.models.user_models import check_model, load_model

SHAPE, CLASSES = (1, 8, 8), 5
SOURCE = """
import argparse
import torch
from torch import nn

def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

def sized(num_classes, *, input_shape, depth=1):
    assert input_shape == (1, 8, 8) and depth == 1
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

def partly(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm2d(1), nn.Linear(64, 5)
        self.linear.eval()
        self.double()

    @classmethod
    def make(cls):
        return cls()

    def forward(self, x):
        from mine_later import flatten
        return self.linear(flatten(self.norm(x)))

instance = fixed()
number = 3

def needs(width): ...
def fails(): raise RuntimeError("first line\\nsecond line")
def leaves(): raise SystemExit(2)
def nothing(): return None
def kind(): return nn.Flatten
def empty(): return nn.Flatten()
def image(): return nn.Conv2d(1, 5, 3)
def many(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 100))
def color(): return nn.Conv2d(3, 5, 3)

class Pair(Net):
    def forward(self, x):
        return self.linear(x.flatten(1)), x

class Endless(Net):
    def forward(self, x):
        return self.linear(x.flatten(1)) / 0

class Dice(Net):
    def forward(self, x):
        return torch.nn.functional.dropout(self.linear(x.flatten(1)), 0.5)

class Seeded(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 5)

    def forward(self, x):
        return torch.nn.functional.dropout(self.linear(x.flatten(1)), 0.5, self.training)

class Unused(Seeded):
    def __init__(self):
        super().__init__()
        self.spare = nn.LazyLinear(3)

def mixed(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 8).double(), nn.Linear(8, 5))
def whole(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 5, dtype=torch.complex64))

class Classes(Net):
    def forward(self, x):
        return self.linear(x.flatten(1)).long()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").touch()
    (tmp_path / "mine" / "nets.py").write_text(SOURCE)
    (tmp_path / "mine" / "broken.py").write_text("def factory(:\n")
    (tmp_path / "mine" / "lacking.py").write_text("import mine.not_here\n")
    (tmp_path / "mine" / "script.py").write_text("raise SystemExit\n")
    (tmp_path / "mine_later.py").write_text("def flatten(x):\n    return x.flatten(1)\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    assert sys.path == path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mine", "mine_later")]:
        del sys.modules[name]


@pytest.mark.parametrize("factory", ["fixed", "sized", "partly", "Net", "Net.make", "Seeded"])
def test_functions_and_classes_make_models(factory: str) -> None:
    model = load_model(f"mine.nets:{factory}", SHAPE, CLASSES)
    assert isinstance(model, nn.Module)
    assert not any(nn.parameter.is_lazy(parameter) for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_trial_run_changes_neither_modes_nor_statistics() -> None:
    model = load_model("mine.nets:Net", SHAPE, CLASSES)
    assert {name: m.training for name, m in model.named_modules()} == {"": True, "norm": True, "linear": False}
    norm = model.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(1, dtype=torch.double))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mine.nets", "expected package.module:factory"),
        ("mine.nets:", "expected package.module:factory"),
        (":fixed", "expected package.module:factory"),
        ("", "expected package.module:factory"),
        ("yours:net", "importing yours raised ModuleNotFoundError: No module named 'yours'"),
        (".nets:fixed", "importing .nets raised TypeError"),
        ("mine.lacking:net", "importing mine.lacking raised ModuleNotFoundError: No module named 'mine.not_here'"),
        ("mine.broken:factory", "importing mine.broken raised SyntaxError: "),
        ("{name: mlp, activation: tanh}", "options stand apart from it, on the command line as --model-option"),
        ("mine.script:net", "importing mine.script raised SystemExit"),
        ("mine.nets:absent", "mine.nets has no absent"),
        ("mine.nets:Net.absent", "mine.nets has no Net.absent"),
        ("mine.nets:instance", "instance is a model; name a function or class that makes one"),
        ("mine.nets:number", "number is an object of type int; name a function or class"),
        ("mine.nets:needs", "needs() raised TypeError: needs() missing 1 required positional argument: 'width'"),
        ("mine.nets:fails", "fails() raised RuntimeError: first line second line"),
        ("mine.nets:leaves", "leaves() raised SystemExit: 2"),
        ("mine.nets:nothing", "expected nothing to return a torch.nn.Module, got an object of type NoneType"),
        ("mine.nets:kind", "expected kind to return a torch.nn.Module, got an object of type type"),
        ("mine.nets:empty", "expected a model with parameters, got one without"),
        ("mine.nets:image", "expected logits of shape (2, 5), got (2, 5, 6, 6)"),
        ("mine.nets:many", "expected logits of shape (2, 5), got (2, 100)"),
        ("mine.nets:color", "a batch of shape (2, 1, 8, 8) raised RuntimeError: "),
        ("mine.nets:Pair", "expected logits of shape (2, 5), got an object of type tuple"),
        ("mine.nets:Endless", "expected finite logits of two gray images"),
        (
            "mine.nets:many",
            "got (2, 100); the data have 5 classes: give the factory a parameter num_classes, or take data with 100",
        ),
        ("mine.nets:Dice", "gives other logits for the same images in evaluation mode; expected draws in training"),
        ("mine.nets:Unused", "spare.weight is lazy and has no shape after a batch"),
        ("mine.nets:mixed", "; its parameters are float32 and float64: model.float() makes them float32"),
        ("mine.nets:whole", "expected parameters that are real numbers, got complex64"),
        ("mine.nets:Classes", "expected finite logits of two gray images"),
    ],
)
def test_every_failure_is_one_line_with_the_cause(reference: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_model(reference, SHAPE, CLASSES)
    assert str(caught.value).startswith(f"model {reference!r}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_current_folder_comes_first_and_only_while_loading(folder: Path) -> None:
    (folder / "colorsys.py").write_text("from mine.nets import fixed\n")  # the name of a module elsewhere
    known = sys.modules.pop("colorsys", None)
    try:
        assert isinstance(load_model("colorsys:fixed", SHAPE, CLASSES), nn.Module)
    finally:
        sys.modules.pop("colorsys", None)
        if known is not None:
            sys.modules["colorsys"] = known
    assert str(folder) not in sys.path


def test_a_model_at_hand_is_checked_alike() -> None:
    check_model(nn.Linear(7, 1), (7,), 1)
    with pytest.raises(InputError, match=r"^the model: expected logits of shape \(2, 3\), got \(2, 4\)"):
        check_model(nn.Linear(7, 4), (7,), 3)
