"""Centralized training, and the cache of its results."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.data import Dataset, Normalization, Split, load
from fedsec.errors import InputError
from fedsec.metrics.evaluation import evaluate
from fedsec.models import build
from fedsec.models import training as module
from fedsec.models.training import Training, train, trained
from fedsec.tasks import Classification

HALF = Normalization((0.5,), (0.5,))
SHORT = Training(epochs=2, lr=0.01, batch_size=20)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def few(digits: Dataset) -> Split:
    return Split(digits.train.images[:50], digits.train.labels[:50])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "fedsec" / "trained"


def network(name: str = "mlp", **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(name, (1, 8, 8), 10, **options)


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("name", "lr", "reached"), [("mlp", 0.01, 0.9), ("cnn", 0.01, 0.85)])
def test_training_learns_digits(name: str, lr: float, reached: float, digits: Dataset) -> None:
    model, losses = network(name, activation="relu"), list[float]()
    test = digits.test.images, digits.test.labels, HALF, Classification(10)
    before = evaluate(model, *test).metrics["accuracy"]
    train(
        model, digits.train, HALF, Training(8, lr, 64), generator=generator(), watch=lambda _, loss: losses.append(loss)
    )
    assert evaluate(model, *test).metrics["accuracy"] > max(reached, before)
    assert len(losses) == 8
    assert losses[-1] < 0.2 < 0.5 < losses[0]


def test_training_is_torch_s_adam_along_half_a_cosine(few: Split) -> None:
    model, expected = network("mlp"), network("mlp")
    train(model, few, HALF, SHORT, generator=generator(3))
    shuffle = generator(3)
    torch.randint(2**62, (), generator=shuffle)
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    for _ in range(2):
        order = torch.randperm(50, generator=shuffle)
        for chosen in (order[:17], order[17:34], order[34:]):
            images = (few.images[chosen].float() / 255 - 0.5) / 0.5
            optimizer.zero_grad()
            F.cross_entropy(expected(images), few.labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    torch.testing.assert_close(flat(model), flat(expected), rtol=1e-5, atol=1e-6)


class Noisy(nn.Module):
    """Draws from NumPy's global generator while it trains."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * float(np.random.standard_normal()) if self.training else x


@pytest.mark.parametrize("layer", [nn.Dropout(0.3), Noisy()], ids=["torch", "numpy"])
def test_equal_generators_give_equal_weights_and_leave_the_global_state_alone(few: Split, layer: nn.Module) -> None:
    weights = []
    for seed in (0, 0, 1):
        model = nn.Sequential(layer, network("mlp"))  # a user's model may draw numbers itself
        torch.manual_seed(len(weights))
        np.random.seed(len(weights))
        state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
        train(model, few, HALF, SHORT, generator=generator(seed))
        assert torch.equal(torch.random.get_rng_state(), state)
        assert np.array_equal(np.random.get_state()[1], numpy_state)
        weights.append(flat(model))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_batch_normalization_learns_its_statistics_and_modes_are_kept(few: Split) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)).double().eval()
    model[3].train()
    before = copy.deepcopy(model[1].state_dict())
    train(model, few, HALF, Training(1, batch_size=49), generator=generator())
    assert model[1].num_batches_tracked == 2
    assert (model[1].running_mean - before["running_mean"]).abs().min() > 0
    assert [m.training for m in model.modules()] == [False, False, False, False, True]
    assert all(p.grad is None for p in model.parameters())


def test_frozen_parameters_stay(few: Split) -> None:
    model = network("mlp")
    model.get_submodule("layers.1").requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    train(model, few, HALF, SHORT, generator=generator())
    assert torch.equal(model.state_dict()["layers.1.weight"], before["layers.1.weight"])
    assert not torch.equal(model.state_dict()["layers.3.weight"], before["layers.3.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs and batch_size must be at least 1, got 0"),
        ({"epochs": 1, "batch_size": 0}, "at least 1, got 1 and 0"),
        ({"epochs": 1, "lr": 0.0}, "lr must be positive"),
        ({"epochs": 1, "lr": math.nan}, "lr must be positive"),
    ],
)
def test_bad_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Training(**options)


