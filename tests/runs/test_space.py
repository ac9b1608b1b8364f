"""What one-round cells take on the disk is said before, and given back after."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from fedsec import models
from fedsec.cli.commands import app
from fedsec.engine import memory
from fedsec.errors import InputError
from fedsec.runs import cell, shared_updates
from fedsec.runs.datasets import look
from fedsec.runs.space import shared_space
from fedsec.runs.store import Store
from fedsec.scenario import load_scenario


def test_the_space_of_shared_training_is_what_it_takes(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    save = shared_updates.save_tensors

    def measure(path: Path, *rest: Any) -> None:
        save(path, *rest)
        sizes.append(path.stat().st_size)

    monkeypatch.setattr(shared_updates, "save_tensors", measure)
    overrides = ["federation.rounds=1", "model.hidden=[500]"]
    scenario = load_scenario(tiny.file(tmp_path), overrides)
    expected = shared_space(scenario, look(scenario))
    root = tiny.run(tmp_path, *overrides).root
    assert sum(sizes) == pytest.approx(expected, rel=0.02)
    assert not Store(root).shared.exists(), "given back when all cells are done"
    shown = CliRunner().invoke(app, ["run", str(tiny.file(tmp_path)), "--dry-run", "--set", overrides[0]])
    assert "B in shared/ until all cells are done" in " ".join(shown.output.split())


def test_a_model_that_looks_at_its_numbers_when_it_is_built_has_no_size_before_the_run(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = load_scenario(tiny.file(tmp_path), ["federation.rounds=1"])
    datasets = look(scenario)
    assert shared_space(scenario, datasets) is not None
    for looks in (lambda weight: weight.item(), lambda weight: weight.numpy()):
        monkeypatch.setattr(models, "build", lambda *_, looks=looks, **__: looks(torch.ones(1)))
        assert shared_space(scenario, datasets) is None


def test_rows_stay_until_all_cells_are_done(tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record = cell.CellFiles.finish
    calls: list[object] = []

    def fail_once(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise InputError("the first cell fails at its very end")
        return write_record(*arguments, **options)

    monkeypatch.setattr(cell.CellFiles, "finish", fail_once)
    result = tiny.run(tmp_path, *tiny.one_round, "matrix.defense=[mean,median]")
    assert result.failures == 1
    assert len(list(Store(result.root).shared.iterdir())) == 6


@pytest.mark.parametrize("rounds", [1, 2])
def test_what_does_not_fit_into_memory_is_refused_before_one_round_as_before_two(
    tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    built: list[object] = []
    build = cell.build_experiment
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000)
    monkeypatch.setattr(cell, "build_experiment", lambda *a, **k: built.append(a) or build(*a, **k))  # type: ignore[func-returns-value]
    with pytest.raises(InputError, match="local training needs about"):
        tiny.run(tmp_path, *tiny.one, f"federation.rounds={rounds}")
    assert not list((tmp_path / "tiny").glob("shared/*"))
    assert len(built) <= 2, "once for all clients of one round, and once for the cell"
