"""What `fedsec run --dry-run` shows: a scenario's cells, what each will do, and the work they make."""

from typing import TYPE_CHECKING

from rich.console import Console

from fedsec.cli.display.tables import Column, print_table
from fedsec.errors import count_of
from fedsec.report.console import say

if TYPE_CHECKING:
    from fedsec.scenario import CellConfig, Scenario

__all__ = ["show_plan"]

_MOST_ROWS = 200


def show_plan(scenario: "Scenario", space: int | None = None) -> None:
    """Print a scenario's cells, what each will do, and the work they make.

    Args:
        scenario: it has passed `check_scenario`.
        space: bytes that one-round cells keep in shared/ while they run; None if it is not known.
    """
    from fedsec.scenario.plan import plan, rounded

    console = Console()
    work_plan, cells = plan(scenario), scenario.cells()
    rows = []
    for index, cell in enumerate(cells[:_MOST_ROWS]):
        work = work_plan.work[index]
        what = f"{work.clients} x {work.rounds} x {work.steps:.4g} x {work.batch:.4g}" if work else "unknown"
        if work and work.server:
            what += f" + {rounded(work.server)} on the server"
        if work and work.audit:
            what += f" + {rounded(work.audit)} in the audit"
        adds = f"{rounded(work_plan.gradients(index))} gradients"
        if work_plan.shared[index]:
            new = work_plan.trainings[index]
            adds = f"trains {count_of(new, 'client')}, {adds}" if new else "shares all its training"
        does = f"{_threat(cell.config)}; {what}; {adds}"
        if why := work_plan.refused.get(cell.id):
            does = f"n/a: {why}"
        rows.append((cell.id, str(cell), does))
    title = f"{scenario.name}: {len(cells)} {'cell' if len(cells) == 1 else 'cells'}"
    columns = (Column("id"), Column("cell"), Column("work", "dim"))
    print_table(console, title, columns, rows, stack=True)

    if len(cells) > _MOST_ROWS:
        say(console, f"... and {len(cells) - _MOST_ROWS} more cells")
    form = "clients x rounds x steps x batch"
    if any(work and work.server for work in work_plan.work):
        form += " + what fedgkt's server trains on"
    say(
        console,
        f"work: {form}; {rounded(work_plan.total)} example gradients in all, without evaluations and inversions",
    )
    if any(work_plan.shared):
        needed = sum(cell.config.cohort for cell, shared in zip(cells, work_plan.shared, strict=True) if shared)
        say(
            console,
            "shared: one-round cells that differ only in defense or attackers train the same clients once: "
            f"{sum(work_plan.trainings)} trainings instead of {needed}"
            + ("" if space is None else f"; they take {rounded(space)}B in shared/ until all cells are done"),
        )
    for expectation in scenario.expectations:
        say(console, f"expects: {expectation}")
    for note in work_plan.notes:
        say(console, f"note: {note}")


def _threat(config: "CellConfig") -> str:
    """Who attacks in a cell, and whom."""
    if config.pooled:
        return "centralized"
    target, clients = config.inversion.target if config.inversion else None, config.partition.clients
    byzantine = f"{config.attack.count(clients)} of {clients} Byzantine{_when(config)}"
    if target is None:
        return byzantine
    rounds = f"round{'s' if len(target.rounds) > 1 else ''} {', '.join(map(str, target.rounds))}"
    images = f"{count_of(target.images, 'image')} of " if target.images else ""
    beside = f"{byzantine}, " if config.attack.name != "none" else ""
    return f"{beside}inverts {images}client {target.client} in {rounds}"


def _when(config: "CellConfig") -> str:
    """In which rounds who attacks, where that is not all rounds and the same clients."""
    attack, parts = config.attack, []
    if attack.since is not None or attack.until is not None:
        rounds = config.federation.rounds
        parts.append(f"in rounds {attack.since or 1} to {min(attack.until or rounds, rounds)}")
    if attack.redraw == "each_round":
        parts.append("drawn anew each round")
    if attack.claimed_examples != 1:
        parts.append(f"claiming {attack.claimed_examples:g} times their examples")
    if attack.claimed_loss != 1:
        parts.append(f"claiming {attack.claimed_loss:g} times their loss")
    if attack.speed != 1:
        parts.append(f"{attack.speed:g} times as fast")
    return "".join(f", {part}" for part in parts)
