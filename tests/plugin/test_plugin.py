"""A package with one thing of each kind: installed, listed and run, beside the built-ins and never instead of them."""

import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fedsec
from fedsec.cli import app
from fedsec.errors import InputError
from fedsec.plugins import registry
from fedsec.plugins.signatures import signature
from fedsec.plugins.sources import MethodSource, define, lineage
from fedsec.runs import InProcess
from fedsec.testing import (
    check_aggregator,
    check_property_inference,
    check_update_poisoning,
    check_update_transform,
)

PACKAGE = Path(__file__).parent
PROJECT: dict[str, Any] = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
GROUPS: dict[str, dict[str, str]] = PROJECT["entry-points"]
CACHES = (signature, define, lineage, MethodSource.of, registry._plugins, registry._built_in)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages that has it, as an installer without a network would leave it."""
    site = tmp_path / "site"
    shutil.copytree(PACKAGE / "src", site)
    record = site / f"fedsec_sample-{PROJECT['version']}.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n")
    write_entry_points(record, GROUPS)
    monkeypatch.syspath_prepend(str(site))
    for cached in CACHES:
        cached.cache_clear()
    yield record
    for name in [name for name in sys.modules if name.startswith("fedsec_sample")]:
        del sys.modules[name]
    for cached in CACHES:
        cached.cache_clear()


def write_entry_points(record: Path, groups: dict[str, dict[str, str]]) -> None:
    sections = [
        [f"[{group}]", *(f"{name} = {value}" for name, value in rows.items())] for group, rows in groups.items()
    ]
    (record / "entry_points.txt").write_text("\n".join(line for section in sections for line in section))


def test_the_package_fills_every_group() -> None:
    assert GROUPS.keys() == {kind.group for kind in registry.KINDS.values()}


def test_everything_is_listed_without_importing_it(installed: Path) -> None:
    shown = CliRunner().invoke(app, ["list", "--json"])
    assert shown.exit_code == 0
    content = json.loads(shown.stdout)
    for kind, table in registry.KINDS.items():
        listed = {entry["name"]: entry for entry in content[f"{kind}s"]}
        for name in GROUPS[table.group]:
            assert listed[name]["plugin"] == "fedsec-sample"
            assert listed[name]["summary"].endswith(".")
        assert any(entry["plugin"] is None for entry in listed.values())
    assert not [name for name in sys.modules if name.startswith("fedsec_sample")]
    roles = {entry["name"]: entry["role"] for kind in ("attacks", "inversions", "defenses") for entry in content[kind]}
    assert {name: roles[name] for name in ("loud_flip", "still", "hasty", "midrange", "tight_clip", "pairs")} == {
        "loud_flip": "updates",
        "still": "updates",
        "hasty": "updates",
        "midrange": "rule",
        "tight_clip": "update",
        "pairs": "pre_aggregation",
    }
    options = {entry["name"]: [option["name"] for option in entry["parameters"]] for entry in content["attacks"]}
    assert options["loud_flip"] == ["loudness", "scale"]


SCENARIO: dict[str, Any] = {
    "name": "from-outside",
    "dataset": "stripes",
    "partition": {"name": "first_takes_half", "clients": 4, "share": 0.4},
    "model": {"name": "bottleneck", "width": 3},
    "federation": {
        "algorithm": "slow_prox",
        "rounds": 2,
        "mu": 0.1,
        "patience": 2.0,
        "local": {"steps": 1, "batch_size": 8, "lr": 0.1},
    },
    "metrics": ["confidence"],
    "audit": {"properties": {"inferences": [{"name": "nearest_known", "power": 2.0}, "site"], "permutations": 9}},
    "inversion": {"name": "hasty", "iterations": 2, "target": {"client": 3, "rounds": [2]}},
    "matrix": {
        "attack": [
            "none",
            {"name": "loud_flip", "scale": 1.5, "num_byzantine": 1},
            {"name": "still", "fraction": 0.25},
        ],
        "defense": [[{"name": "tight_clip", "max_norm": 1.0}, "pairs", "midrange"]],
    },
    "expect": [{"attack": "none", "confidence": "0.5 .. 1"}],
}


@pytest.mark.usefixtures("quick_runs")
def test_everything_runs_in_a_scenario(installed: Path, tmp_path: Path) -> None:
    result = fedsec.run(SCENARIO, out=tmp_path / "runs", executor=InProcess())
    assert not result.failures
    assert not result.unmet
    assert len(result.records) == 3
    for record in result.records:
        assert 0.5 <= record["metrics"]["confidence"] <= 1
        assert record["metrics"]["psnr"] is not None
        answers = record["audit"]["properties"]
        assert answers["nearest_known"]["attempts"] == answers["site"]["attempts"]
        assert record["metrics"]["site_identification"] == answers["nearest_known"]["observed"]
    partition = json.loads(
        (tmp_path / "runs" / "from-outside" / result.records[0]["id"] / "partition.json").read_text()
    )
    assert [sum(counts) for counts in partition["counts"]] == [48, 24, 24, 24]


def test_methods_of_the_package_keep_their_contracts(installed: Path) -> None:
    check_aggregator(registry.load("defense", "midrange")(), num_byzantine=0)
    check_property_inference(registry.load("inference", "nearest_known")(power=2.0))
    check_update_poisoning(registry.load("attack", "loud_flip")(scale=2.0))
    check_update_transform(registry.load("defense", "tight_clip")(max_norm=1.0))


@pytest.mark.parametrize("kind", registry.KINDS)
def test_no_built_in_can_be_shadowed(installed: Path, kind: str) -> None:
    table = registry.KINDS[kind]
    taken = next(iter(registry.entries(kind, plugins=False)))
    value = next(iter(GROUPS[table.group].values()))
    write_entry_points(installed, {table.group: {taken: value}})
    registry._plugins.cache_clear()
    with pytest.raises(InputError, match=f"fedsec-sample calls its {kind} '{taken}', which is a built-in name"):
        registry.entries(kind)


@pytest.mark.parametrize("kind", [kind for kind, table in registry.KINDS.items() if table.interfaces])
def test_what_stands_in_the_wrong_group_is_refused(installed: Path, kind: str) -> None:
    wrong = "fedsec_sample.mixins:Named"
    write_entry_points(installed, {registry.KINDS[kind].group: {"misplaced": wrong}})
    registry._plugins.cache_clear()
    with pytest.raises(InputError, match=r"'misplaced' of fedsec-sample: .*Named is no .*; expected a subclass of"):
        registry.entries(kind)