def test_divergence_and_nothing_to_train_are_errors(few: Split) -> None:
    with pytest.raises(InputError, match=r"the loss of epoch \d+ is (nan|inf) at lr 1e\+30; use a smaller lr"):
        train(network("mlp"), few, HALF, Training(5, 1e30), generator=generator())
    with pytest.raises(InputError, match="no trainable parameter"):
        train(nn.Flatten(), few, HALF, SHORT, generator=generator())
    with pytest.raises(InputError, match="no trainable parameter"):
        trained(nn.Flatten(), few, HALF, SHORT, seed=0, architecture="flatten")


@pytest.mark.parametrize("where", ["given", "default"])
def test_the_second_time_is_read_from_the_cache(where: str, few: Split, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine" if where == "given" else None
    norm = nn.Sequential(nn.BatchNorm2d(1), network("mlp"))
    first, second = copy.deepcopy(norm), copy.deepcopy(norm)
    epochs: list[int] = []
    for model, expected in ((first, False), (second, True)):
        found = trained(
            model, few, HALF, SHORT, seed=1, architecture="x", folder=folder, watch=lambda e, _: epochs.append(e)
        )
        assert found is expected
    assert epochs == [1, 2]
    assert torch.equal(flat(first), flat(second))
    assert not torch.equal(flat(first), flat(norm))
    (kept,) = (folder or cache).iterdir()
    assert kept.suffix == ".safetensors"


def test_whatever_decides_the_weights_decides_the_file(few: Split, cache: Path) -> None:
    other = Split(few.images, few.labels.flip(0))
    brighter = Split(few.images + 1, few.labels)

    def run(model: nn.Module, split: Split, normalization: Normalization, plan: Training, seed: int, name: str) -> None:
        assert not trained(model, split, normalization, plan, seed=seed, architecture=name)

    tanh = network("mlp", activation="tanh")
    torch.manual_seed(5)
    run(network(), few, HALF, SHORT, 0, "mlp")
    run(build("mlp", (1, 8, 8), 10), few, HALF, SHORT, 0, "mlp")  # other initial weights
    run(tanh, few, HALF, SHORT, 0, "mlp")
    run(network(), other, HALF, SHORT, 0, "mlp")
    run(network(), brighter, HALF, SHORT, 0, "mlp")
    run(network(), few, Normalization((0.5,), (0.4,)), SHORT, 0, "mlp")
    run(network(), few, HALF, Training(3, 0.05, 20), 0, "mlp")
    run(network(), few, HALF, Training(2, 0.06, 20), 0, "mlp")
    run(network(), few, HALF, Training(2, 0.05, 21), 0, "mlp")
    run(network(), few, HALF, SHORT, 1, "mlp")
    run(network(), few, HALF, SHORT, 0, "mlp {'hidden': [64]}")
    assert len(list(cache.iterdir())) == 11


@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage", "empty", "other tensors"])
def test_a_damaged_file_is_replaced(damage: str, few: Split, cache: Path) -> None:
    expected = network()
    trained(expected, few, HALF, SHORT, seed=0, architecture="mlp")
    (path,) = cache.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
    pieces = {"cut": content[:-9], "flipped": content, "garbage": b"no tensors", "empty": b""}
    if damage == "other tensors":
        module._save(path, network("cnn"))
    else:
        path.write_bytes(pieces[damage])
    for found in (False, True):
        model = network()
        assert trained(model, few, HALF, SHORT, seed=0, architecture="mlp") is found
        assert torch.equal(flat(model), flat(expected))


def test_a_folder_that_cannot_be_written_only_costs_time(few: Split, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    models = [network(), network()]
    for model in models:
        assert not trained(model, few, HALF, SHORT, seed=0, architecture="mlp", folder=tmp_path / "file")
    assert torch.equal(flat(models[0]), flat(models[1]))


def test_an_interrupted_training_leaves_nothing(few: Split, cache: Path) -> None:
    def stop(epoch: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(network(), few, HALF, SHORT, seed=0, architecture="mlp", watch=stop)
    assert not cache.exists()


def test_a_parameter_without_part_in_the_loss_is_no_error(few: Split) -> None:
    model = network()
    model.register_parameter("idle", nn.Parameter(torch.ones(2)))
    train(model, few, HALF, SHORT, generator=generator())
    assert model.get_parameter("idle").isfinite().all()
