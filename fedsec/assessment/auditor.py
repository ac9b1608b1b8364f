"""`fedsec.audit`: what is this federation's real exposure?"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from fedsec.assessment.battery import Battery, run_battery
from fedsec.assessment.budget import BatteryPlan, Offer, clock, scheduled, seconds_of
from fedsec.assessment.command import BUDGET, FOLDER, audit_command
from fedsec.assessment.deployment import Deployment, deployment
from fedsec.assessment.effort import LEVELS, Effort
from fedsec.assessment.finding import AuditFinding
from fedsec.assessment.kept_plan import keep, kept
from fedsec.assessment.pace import OVERHEAD, Pace, measured
from fedsec.assessment.probes import PROBES, AuditProbe
from fedsec.assessment.probes.accuracies import DEPLOYED, baseline_cells, clean_key, mean_accuracy
from fedsec.assessment.report import sorted_findings, write_report
from fedsec.assessment.result import UNFINISHED, Audit, LeftOut
from fedsec.assessment.settings import sections_of
from fedsec.errors import InputError
from fedsec.files import made_folder
from fedsec.report.console import default_console, say
from fedsec.report.progress_lines import activity
from fedsec.runs.executor import Executor

__all__ = ["audit", "planned"]


def audit(
    *,
    model: str | Mapping[str, Any] | None = None,
    data: str | Path | Mapping[str, Any] | None = None,
    clients: int | None = None,
    partition: str | Mapping[str, Any] | None = None,
    algorithm: str | None = None,
    rounds: int | None = None,
    clients_per_round: int | None = None,
    local_epochs: int | None = None,
    local_steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    defense: Any = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
    budget: str | float = BUDGET,
    probes: Sequence[str] | None = None,
    out: Path | str = FOLDER,
    workers: int | None = None,
    device: str = "auto",
    console: Console | None = None,
    executor: Executor | None = None,
) -> Audit:
    """Attack a federation as it is deployed, within a budget, and say what was found.

        result = fedsec.audit(model="cnn", data="digits", clients=10, defense=["median"], budget="5m")
        result.findings, result.left_out, result.root / "audit.html"

    Without arguments: embedded digits, a small convolutional network, ten unlike clients. What an earlier audit
    finished in the folder is taken, so that an interrupted one goes on.

    Args:
        model: a name or a mapping, as in a scenario.
        data: name of a dataset, a folder of images (`train/<class>/<image>`, `test/<class>/<image>`), or a mapping.
        clients: all of them.
        partition: how the examples are spread over them.
        algorithm: of the federation.
        rounds: of communication.
        clients_per_round: drawn in each; all by default.
        local_epochs: of a client in a round.
        local_steps: of a client in a round, in place of epochs.
        batch_size: of a client.
        lr: of a client.
        defense: the server's rule and clients' defenses, as in a scenario.
        overrides: further `key.path=value` settings of a scenario.
        seed: of everything random.
        budget: such as `10m` or `90s`, or in seconds.
        probes: names of those to try; all by default.
        out: folder of the report.
        workers: processes; by default one a core.
        device: `auto`, `cpu` or `cuda`.
        console: where to show how far it is; by default in a notebook only.
        executor: who runs the cells, such as `fedsec.runs.InProcess()`; by default processes on this machine.

    Raises:
        InputError: something cannot be audited as it is asked.
    """
    begun = time.monotonic()
    console = default_console(console)
    seconds = seconds_of(budget)
    tried = chosen(probes)
    settings: dict[str, Any] = {
        "model": model,
        "data": data,
        "clients": clients,
        "partition": partition,
        "algorithm": algorithm,
        "rounds": rounds,
        "clients_per_round": clients_per_round,
        "local_epochs": local_epochs,
        "local_steps": local_steps,
        "batch_size": batch_size,
        "lr": lr,
        "defense": defense,
        "seed": seed,
    }
    with activity(console, "reading the federation"):
        deployed = deployment(sections_of(**settings), overrides)
    root = made_folder(out, "out")
    schedule, obstacles = planned(deployed, tried, seconds, root=root, workers=workers, device=device, console=console)
    running = [probe for name in schedule.probes for probe in tried if probe.name == name]
    for line in announced(schedule, running, deployed):
        say(console, line)
    cells = {probe.name: probe.cells(deployed, schedule.effort) for probe in running}
    everything = [cell for probe in running for cell in cells[probe.name]]
    if not everything:
        raise InputError(
            "no probe can be tried: "
            + (
                "; ".join(f"{name}: {why}" for name, why in obstacles.items())
                or "there is no time; expected a larger budget"
            )
        )
    until = begun + max(seconds, 1.0)
    battery = run_battery(
        everything, root, until=until, console=console, workers=workers, device=device, executor=executor
    )
    findings, left_out = _read(deployed, running, cells, battery)

    again = partial(audit_command, settings, overrides, budget=budget)

    def alone(name: str) -> str:
        """One probe, into a folder beside this one, whose report it leaves."""
        return again([name], out=root.with_name(f"{root.name}-{name}"))

    left_out = [*left_out, *_not_scheduled(schedule, tried, alone), *_impossible(obstacles, tried)]
    result = Audit(
        root=root,
        deployed=deployed,
        findings=sorted_findings(findings),
        left_out=tuple(left_out),
        effort=schedule.effort,
        budget=seconds,
        seconds=time.monotonic() - begun,
        interrupted=battery.interrupted,
        command=again(probes or (), out=root),
        accuracy=_accuracy(deployed, schedule.effort, battery),
        versions=_versions(battery),
    )
    with activity(console, "writing the report"):
        write_report(result)
    return result


def chosen(names: Sequence[str] | None) -> list[AuditProbe]:
    """The probes of some names, in their order; all by default.

    Raises:
        InputError: one is unknown.
    """
    from fedsec.plugins.registry import nearest

    known = {probe.name: probe for probe in PROBES}
    for name in names or ():
        if name not in known:
            close = nearest(name, known)
            hint = f" (did you mean {close!r}?)" if close else ""
            raise InputError(f"unknown probe {name!r}{hint}; known: {', '.join(known)}")
    return [probe() for name, probe in known.items() if not names or name in names]


def planned(
    deployed: Deployment,
    probes: Sequence[AuditProbe],
    budget: float,
    *,
    root: Path | None,
    workers: int | None = None,
    device: str = "auto",
    console: Console,
) -> tuple[BatteryPlan, dict[str, str]]:
    """What of the battery fits into a budget, after a short measurement; and why some probes cannot be tried.

    Args:
        deployed: the federation.
        probes: that are wanted.
        budget: in seconds.
        root: an audit's folder, where an earlier audit of the same may have left its plan; None for none.
        workers: processes.
        device: where to compute.
        console: where to show that something is measured.
    """
    obstacles = {probe.name: why for probe in probes if (why := probe.obstacle(deployed)) is not None}
    able = [probe for probe in probes if probe.name not in obstacles]
    if not able:
        return BatteryPlan(LEVELS[-1], (), 0.0, {}), obstacles
    offers = {
        effort: [Offer(probe.name, probe.value, probe.cells(deployed, effort)) for probe in able] for effort in LEVELS
    }
    known = None if root is None else kept(root, deployed, [probe.name for probe in able], budget)
    if known is not None:
        return known, obstacles
    begun = time.perf_counter()
    with activity(console, "measuring how fast this machine trains"):
        pace = _pace(deployed, offers, workers, device)
    # What was measured with is spent.
    schedule = scheduled(offers, pace.seconds, budget, OVERHEAD + time.perf_counter() - begun)
    if root is not None:
        keep(root, deployed, [probe.name for probe in able], budget, schedule)
    return schedule, obstacles


def _pace(deployed: Deployment, offers: Mapping[Effort, Sequence[Offer]], workers: int | None, device: str) -> Pace:
    inverting = (cell for offer in offers[LEVELS[-1]] for cell in offer.cells if cell.iterations)
    return measured(deployed, next(inverting, None), workers=workers, device=device)


def announced(schedule: BatteryPlan, probes: Sequence[AuditProbe], deployed: Deployment) -> list[str]:
    """What will be run, and what the budget leaves out, a line each."""
    names = ", ".join(probe.name for probe in probes) or "nothing"
    lines = [f"probes: {names}; about {clock(schedule.seconds)}"]
    if shortened := schedule.effort.shortened(deployed.rounds):
        lines.append(f"shortened to fit the budget: {', '.join(shortened)}")
    lines += [f"left out: {name}, which takes about {clock(more)} more" for name, more in schedule.left_out.items()]
    return lines


def _read(
    deployed: Deployment, probes: Sequence[AuditProbe], cells: Mapping[str, Any], battery: Battery
) -> tuple[list[AuditFinding], list[LeftOut]]:
    findings, left_out = [], []
    for probe in probes:
        outcomes = battery.outcomes(cells[probe.name])
        results = probe.findings(deployed, outcomes)
        findings += results
        if outcomes.missing:
            whys = list(dict.fromkeys(outcomes.missing.values()))
            why = f"{len(outcomes.missing)} of {len(cells[probe.name])} {UNFINISHED} ({'; '.join(whys[:2])})"
            left_out.append(LeftOut(probe.name, probe.title, why if not results else f"in part: {why}"))
        elif not results:
            left_out.append(LeftOut(probe.name, probe.title, "what it measures was not measured"))
    return findings, left_out


def _not_scheduled(schedule: BatteryPlan, probes: Sequence[AuditProbe], alone: Callable[[str], str]) -> list[LeftOut]:
    return [
        LeftOut(
            probe.name,
            probe.title,
            f"the budget had no room: it takes about {clock(schedule.left_out[probe.name])} more",
            alone(probe.name),
        )
        for probe in probes
        if probe.name in schedule.left_out
    ]


def _impossible(obstacles: Mapping[str, str], probes: Sequence[AuditProbe]) -> list[LeftOut]:
    return [LeftOut(probe.name, probe.title, obstacles[probe.name]) for probe in probes if probe.name in obstacles]


def _accuracy(deployed: Deployment, effort: Effort, battery: Battery) -> float | None:
    cells = baseline_cells(deployed, effort, {DEPLOYED: deployed.rule})
    known = [cell for cell in cells if battery.knows(cell)]
    outcomes = battery.outcomes(known).of(*clean_key(DEPLOYED))
    return mean_accuracy(outcomes) if outcomes else None


def _versions(battery: Battery) -> dict[str, Any]:
    done = next((record for record in battery.records.values() if record["status"] == "done"), {})
    return dict(done.get("environment") or {})
