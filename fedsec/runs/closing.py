"""What is said at the end of a run, and the report that it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from fedsec.errors import count_of
from fedsec.files import write_atomic, write_json
from fedsec.report import run_report as report
from fedsec.report.console import say
from fedsec.report.missing_values import rounds_outvoted
from fedsec.report.page import RunSummary, RunView, render, run_page
from fedsec.report.page.run_summary import DESCRIPTION, ExpectationVerdict
from fedsec.report.progress_lines import activity
from fedsec.report.summary import describe
from fedsec.runs.folders.page_file import PAGE
from fedsec.runs.result import RunResult
from fedsec.runs.store import Store
from fedsec.scenario import Scenario
from fedsec.scenario.scenario import UNNAMED
from fedsec.scenario.shipped import shipped_scenarios

_MOST_PICTURES = 10
_MOST_NAMED = 3


@dataclass(frozen=True)
class Closing:
    """Writes the report of a run, shows it and judges the scenario's expectations.

    Args:
        scenario: what was run.
        store: where.
        console: where to show it.
        full: whether long tables are shown whole.
    """

    scenario: Scenario
    store: Store
    console: Console
    full: bool = False

    def close(self, records: list[dict[str, Any]], *, interrupted: bool) -> RunResult:
        """Report.

        Args:
            records: one a cell, in the matrix's order.
            interrupted: whether the run was stopped before its end; nothing is judged then.
        """
        done = [record for record in records if record["status"] == "done"]
        verdicts = [] if interrupted else report.check(self.scenario.expectations, records)
        described = description(self.scenario, verdicts, interrupted=interrupted)
        troubles: list[str] = []
        with activity(self.console, "drawing pictures"):
            earlier = self.store.report(
                {record["id"] for record in done}, lambda folder: self._draw(folder, records, done, described, troubles)
            )
        if done:
            self._show_tables(records)
        self._name_failures(records)
        self._name_refusals(records)
        self._name_majorities(done)
        expectations = self._judge(verdicts)
        if earlier is not None:
            self._say(f"note: the earlier report, about cells that this one does not have, is kept in {earlier}")
        self._name_reconstructions(done)
        if interrupted:
            self._name_unfinished(records)
        for trouble in troubles:
            self._say(trouble)
        if not troubles:
            say(self.console, f"report: {self.store.root / PAGE}", essential=True)
        say(self.console, f"results in {self.store.root}: {', '.join(self._report_files())}", essential=True)
        failures = sum(record["status"] == "failed" for record in records)
        unmet = [text for text, _, met in expectations if not met]
        return RunResult(self.store.root, records, failures, unmet, interrupted, expectations)

    def _say(self, text: str) -> None:
        say(self.console, text)

    def _draw(
        self,
        folder: Path,
        records: Sequence[dict[str, Any]],
        done: Sequence[dict[str, Any]],
        described: RunSummary,
        troubles: list[str],
    ) -> None:
        root = self.store.root
        report.write_results(folder, records)
        write_json(folder / DESCRIPTION, described.as_json())
        if done:
            report.draw_partitions(root, done, folder)
            report.draw_curves(root, report.trained_once(done), folder)
            report.draw_tradeoff(root, done, folder)
            report.write_excluded_clients(root, done, folder)
            report.draw_worst_cases(root, report.trained_once(records), folder)
        try:
            write_atomic(folder / PAGE, render(run_page(RunView(root, records, described))))
        except Exception as error:  # whatever it is, hours of computing must not end in it
            troubles.append(
                f"note: no page was made of this run ({type(error).__name__}: {error}); its numbers are all there, and "
                f"fedsec report {root} tries again"
            )

    def _report_files(self) -> list[str]:
        """Names of the report's files beside the page: the numbers, and the rest."""
        names = [name for name in self.store.report_files() if name != PAGE]
        return sorted(names, key=lambda name: (not name.startswith("results"), name))

    def _show_tables(self, records: Sequence[dict[str, Any]]) -> None:
        width, full = self.console.width, self.full
        trained = report.trained_once(records)
        worst = report.worst_case_table(trained, width=width)
        self.console.print(report.table(trained, width=width, full=full))
        several_rounds = any(cell.config.federation.rounds > 1 for cell in self.scenario.cells())
        # What a table of worst cases sums up is not shown cell by cell as well.
        if several_rounds and (full or worst is None):
            last = report.primary(trained).worst_of_last.name
            self.console.print(report.table(trained, last, width=width, full=full))
        for several in report.tables(records, width=width, full=full):
            self.console.print(several)
        comparisons = (
            report.excluded_clients_table(self.store.root, trained, width=width),
            report.paired_table(trained, width=width, full=full),
            worst,
        )
        for comparison in comparisons:
            if comparison is not None:
                self.console.print(comparison)
        for remark in report.remarks(records):
            self._say(remark)

    def _name_failures(self, records: Sequence[dict[str, Any]]) -> None:
        for record in records:
            if record["status"] == "failed":
                log = self.store.cell(record["id"]).error
                say(self.console, f"failed: {_where(record)}: {record['error']} (see {log})", essential=True)

    def _name_refusals(self, records: Sequence[dict[str, Any]]) -> None:
        """Say which cells were not run, and why."""
        reasons: dict[str, list[str]] = {}
        for record in records:
            if record["status"] == "refused":
                reasons.setdefault(record["error"], []).append(_where(record))
        for reason, places in reasons.items():
            rest = f" and {len(places) - _MOST_NAMED} more" if len(places) > _MOST_NAMED else ""
            self._say(f"n/a: {reason}: {'; '.join(places[:_MOST_NAMED])}{rest}")

    def _name_majorities(self, done: Sequence[dict[str, Any]]) -> None:
        """Say in which cells attackers outnumbered the honest, in any round."""
        for record in done:
            if rounds := rounds_outvoted(record):
                self._say(
                    f"note: {_where(record)}: at least half of the sampled clients were Byzantine in "
                    f"{count_of(rounds, 'round')}, more than any rule withstands"
                )

    def _judge(self, verdicts: Sequence[tuple[str, float | None, bool]]) -> list[tuple[str, float | None, bool]]:
        """Each expectation as text, what was measured, and whether that meets it; those that are not met are said."""
        checked = [
            (text if met or value is None else f"{text}, measured {value:.4g}", value, met)
            for text, value, met in verdicts
        ]
        for text, _, met in checked:
            if not met:
                say(self.console, f"NOT MET: {text}", "red", essential=True)
        if checked:
            self._say(f"expectations: {sum(met for _, _, met in checked)} of {len(checked)} met")
        return checked

    def _name_reconstructions(self, done: Sequence[dict[str, Any]]) -> None:
        """Say where the pictures of reconstructed images are."""
        pictures = [
            (record, path)
            for record in done
            for path in sorted(self.store.cell(record["id"]).folder.glob("leakage/round-*/reconstruction.png"))
        ]
        for record, path in pictures[:_MOST_PICTURES]:
            self._say(f"reconstruction: {_where(record)}: {path}")
        if len(pictures) > _MOST_PICTURES:
            self._say(f"and {len(pictures) - _MOST_PICTURES} more in {self.store.root}/*/leakage/")

    def _name_unfinished(self, records: Sequence[dict[str, Any]]) -> None:
        """Say what an interrupted run has, and where each of its cells would go on."""
        done = sum(record["status"] == "done" for record in records)
        pending = [record for record in records if record["status"] == "pending"]
        rounds = {record["id"]: self.store.cell(record["id"]).last_round() for record in pending}
        begun = sum(map(bool, rounds.values()))
        say(
            self.console,
            f"interrupted: {done} of {count_of(len(records), 'cell')} {'is' if done == 1 else 'are'} finished, {begun} "
            f"more {'is kept as far as it' if begun == 1 else 'are kept as far as they'} came; "
            "run the same command again to continue",
            essential=True,
        )
        for record in pending:
            if rounds[record["id"]]:
                self._say(f"  {_where(record)}: continues at round {rounds[record['id']] + 1}")


def description(
    scenario: Scenario, verdicts: Sequence[tuple[str, float | None, bool]], *, interrupted: bool
) -> RunSummary:
    """What was asked, and how it ended now."""
    source = scenario.source
    shipped = shipped_scenarios().get(source.path.stem) == source.path
    given = source.path.stem if shipped else source.path.name if source.path.is_absolute() else str(source.path)
    if source.path == Path(UNNAMED):  # a mapping, of which there is no file
        given = ""
    return RunSummary(
        name=scenario.name,
        question=scenario.description.strip(),
        given=given,
        scenario=source.text,
        overrides=source.overrides,
        set_aside=[str(expectation) for expectation in scenario.set_aside],
        expectations=[ExpectationVerdict(*verdict) for verdict in verdicts],
        interrupted=interrupted,
        finished=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _where(record: dict[str, Any]) -> str:
    return describe(record["cell"])
