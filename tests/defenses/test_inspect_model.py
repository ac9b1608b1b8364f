"""A client that asks whether it should train: each check refuses its planted case, and no benign model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from fedsec.data import load
from fedsec.defense import Inspection, ReceivedModel
from fedsec.defense.inspection import inspector
from fedsec.defenses import InspectModel
from fedsec.errors import InputError


def received(classes: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, classes)
    )


IMAGES, TARGETS = torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 5


def imprinted(model: Any) -> None:
    model[3].weight.fill_(1 / 144)
    model[3].bias.copy_(-torch.linspace(0, 1, 32))


def trapped(model: Any) -> None:
    half = torch.rand(32, 72)
    model[3].weight.copy_(torch.cat([-half, 0.95 * half], 1)[:, torch.randperm(144)])


def handed_on(model: Any) -> None:
    nn.init.dirac_(model[0].weight)


def fished(model: Any) -> None:
    model[5].weight[1:] = 0
    model[5].bias[1:] = 1000.0


def scaled(model: Any) -> None:
    model[3].weight.mul_(100)


@pytest.mark.parametrize(
    ("craft", "check", "words"),
    [
        (imprinted, "duplicated", r"100% of the rows of 3 are multiples of each other"),
        (imprinted, "rank_deficit", "of the rank of 3 is missing"),
        (trapped, "mirrored", "100% of the rows of 3 are their own negative half"),
        (handed_on, "concentration", "a kernel of 0 has one weight"),
        (fished, "bias", "a bias of 5 is"),
        (fished, "zero_rows", "80% of the rows of 5 are zero"),
        (scaled, "gain", "the weights of 3 are"),
    ],
)
def test_a_check_refuses_what_it_is_for_and_says_why(craft: Callable[[Any], None], check: str, words: str) -> None:
    inspector, model = InspectModel(), received()
    assert inspector.inspect(model, IMAGES, TARGETS, expected=received()).verdict == "train"
    with torch.no_grad():
        craft(model)
    inspection = inspector.inspect(model, IMAGES, TARGETS, expected=received())
    assert inspection.refused
    import re

    assert any(re.search(words, reason) for reason in inspection.reasons), inspection.reasons
    alone = InspectModel(**{name: None for name in inspector.limits if name != check})
    assert alone.inspect(model, IMAGES, TARGETS).verdict == "refuse"
    off = InspectModel(**{check: None})
    assert not any(re.search(words, reason) for reason in off.inspect(model, IMAGES, TARGETS).reasons)


def test_an_example_that_stands_out_is_refused() -> None:
    model, images, targets = received(), IMAGES.clone(), TARGETS.clone()
    images[3] *= 1e3
    targets[3] = model(images[3:4]).argmin()  # as wrong as can be
    inspection = InspectModel().inspect(model, images, targets)
    assert inspection.statistics["d_snr"] > 5
    assert any("would leave" in reason for reason in inspection.reasons)
    assert InspectModel(d_snr=None, exposed=None).inspect(model).verdict == "train"


def test_another_architecture_is_refused_where_it_is_known() -> None:
    model = nn.Sequential(nn.Identity(), *received())
    inspection = InspectModel().inspect(model, IMAGES, TARGETS, expected=received())
    assert "it is not the model that was agreed upon: 0 is a Identity; expected a Conv2d" in inspection.reasons[0]
    assert InspectModel(architecture=False).inspect(model, IMAGES, TARGETS, expected=received()).verdict == "train"
    assert InspectModel().inspect(model, IMAGES, TARGETS).verdict == "train"


def test_a_move_is_measured_in_usual_moves() -> None:
    before, after = received(), received()
    with torch.no_grad():
        after[5].bias += 2.0
    length = 2 * 5**0.5
    for previous in (before, before.state_dict()):
        inspection = InspectModel().inspect(after, IMAGES, TARGETS, previous=previous, usual_moves=[length, 9, 0.1])
        assert inspection.statistics["move"] == pytest.approx(length)
        assert inspection.statistics["moved"] == pytest.approx(1.0)
        assert not inspection.refused
    inspection = InspectModel(bias=None).inspect(after, IMAGES, TARGETS, previous=before, usual_moves=[0.1])
    assert "the model moved 44.7 times as far as it usually does" in inspection.reasons[0]
    assert "moved" not in InspectModel().inspect(after, IMAGES, TARGETS, previous=before).statistics
    other = nn.Sequential(nn.Flatten(), nn.Linear(36, 5))
    assert InspectModel().inspect(other, IMAGES, TARGETS, previous=before).statistics["move"] == torch.inf


def test_the_weights_of_a_model_are_looked_at_again_when_they_changed() -> None:
    inspector, model = InspectModel(), received()
    assert not inspector.inspect(model, IMAGES, TARGETS).refused
    with torch.no_grad():
        imprinted(model)
    assert inspector.inspect(model, IMAGES, TARGETS).refused
    assert not inspector.inspect(received(), IMAGES, TARGETS).refused


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = received()
    with torch.no_grad():
        model[3].weight[0, 0] = torch.nan
    assert InspectModel().inspect(model, IMAGES, TARGETS).refused


def test_targets_may_be_numbers_and_the_loss_somebody_elses() -> None:
    model = received(1)
    assert not InspectModel().inspect(model, IMAGES, torch.rand(20)).refused
    same = InspectModel().inspect(received(), IMAGES, TARGETS)
    other = InspectModel().inspect(received(), IMAGES, TARGETS, loss=lambda out, _: out.square().sum(1))
    assert other.statistics["d_snr"] != same.statistics["d_snr"]


def test_a_model_may_put_out_a_number_for_each_example_or_anything() -> None:
    targets = torch.rand(20)
    column, numbers = received(1), nn.Sequential(received(1), nn.Flatten(0))
    expected, actual = (InspectModel().inspect(model, IMAGES, targets) for model in (column, numbers))
    assert actual.statistics["magnified"] == expected.statistics["magnified"]
    assert actual.refused == expected.refused

    class Mean(nn.Sequential):
        def forward(self, images: Any) -> Any:
            return super().forward(images).mean()

    squared = InspectModel().inspect(Mean(received(1)), IMAGES, targets, loss=lambda out, goal: (out - goal).square())
    assert squared.statistics["magnified"] == squared.statistics["d_snr"]


def test_models_are_looked_at_with_all_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU rounds convolutions otherwise, by default."""
    inside: list[Any] = []

    @contextmanager
    def exact(device: torch.device) -> Iterator[None]:
        inside.append(device)
        yield
        inside.append("done")

    class Looks(InspectModel):
        def examine(self, received: ReceivedModel) -> Inspection:
            assert inside == [torch.device("cpu")]
            return super().examine(received)

    monkeypatch.setattr(inspector, "arithmetic", exact)
    Looks().inspect(received(), IMAGES, TARGETS)
    assert inside == [torch.device("cpu"), "done"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"d_snr": 0.0}, "d_snr must be positive, or null to switch it off, got 0.0"),
        ({"moved": float("nan")}, "moved must be positive"),
        ({"batch": 7}, "batch must be at least 8 examples, got 7"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        InspectModel(**options)


def test_gradients_of_a_few_examples_are_not_judged() -> None:
    """Of two examples one always leaves at least as much as the other."""
    assert "d_snr" in InspectModel().inspect(received(), IMAGES[:8], TARGETS[:8]).statistics
    assert "d_snr" not in InspectModel().inspect(received(), IMAGES[:7], TARGETS[:7]).statistics


def test_only_checks_of_examples_need_any() -> None:
    with pytest.raises(InputError, match=r"expected examples and targets, or these checks off \(None\)"):
        InspectModel().inspect(received())
    assert InspectModel(d_snr=None, exposed=None).examples == 0
    assert InspectModel(d_snr=None, exposed=None, idle=0.9).examples == 32


def test_a_model_that_computes_in_place_is_the_one_that_was_agreed_upon() -> None:
    def model() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 5))

    inspection = InspectModel().inspect(model(), IMAGES, TARGETS, expected=model())
    assert not inspection.reasons
    apart = model()
    apart[1] = nn.ReLU()
    assert InspectModel().inspect(apart, IMAGES, TARGETS, expected=model()).refused
    other = InspectModel().inspect(apart, IMAGES, TARGETS).statistics
    assert other == {name: inspection.statistics[name] for name in other}


