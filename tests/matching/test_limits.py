"""The clock that every search looks at, with a clock that ticks when it is looked at."""

from collections.abc import Iterator
from itertools import count

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import DLG, IDLG, Decoupled, GradInversion, InvertFeatures, InvertingGradients
from fedsec.matching import limits
from fedsec.matching.labels import recover_labels
from fedsec.matching.limits import Deadline
from fedsec.threat import FeatureObservation, Inversion, Observation


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(limits, "monotonic", lambda: float(next(ticks)))


@pytest.mark.usefixtures("ticking")
def test_a_deadline_passes_once_and_for_all() -> None:
    assert [Deadline(2.0).passed for _ in range(2)] == [False, False]  # each has its own
    deadline = Deadline(3.0)
    assert [deadline.passed for _ in range(5)] == [False, False, True, True, True]
    assert not Deadline(None).passed


@pytest.mark.usefixtures("ticking")
def test_what_is_left_is_shared_out() -> None:
    assert not Deadline(100.0).share(2).passed
    assert Deadline(1.0).share(4).passed
    assert not Deadline(None).share(3).passed


SIZE = 2


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that a model's own work moves: a second for each image that passes through it."""
    now = [0.0]
    monkeypatch.setattr(limits, "monotonic", lambda: now[0])

    def work(module: nn.Module, _: object, outputs: Tensor) -> None:
        now[0] += len(outputs) if isinstance(module, nn.Sigmoid) else 0

    handle = nn.modules.module.register_module_forward_hook(work)
    yield now
    handle.remove()


def network() -> nn.Sequential:
    """Without a bias at its head: labels are then read with the help of random images."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 5, bias=False))


def seen() -> Observation:
    model, images, labels = network(), torch.rand(SIZE, 1, 6, 6), torch.tensor([1, 4])
    rows = torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters()))
    return Observation.of_gradient(model, rows, input_shape=(1, 6, 6), num_classes=5, batch_size=SIZE)


def attacks(seconds: float) -> list[Inversion]:
    return [
        InvertingGradients(iterations=10**6, plateau=None, seconds=seconds),
        GradInversion(iterations=10**6, restarts=1, seconds=seconds),
        DLG(iterations=10**6, tolerance=0, seconds=seconds),
        DLG(iterations=10**6, tolerance=0, seconds=seconds, variant="published"),
        IDLG(iterations=10**6, tolerance=0, seconds=seconds),
        Decoupled(iterations=10**6, tolerance=0, seconds=seconds),
    ]


@pytest.mark.parametrize("number", range(len(attacks(1))))
def test_what_comes_before_the_search_keeps_to_a_share_of_the_time(number: int, clock: list[float]) -> None:
    """64 random images, from which labels are read, are more than a quarter of it, and all of it at worst."""
    observation, begin = seen(), clock[0]
    recovered = attacks(60)[number].reconstruct(observation)
    # The model is tried on two gray images before the attack begins.
    assert clock[0] - begin <= 60 + 2 + SIZE
    assert recovered.iterations >= 1
    if number != len(attacks(1)) - 1:  # equations take no images
        assert clock[0] - begin >= 60


@pytest.mark.parametrize("number", range(len(attacks(1))))
def test_however_short_the_time_one_iteration_is_made(number: int, clock: list[float]) -> None:
    observation, begin = seen(), clock[0]
    recovered = attacks(1e-3)[number].reconstruct(observation)
    assert recovered.iterations == 1
    assert not any("gray" in note for note in recovered.notes)
    # Trying the model, looking for its head up to three times, a few random images twice; a trial and two evaluations.
    assert clock[0] - begin <= 2 + 3 * 4 + 2 * 4 + 3 * SIZE


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("seconds", [1e-3, 30])
def test_features_are_inverted_within_the_time(exact: bool, seconds: float, clock: list[float]) -> None:
    extractor = network()[:2]
    features = extractor(torch.rand(SIZE, 1, 6, 6)).detach()
    observation = FeatureObservation(extractor, features, (1, 6, 6), exact=exact)
    begin = clock[0]
    recovered = InvertFeatures(iterations=10**6, seconds=seconds).reconstruct(observation)
    assert recovered.iterations >= 1
    # Beside a trial, the mismatch is looked at once more; two evaluations are one iteration.
    assert clock[0] - begin <= max(seconds + 2 * SIZE, 2 * SIZE) + 2 + SIZE


def test_problems_that_run_one_after_another_share_the_time(clock: list[float]) -> None:
    published = DLG(iterations=10**6, tolerance=0, seconds=60, restarts=3, variant="published")
    for attack in (published, InvertingGradients(iterations=10**6, plateau=None, seconds=60, restarts=3, at_once=1)):
        recovered = attack.reconstruct_many([seen(), seen()])
        assert all(one.iterations >= 1 and bool(one.losses.isfinite().all()) for one in recovered)
    del clock


def test_without_a_limit_all_random_images_are_looked_at_together(clock: list[float]) -> None:
    observation, begin = seen(), clock[0]
    recover_labels(observation)
    assert clock[0] - begin == 4 + 64  # the search for the head takes four
