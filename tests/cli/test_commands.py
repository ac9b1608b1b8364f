"""The command line: what it shows, what it hands on, how it ends, and how fast it starts."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fedsec
from fedsec import runs
from fedsec.cli import app
from fedsec.errors import AggregationError, BusyError, DataError
from fedsec.plugins import registry
from fedsec.scenario import Scenario
from fedsec.scenario.schema import scenario_schema
from fedsec.scenario.shipped import shipped_scenarios

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "scenarios" / "quickstart.yaml"
PLURALS = {kind: f"{kind}s" for kind in registry.KINDS}

runner = CliRunner()


def invoke(*arguments: str, width: int = 80) -> Any:
    return runner.invoke(app, list(arguments), env={"COLUMNS": str(width), "TERM": "dumb"})


def fedsec_process(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "COLUMNS": "80", **options.pop("env", {})}
    environment = {name: value for name, value in environment.items() if value is not None}
    command = [sys.executable, "-m", "fedsec", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, **options)


# Showing


def test_version() -> None:
    assert invoke("--version").stdout == f"fedsec {fedsec.__version__}\n"


def test_the_version_is_that_of_the_package() -> None:
    assert 'attr = "fedsec.__version__"' in (ROOT / "pyproject.toml").read_text()


def test_help_names_the_commands() -> None:
    for arguments in (["--help"], ["-h"], []):
        shown = invoke(*arguments).output
        assert all(word in shown for word in ("run", "list", "data", "schema", "--install-completion"))


@pytest.mark.parametrize("kind", PLURALS)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_list_shows_every_name_whole_and_fits_the_terminal(kind: str, width: int) -> None:
    result = invoke("list", PLURALS[kind], width=width)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= width
    words = result.stdout.split()
    for name, entry in registry.entries(kind).items():
        assert re.search(rf"^{name}\b", result.stdout, re.MULTILINE)
        assert [word for word in entry.summary.split() if word not in words] == []
        if width == 200:
            assert all(parameter.name in result.stdout for parameter in entry.parameters)
    if kind == "defense":
        assert ("arXiv:1803.01498" in words) == (width == 200)


def test_list_without_a_terminal_has_a_line_for_each_name() -> None:
    done = fedsec_process("list", "defenses", env={"COLUMNS": None})
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("trimmed_mean "))
    assert "values.  " in line
    assert "Yin et al., ICML 2018, arXiv:1803.01498" in line
    assert line.endswith("trim_per_side=null, num_trimmed_per_side=null, compile=false, weighted=false")
    assert "\t" not in done.stdout


def test_list_shows_all_kinds() -> None:
    shown = invoke("list").stdout
    assert [line.strip() for line in shown.splitlines() if line.strip() in PLURALS.values()] == list(PLURALS.values())


def test_list_for_machines() -> None:
    content = json.loads(invoke("list", "--json").stdout)
    assert list(content) == list(PLURALS.values())
    trimmed = next(entry for entry in content["defenses"] if entry["name"] == "trimmed_mean")
    assert trimmed["parameters"][0] == {
        "name": "trim_per_side",
        "type": "float | None",
        "about": trimmed["parameters"][0]["about"],
        "required": False,
        "default": None,
    }


def test_list_of_nothing_known() -> None:
    result = invoke("list", "attack")
    assert result.exit_code == 2
    assert "attacks" in result.stderr


def test_data_status() -> None:
    shown = invoke("data").stdout
    assert all(name in shown for name in registry.entries("dataset"))
    assert "embedded in sklearn" in shown
    found = json.loads(invoke("data", "status", "--json").stdout)
    assert found[0]["name"] == "digits"
    assert found[0]["present"] is True
    one = invoke("data", "status", "digits").stdout
    assert "looked in" in one
    assert "mnist" not in one


def test_data_fetch() -> None:
    result = invoke("data", "fetch", "digits")
    assert (result.exit_code, result.stdout) == (0, "digits: 1,437 + 360 images, embedded in sklearn\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "fetch"], "error: fedsec data fetch: expected the name of a dataset"),
        (
            ["data", "fetch", "digit"],
            "error: unknown dataset 'digit' (did you mean 'digits'?); known: digits, zero_digits",
        ),
        (["data", "status", "digit"], "error: unknown dataset 'digit' (did you mean 'digits'?)"),
        (["run", "nowhere.yaml"], "error: nowhere.yaml: no such file; expected a scenario in YAML"),
        (["run", "."], "error: .: is a folder; expected a scenario in YAML"),
        (["run", str(QUICKSTART), "--set", "x"], "error: --set 'x': expected key.path=value"),
        (["run", str(QUICKSTART), "--out", str(QUICKSTART)], "quickstart.yaml: is not a folder"),
    ],
)
def test_bad_input(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout


@pytest.mark.parametrize("arguments", [["run"], ["run", "x", "--workers", "0"], ["run", "x", "--device", "tpu"]])
def test_bad_usage(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("arguments", [["run", "quickstart", "--device", "tpu"], ["data", "foo"]])
def test_a_choice_that_is_none_is_said_without_words_of_the_library(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "is not one of" in result.output
    assert "Value error" not in result.output


def test_a_failed_download_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DataError("mnist was not found.\nThen download failed.")

    monkeypatch.setattr("fedsec.data.load", fail)
    result = invoke("data", "fetch", "mnist")
    assert (result.exit_code, result.stderr) == (2, "error: mnist was not found.\nThen download failed.\n")


def test_schema() -> None:
    assert json.loads(invoke("schema").stdout) == scenario_schema()


# Dry runs


def test_a_dry_run_shows_cells_and_work() -> None:
    result = invoke("run", str(QUICKSTART), "--dry-run", "--set", "matrix.seed=[0]", width=120)
    assert result.exit_code == 0
    shown = result.stdout
    assert "quickstart: 6 cells" in shown
    assert "attack=label_flip(fraction=0.4), defense=median, seed=0" in shown
    assert "4 of 10 Byzantine; 10 x 10 x 50 x 20; 100 k gradients" in shown
    assert "600 k example gradients in all" in shown
    assert "expects: attack=label_flip, defense=median: accuracy" in shown


def test_a_dry_run_tells_what_is_shared() -> None:
    result = invoke("run", str(ROOT / "scenarios" / "byzantine_fmnist.yaml"), "--dry-run", width=120)
    shown = " ".join(result.stdout.split())
    assert "train the same clients once: 84 trainings instead of 720" in shown
    assert "trains 8 clients" in shown or "trains 2 clients" in shown
    assert "shares all its training" in shown


def test_a_dry_run_tells_what_actors_do_not_do() -> None:
    cells = ("--set", "matrix.seed=[0]", "--set", "matrix.defense=[mean, {name: dnc, num_byzantine: 2}]")
    result = invoke("run", str(QUICKSTART), "--dry-run", *cells, "--ray", "auto", "--actors-per-cell", "2", width=200)
    assert result.exit_code == 0
    said = re.search(r"note: --actors-per-cell: (\d+) of (\d+) cells will fail: DnC looks at whole rows", result.stdout)
    assert said is not None
    assert 2 * int(said[1]) == int(said[2])


def test_a_dry_run_finds_what_cannot_be_built() -> None:
    setting = "matrix.defense=[{name: trimmed_mean, trim_per_side: 0.5}]"
    result = invoke("run", str(QUICKSTART), "--dry-run", "--set", setting)
    assert result.exit_code == 2
    assert "matrix.defense[0] (from --set): trim_per_side is a fraction" in result.stderr


def test_expectations_about_cells_that_were_set_away_are_set_aside() -> None:
    result = invoke("run", str(QUICKSTART), "--dry-run", "--set", "matrix.defense=[median]")
    assert result.exit_code == 0
    assert "set aside, since --set leaves no such cell: attack=label_flip, defense=mean" in result.stderr
    assert "expects: attack=label_flip, defense=median" in result.stdout
    assert "defense=mean" not in result.stdout


# Runs


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Replaces the runner by one that ends as it is told, and keeps what it was given."""

    def make(ending: "runs.RunResult | BaseException") -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def run(scenario: Scenario, **options: Any) -> runs.RunResult:
            calls.append({"scenario": scenario, **options})
            if isinstance(ending, BaseException):
                raise ending
            return ending

        monkeypatch.setattr(runs, "run", run)
        return calls

    return make


