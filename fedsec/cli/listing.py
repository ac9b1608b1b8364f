"""What the command line shows of tables, datasets and plans."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedsec.errors import InputError, count_of
from fedsec.plugins import registry
from fedsec.plugins.registry import Entry

if TYPE_CHECKING:
    from fedsec.data import DatasetStatus
    from fedsec.models.catalog import EdgeRatio, Listed
    from fedsec.scenario import CellConfig, Scenario

_WIDE = 150
_MOST_ROWS = 200
_STYLES = {"options": "cyan", "paper": "dim", "work": "dim"}


def show_entries(title: str, entries: Iterable[Entry]) -> None:
    """Print what a scenario can name, with options and papers; attacks and defenses by what they act on."""
    console = Console()
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_acts_on(entry), []).append(entry)
    if len(groups) > 1:
        console.print(title, style="bold", highlight=False)
    for heading in sorted(groups, key=_ORDER.index):
        rows = []
        for entry in groups[heading]:
            label = entry.name + (f" ({entry.plugin})" if entry.plugin else "")
            paper = "" if entry.paper.startswith("none") else entry.paper
            rows.append((label, entry.summary, ", ".join(map(str, entry.parameters)), paper))
        above = heading if len(groups) > 1 else title
        _print_table(console, above, ("name", "what it is", "options", "paper"), rows, stack=console.width < _WIDE)
    if any(entry.kind == "algorithm" for group in groups.values() for entry in group):
        hint = "In a scenario these options stand under `federation`, some in its sections local, server, distillation."
        console.print(hint, markup=False, highlight=False, style="dim")


_GROUPS: dict[str, dict[str, str]] = {
    "attack": {
        "DataPoisoning": "by Byzantine clients, on their data or their updates",
        "UpdatePoisoning": "by Byzantine clients, on their data or their updates",
        "KnowledgePoisoning": "by Byzantine clients of FedGKT, on the feature maps and logits they send",
    },
    "inversion": {
        "Inversion": "by a curious server, on updates (also with `fedsec invert`)",
        "FeatureInversion": "by FedGKT's curious server, on feature maps (in scenarios only)",
    },
    "defense": {
        "Aggregator": "aggregation rules, one a scenario",
        "PrivateAggregator": "aggregation rules that hide whole clients, one a scenario",
        "PreAggregator": "by the server, mixing updates before its rule",
        "RuleWrapper": "by the server, asking the rule that follows in the list",
        "LocalDefense": "by clients, in their own training (one, before all others)",
        "UpdateTransform": "by clients, on their own update (any number, before the server's rule)",
        "KnowledgeDefense": "for FedGKT's server, which aggregates nothing",
    },
}
"""Kind -> interface -> heading of the table in which `fedsec list` shows what implements it."""
_ORDER = [*dict.fromkeys(heading for headings in _GROUPS.values() for heading in headings.values()), ""]


def _acts_on(entry: Entry) -> str:
    """The heading of an entry; nothing for kinds that have none."""
    return _GROUPS.get(entry.kind, {}).get(entry.interface, "")


def fixed_shape(dataset: str) -> tuple[tuple[int, int, int], int]:
    """Shape of an image and number of classes of a dataset by name, without loading it.

    Raises:
        InputError: unknown name, or a dataset whose shape depends on the files.
    """
    registry.entry("dataset", dataset)
    source = registry.load("dataset", dataset)
    if source.input_shape is None or source.num_classes is None:
        raise InputError(
            f"dataset {dataset!r}: its images' shape and classes depend on its files; expected a dataset of one shape, "
            "such as cifar10"
        )
    if len(source.input_shape) != 3 or not source.num_classes:
        raise InputError(
            f"dataset {dataset!r} holds {'vectors' if len(source.input_shape) != 3 else 'no classes'}; expected a "
            "dataset of images with classes, such as cifar10"
        )
    return source.input_shape, source.num_classes


def show_costs(
    dataset: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    listed: Iterable["Listed"],
    ratios: Iterable["EdgeRatio"],
) -> None:
    """Print what models cost for one image of a dataset, and what FedGKT spares its clients.

    Args:
        dataset: its name.
        input_shape: (channels, height, width) of an image.
        num_classes: number of logits.
        listed: the models.
        ratios: the networks of FedGKT's paper over its client.
    """
    from fedsec.models.catalog import CLIENT

    console = Console()
    rows = []
    for item in listed:
        note = f"on {_by(item.input_shape)} feature maps" if item.on_features else ""
        if item.costs is None:
            rows.append((item.name, "", "", "", " ".join([note, item.refused]).strip()))
            continue
        forward, training = item.costs.forward_flops / 1e6, item.costs.training_flops / 1e6
        rows.append((item.name, f"{item.costs.parameters:>10,}", f"{forward:>10,.3f}", f"{training:>11,.3f}", note))
    title = f"models on {dataset} ({_by(input_shape)}, {num_classes} classes), for one image"
    _print_table(console, title, ("name", "parameters", "MFLOPs forward", "MFLOPs training", "note"), rows)

    ratio_rows = [
        (
            ratio.network,
            f"{ratio.forward_flops:.1f}x",
            f"{ratio.training_flops:.1f}x",
            f"{ratio.paper_flops}x",
            f"{ratio.parameters:.1f}x",
            f"{ratio.paper_parameters}x",
        )
        for ratio in ratios
    ]
    headers = ("network", "FLOPs forward", "FLOPs training", "paper", "parameters", "paper ")
    _print_table(console, f"what FedGKT spares its clients: a whole network over {CLIENT}", headers, ratio_rows)
    explanations = (
        "FLOPs: a multiplication with its addition counts two; training is forward and backward pass.",
        "The paper's ratios are those of 3x32x32 images; its parameter ratios divide by 11K, rounded from 10,586.",
    )
    for line in explanations:
        console.print(line, markup=False, highlight=False, style="dim")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def show_datasets(datasets: Sequence["DatasetStatus"], *, places: bool) -> None:
    """Print where datasets are, or how to get them; with `places` also where they were looked for."""
    console = Console()
    rows = []
    for item in datasets:
        where = item.where or f"to get it: {item.how_to_get}"
        rows.append((item.name, "yes" if item.present else "no", where))
    _print_table(console, "datasets", ("name", "present", "where"), rows)
    for item in datasets if places else ():
        for place in item.looked_in:
            console.print(f"looked in {place}", markup=False, highlight=False, soft_wrap=True)


def fetch(name: str) -> None:
    """Load a dataset, which downloads it if it is nowhere, with a progress bar."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from fedsec.data import load

    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(file, total=total)
            progress.update(tasks[file], completed=done, total=total)

        dataset = load(name, progress=show)
    train, test = len(dataset.train.labels), len(dataset.test.labels)
    console.print(f"{name}: {train:,} + {test:,} images, {dataset.source}", markup=False, soft_wrap=True)


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
        adds = f"{rounded(work_plan.gradients(index))} gradients"
        if work_plan.shared[index]:
            new = work_plan.trainings[index]
            adds = f"trains {count_of(new, 'client')}, {adds}" if new else "shares all its training"
        does = f"{_threat(cell.config)}; {what}; {adds}"
        if why := work_plan.refused.get(cell.id):
            does = f"n/a: {why}"
        rows.append((cell.id, str(cell), does))
    title = f"{scenario.name}: {len(cells)} {'cell' if len(cells) == 1 else 'cells'}"
    _print_table(console, title, ("id", "cell", "work"), rows, stack=True)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    if len(cells) > _MOST_ROWS:
        say(f"... and {len(cells) - _MOST_ROWS} more cells")
    form = "clients x rounds x steps x batch"
    if any(work and work.server for work in work_plan.work):
        form += " + what fedgkt's server trains on"
    say(f"work: {form}; {rounded(work_plan.total)} example gradients in all, without evaluations and inversions")
    if any(work_plan.shared):
        needed = sum(cell.config.cohort for cell, shared in zip(cells, work_plan.shared, strict=True) if shared)
        say(
            "shared: one-round cells that differ only in defense or attackers train the same clients once: "
            f"{sum(work_plan.trainings)} trainings instead of {needed}"
            + ("" if space is None else f"; they take {rounded(space)}B in shared/ until all cells are done")
        )
    for expectation in scenario.expectations:
        say(f"expects: {expectation}")
    for note in work_plan.notes:
        say(f"note: {note}")


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
    return "".join(f", {part}" for part in parts)


def _print_table(
    console: Console, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *, stack: bool = False
) -> None:
    """A table whose first column is never broken; empty columns are left out.

    Args:
        console: where to.
        title: above the table.
        headers: of the columns.
        rows: cells as text.
        stack: put all columns but the first below each other, for narrow terminals.
    """
    shown_columns = [index for index in range(len(headers)) if any(row[index] for row in rows)]
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.show_header = not stack
    table.add_column(headers[0], no_wrap=True)
    if stack:
        table.box = None
        table.add_column()
    else:
        for index in shown_columns[1:]:
            table.add_column(headers[index], overflow="fold")
    for row in rows:
        parts = [
            Text(row[index], style=_STYLES.get(headers[index], ""))
            for index in shown_columns[1:]
            if row[index] or not stack
        ]
        table.add_row(Text(row[0]), *([Text("\n").join(parts)] if stack else parts))
    console.print(table)
    console.print()