def test_frozen_layers_are_not_judged_by_gradients_that_nobody_sends() -> None:
    shared = nn.Linear(32, 32)
    for frozen in (nn.Sequential(nn.Linear(32, 32)), nn.Sequential(shared, nn.ReLU(), shared)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), frozen, nn.ReLU(), nn.Linear(32, 5))
        frozen.requires_grad_(False)
        assert InspectModel().inspect(model, IMAGES, TARGETS, expected=model).verdict == "train"
    model.requires_grad_(False)
    assert "d_snr" not in InspectModel().inspect(model, IMAGES, TARGETS).statistics


def test_a_head_that_begins_at_zero_is_benign() -> None:
    model = received()
    nn.init.zeros_(model[5].weight)
    nn.init.zeros_(model[5].bias)
    assert not InspectModel().inspect(model, IMAGES, TARGETS).reasons
    with torch.no_grad():
        model[5].bias[2] = -50.0
    assert InspectModel().inspect(model, IMAGES, TARGETS).refused


def test_small_kernels_of_a_benign_network_pass() -> None:
    """Of nine random weights one outweighs all others once in 500 kernels, as in depthwise convolutions."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2048, 3), nn.Flatten(), nn.LazyLinear(5))
    nn.init.normal_(model[0].weight)
    model(IMAGES)
    statistics = InspectModel().inspect(model, IMAGES, TARGETS).statistics
    assert 1 < statistics["concentration"] < InspectModel().limits["concentration"]


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    part = load("digits").test
    return part.images[:32].float() / 127.5 - 1, part.labels[:32]


def perceptron(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def test_a_wide_honest_layer_is_not_refused_for_what_chance_shows() -> None:
    """Most examples are alone in one of a thousand neurons, but few of the neurons show one."""
    inspection = InspectModel().inspect(perceptron(1000), *digits())
    assert inspection.verdict == "train"
    assert 0.01 < inspection.statistics["exposed"] < 0.15


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_rows_that_let_one_image_through_are_refused_under_noise(noise: float) -> None:
    model, (images, labels) = perceptron(400), digits()
    rows = torch.randn(400, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        half = rows[:, :32].abs()
        rows = torch.cat([-half, half], 1).gather(1, torch.rand(rows.shape).argsort(1))
        rows += noise * torch.randn(rows.shape)
        model[1].weight.copy_(rows)
        model[1].bias.copy_(-(images.flatten(1) @ rows.T).quantile(31 / 32, dim=0))
    only = InspectModel(**{name: None for name in InspectModel().limits if name != "exposed"})
    inspection = only.inspect(model, images, labels)
    assert inspection.refused
    assert (
        "of the neurons of 1 that learn from your examples, or differences of two, learn from a single one"
        in (inspection.reasons[0])
    )


def test_an_example_that_is_not_learned_yet_is_no_reason_in_a_model_that_is_sure_of_all_others() -> None:
    model, (images, labels) = perceptron(64), digits()
    labels[3] = (labels[3] + 1) % 10
    others = torch.arange(32) != 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[others]), labels[others]).backward()
        optimizer.step()
    inspection = InspectModel().inspect(model, images, labels)
    assert inspection.statistics["d_snr"] > 5 > 1 > inspection.statistics["magnified"]
    assert inspection.verdict == "train"