def ended(failures: int = 0, unmet: tuple[str, ...] = (), interrupted: bool = False) -> runs.RunResult:
    return runs.RunResult(Path("x"), [], failures, list(unmet), interrupted)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (ended(), 0),
        (ended(failures=1), 1),
        (ended(unmet=("too low",)), 1),
        (ended(failures=1, interrupted=True), 130),
        (KeyboardInterrupt(), 130),
        (BusyError("runs/x: another process"), 2),
        (AggregationError("round 3: no"), 1),
        (OSError(28, "No space left on device"), 1),
    ],
)
def test_exit_codes(ran: Callable[..., Any], ending: Any, code: int) -> None:
    ran(ending)
    result = invoke("run", str(QUICKSTART))
    assert result.exit_code == code
    if isinstance(ending, Exception):
        text = "No space left on device" if isinstance(ending, OSError) else ending
        assert result.stderr.startswith(f"error: {text}\n")
        assert ("Make room" in result.stderr) is isinstance(ending, OSError)


def test_a_defect_is_not_hidden(ran: Callable[..., Any]) -> None:
    ran(ZeroDivisionError("oops"))
    result = invoke("run", str(QUICKSTART))
    assert isinstance(result.exception, ZeroDivisionError)


def test_what_is_handed_on(ran: Callable[..., Any], tmp_path: Path) -> None:
    calls = ran(ended())
    options = ["--out", str(tmp_path), "--workers", "3", "--device", "cpu", "--fresh", "--set", "federation.rounds=2"]
    assert invoke("run", str(QUICKSTART), *options, "--set", "matrix.defense=[mean]").exit_code == 0
    (call,) = calls
    assert (call["out"], call["workers"], call["device"], call["fresh"]) == (tmp_path, 3, "cpu", True)
    cells = call["scenario"].cells()
    assert {cell.config.defense[0].name for cell in cells} == {"mean"}
    assert cells[0].config.federation.rounds == 2


