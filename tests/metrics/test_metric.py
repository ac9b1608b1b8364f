"""The table of metrics: what its rows promise, and how their values are written."""

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsec.errors import InputError
from fedsec.metrics.balanced_accuracy import BalancedAccuracy
from fedsec.metrics.measure import Measure
from fedsec.metrics.measures import MEASURES
from fedsec.metrics.metric import METRICS, SIZES, Metric, described, of_source, scaled


@pytest.mark.parametrize("row", METRICS.values(), ids=METRICS)
def test_a_row_is_whole(row: Metric) -> None:
    assert METRICS[row.name] is row
    assert row.about[0].islower() or row.about.split()[0].isupper()
    assert not row.about.endswith(".")
    low, high = row.bounds
    assert low < high
    assert row.write(row.within(0.5))
    assert row.baseline is None or METRICS[row.baseline].bounds == row.bounds


def test_directions_that_people_rely_on() -> None:
    lower = {name for name, row in METRICS.items() if row.better == "lower"}
    assert {"loss", "epsilon", "user_epsilon", "attack_success_rate", "upload_bytes", "lpips", "mse"} <= lower
    assert {name for name, row in METRICS.items() if row.better == "higher"} >= {"accuracy", "psnr", "recovered"}


def test_the_worst_is_what_the_direction_says() -> None:
    error = Metric("mse", "mean squared error", "lower")
    assert described("accuracy").worst_of_last.name == "accuracy_min_last5"
    assert described("accuracy").worst([0.5, 0.2, 0.9]) == 0.2
    assert error.worst_of_last.name == "mse_max_last5"
    assert error.worst([0.5, 0.2, 0.9]) == 0.9
    assert described("mse_max_last5", {"mse": error}).better == "lower"


def test_a_metric_that_nobody_described_is_a_number() -> None:
    unknown = described("f7")
    assert (unknown.better, unknown.title, unknown.write(0.25)) == ("neither", "f7", "0.250")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.1234, "12.3"),
        ("loss", 2.30259, "2.303"),
        ("epsilon", 123.4, "123"),
        ("epsilon", 0.01234, "0.0123"),
        ("psnr", 21.04, "21.0"),
        ("rejected_updates", 1200.0, "1,200"),
        ("rejected_updates", 1.5, "1.500"),
        ("edge_flops", 1.25e9, "1.25 G"),
    ],
)
def test_values_are_written_as_their_row_says(name: str, value: float, text: str) -> None:
    assert METRICS[name].write(value) == text


def test_changes_carry_their_sign() -> None:
    assert METRICS["accuracy"].write(0.05, "+") == "+5.0"
    assert METRICS["upload_bytes"].write(2000.0, "+") == "+2.00 kB"
    assert METRICS["upload_bytes"].write(-2000.0, "+") == "-2.00 kB"


@given(st.floats(0, 1e14))
@settings(deadline=None)
def test_scaled_numbers_keep_three_digits(value: float) -> None:
    text = scaled(value, SIZES["operations"])
    number, _, unit = text.partition(" ")
    size = dict(SIZES["operations"])[unit]
    assert float(number) * size == pytest.approx(value, rel=0.0051, abs=0.5)
    assert float(number) < 1000
    assert "e" not in number


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (512, "512 B"), (999.6, "1.00 kB"), (999_499, "999 kB"), (999_500, "1.00 MB"), (4.5e15, "4,500 TB")],
)
def test_bytes(value: float, text: str) -> None:
    assert scaled(value, SIZES["bytes"]) == text


def test_each_source_has_its_metrics() -> None:
    assert of_source("privacy") == ("epsilon", "user_epsilon")
    assert of_source("cost") == ("simulated_seconds", "upload_bytes", "download_bytes", "edge_flops")


def test_the_table_is_light() -> None:
    code = "import sys, fedsec.metrics.metric, fedsec.metrics.measure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_balanced_accuracy_by_hand() -> None:
    targets = torch.tensor([0, 0, 0, 0, 2])
    predicted = torch.tensor([0, 0, 0, 1, 1])
    outputs = torch.nn.functional.one_hot(predicted, 3).double()
    assert BalancedAccuracy().measure(outputs, targets) == (3 / 4 + 0) / 2  # class 1 has no examples
    row = MEASURES["balanced_accuracy"]().described("balanced_accuracy")
    assert (row.better, row.is_fraction, row.title) == ("higher", True, "balanced_accuracy (%)")


class Percent(Measure):
    """Accuracy, wrongly as a percentage."""

    better = "higher"
    scale = "fraction"

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> float:
        return 100 * float((outputs.argmax(1) == targets).double().mean())


def test_a_fraction_lies_between_0_and_1() -> None:
    with pytest.raises(InputError, match="metric percent: is a fraction; expected a number between 0 and 1, got 100"):
        Percent().value("percent", torch.eye(2), torch.arange(2))


class Several(Measure):
    """Not a number."""

    def measure(self, outputs: torch.Tensor, targets: torch.Tensor) -> float:
        return outputs  # type: ignore[return-value]


def test_a_measure_gives_one_number() -> None:
    with pytest.raises(InputError, match="metric several: expected a number, got Tensor"):
        Several().value("several", torch.eye(2), torch.arange(2))


@pytest.mark.parametrize("row", METRICS.values(), ids=METRICS)
def test_a_row_survives_json(row: Metric) -> None:
    assert Metric(**json.loads(json.dumps(row.as_json(), allow_nan=False))) == row
