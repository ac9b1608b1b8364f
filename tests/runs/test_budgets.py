"""Privacy budgets that cannot be met are found before any worker, once for each setting, with file and key."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from fedsec.cli.commands import app
from fedsec.data.partitions import PARTITIONS
from fedsec.errors import InputError
from fedsec.federation.example_privacy import UNPAID, private_run
from fedsec.runs import budgets
from fedsec.runs.budgets import Budgets
from fedsec.runs.datasets import look
from fedsec.runs.experiment import build_experiment
from fedsec.runs.partitioned import client_sizes
from fedsec.scenario import CellConfig, load_scenario

UNREACHED = "no noise_multiplier up to 10,000 keeps"
UNREACHABLE = "{name: dp_sgd, target_epsilon: 1.0e-4, delta: 1.0e-9}"
UNPAYABLE = "{name: dp_sgd, noise_multiplier: 1.0, target_epsilon: 0.01}"


class NoWorkers:
    """An executor that must not be needed."""

    def __enter__(self) -> "NoWorkers":
        raise AssertionError("the run came as far as its workers")

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    ("defense", "others", "said"),
    [
        (UNREACHABLE, (), UNREACHED),
        (UNREACHABLE, ("partition=iid", "federation.local={epochs: 1, batch_size: 10}"), UNREACHED),
        (UNPAYABLE, (), UNPAID),
        ("{name: dp_sgd, noise_multiplier: 1.0, target_epsilon: 0.01, when_spent: run}", (), UNPAID),
        ("{name: dp_fedavg, target_epsilon: 1.0e-4, delta: 1.0e-9}", (), UNREACHED),
        ("{name: dp_fedavg, noise_multiplier: 4, quantile: 0.5, count_noise: 1}", (), "count_noise 1 would spend more"),
    ],
)
def test_what_cannot_be_met_is_said_once_before_any_worker(
    tmp_path: Path, tiny: Any, defense: str, others: tuple[str, ...], said: str
) -> None:
    overrides = (f"matrix.defense=[mean, {defense}]", "matrix.seed=[0, 1]", *others)
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        tiny.run(tmp_path, *overrides, executor=NoWorkers())
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{tmp_path / 'tiny.yaml'}: matrix.defense[1] (from --set): ")


def test_a_dry_run_ends_with_exit_code_2(tmp_path: Path, tiny: Any) -> None:
    command = ["run", str(tiny.file(tmp_path)), "--dry-run", "--set", f"matrix.defense=[mean, {UNREACHABLE}]"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 2
    assert shown.output.count(UNREACHED) == 1


def test_one_client_that_can_pay_lets_the_run_begin(tmp_path: Path, tiny: Any) -> None:
    """The largest client alone can, whose sampling rate is the lowest; `when_spent: run` asks for all of them."""
    path = tiny.file(tmp_path)
    defense = "{name: dp_sgd, noise_multiplier: 1.0, target_epsilon: %s, delta: 0.001, when_spent: %s}"
    for when, begins in (("client", True), ("run", False)):
        scenario = load_scenario(path, [f"matrix.defense=[{defense % (2.2, when)}]", "matrix.attack=[none]"])
        config = scenario.cells()[0].config
        algorithm, part = budgets.built(config, 0)
        sizes = client_sizes(config, 300, here=True)
        assert sizes is not None
        _, account = private_run(part, algorithm, sizes, config.federation.rounds)
        paying = [account.affords(client) for client in range(len(sizes))]
        assert any(paying)
        assert not all(paying)
        assert (not list(Budgets().problems(config, 300, here=True))) == begins


@pytest.mark.parametrize(
    "name", [name for name, kind in PARTITIONS.items() if not (kind.needs_groups or kind.needs_superclasses)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_sizes_are_those_of_the_run(name: str, seed: int) -> None:
    config = CellConfig.model_validate(
        {
            "dataset": {"name": "digits", "train_size": 120, "test_size": 20},
            "partition": {"name": name, "clients": 6},
            "model": {"name": "logistic"},
            "federation": {"rounds": 1},
            "seed": seed,
        }
    )
    run = build_experiment(config, device=torch.device("cpu"), threads=1)
    assert client_sizes(config, 1000, here=True) == tuple(map(sum, run.counts))
    without_data = client_sizes(config, 1000, here=False)
    assert without_data == (None if PARTITIONS[name].needs_classes else tuple(map(sum, run.counts)))


def test_equal_settings_are_asked_once(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def counted(*arguments: Any) -> Any:
        asked.append(arguments)
        return private_run(*arguments)

    monkeypatch.setattr(budgets, "private_run", counted)
    defense = "{name: dp_sgd, target_epsilon: 5.0}"
    look(
        load_scenario(
            tiny.file(tmp_path), [f"matrix.defense=[mean, {defense}]", "partition.seed=3", "matrix.seed=[0, 1]"]
        )
    )
    ((_, _, sizes, _),) = asked
    assert len(sizes) == 2, "the smallest and the largest client stand for all"