def test_defaults(ran: Callable[..., Any]) -> None:
    calls = ran(ended())
    invoke("run", str(QUICKSTART))
    call = calls[0]
    assert (call["out"], call["workers"], call["device"], call["fresh"]) == (Path("runs"), None, "auto", False)


# Starting


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"], ["data", "status"], ["--version"]])
def test_starting_is_light(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['fedsec', *{arguments!r}]\n"
        "from fedsec.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code\n"
        "print([m for m in ('torch', 'numpy', 'sklearn', 'matplotlib', 'skimage', 'scipy') if m in sys.modules], "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_completion_offers_commands_options_and_files(tmp_path: Path) -> None:
    def complete(words: str, folder: Path = tmp_path) -> list[str]:
        environment = {"_FEDSEC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))}
        if not words.endswith(" "):
            environment["COMP_CWORD"] = str(len(words.split()) - 1)
        code = "import sys; sys.argv = ['fedsec']; from fedsec.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            cwd=folder,
        )
        return done.stdout.split()

    assert {"run", "list", "data", "schema"} <= set(complete("fedsec "))
    assert "attacks" in complete("fedsec list ")
    assert "--dry-run" in complete("fedsec run --d")
    (tmp_path / "one.yaml").touch()
    (tmp_path / "two.txt").touch()
    (tmp_path / "folder").mkdir()
    assert complete("fedsec run ")[:3] == ["folder/", "one.yaml", min(shipped_scenarios())]
    assert complete("fedsec run o") == ["one.yaml"]
    assert complete("fedsec run quick") == ["quickstart"]
    assert complete("fedsec invert --inversion inv") == ["inverting_gradients"]
    assert "feature_inversion" not in complete("fedsec invert --inversion ")
    assert complete("fedsec invert --model lenet") == ["lenet"]
    assert "cifar10" in complete("fedsec data fetch ")


@pytest.mark.parametrize("command", [(), ("run",), ("invert",), ("list",), ("data",), ("schema",)])
def test_help_names_no_type_of_flags(command: tuple[str, ...]) -> None:
    shown = invoke(*command, "--help").output
    assert "--help" in shown
    assert "bool" not in shown.lower()


def test_completion_can_be_installed() -> None:
    done = fedsec_process("--show-completion", "bash", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    assert "_FEDSEC_COMPLETE" in done.stdout or "COMPLETE" in done.stdout


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m fedsec list | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
