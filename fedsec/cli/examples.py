"""Examples that end each command's help; a test carries out those that cost nothing, and reads the others."""

__all__ = ["EXAMPLES", "epilog"]

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "init": (
        ("fedsec init", "writes my_scenario.yaml, every line explained"),
        ("fedsec init mine --from quickstart", "a copy of a scenario that comes with fedsec"),
        ("fedsec init mine --schema", "and what an editor needs to complete its keys"),
    ),
    "scenarios": (("fedsec scenarios", "what comes with fedsec, and which data it needs"),),
    "validate": (
        ("fedsec validate quickstart", "what a run would refuse, without a run"),
        ("fedsec validate mine.yaml other.yaml", "all mistakes of all files, each with its line"),
    ),
    "audit": (
        ("fedsec audit", "a full example on embedded data, in four minutes"),
        ("fedsec audit --list", "what would be run, and what does not fit the budget"),
        (
            "fedsec audit --data my_images --model cnn --clients 20 --defense median --budget 20m",
            "a federation of yours",
        ),
        ("fedsec audit --probe leakage --fail-on high", "for an automatic check"),
        ("fedsec audit --recording seen/0123456789ab", "what a recorded federation gave away"),
    ),
    "run": (
        ("fedsec run quickstart", "a scenario that comes with fedsec"),
        ("fedsec run quickstart --dry-run", "its cells, and how much work they are"),
        ("fedsec run quickstart --set federation.rounds=2 --set 'matrix.seed=[0]'", "smaller, for a first look"),
        ("fedsec run mine.yaml --out results --workers 2", "results in results/mine/"),
        ("fedsec run quickstart --log tensorboard", "watch it in runs/quickstart/tensorboard"),
    ),
    "runs": (
        ("fedsec runs", "what lies in runs/ and inversions/"),
        ("fedsec runs results", "what lies in another folder"),
    ),
    "clean": (
        ("fedsec clean --dry-run", "how much the checkpoints of finished cells take"),
        ("fedsec clean quickstart --what all", "forget a run, once you have said yes"),
        ("fedsec clean --what models --older-than 30d --yes", "for a nightly job"),
    ),
    "report": (
        ("fedsec report runs/quickstart --open", "the page of a run, in the browser"),
        ("fedsec report runs/quickstart --out quickstart.html", "to send it to somebody"),
        ("fedsec report runs/before runs/after", "what changed from one run to another"),
    ),
    "export": (
        ("fedsec export runs/quickstart --format csv", "a row a cell"),
        ("fedsec export runs/quickstart --format parquet --rounds", "a row a cell and round, for a notebook"),
        ("fedsec export runs/quickstart --format latex --figures", "for a paper"),
    ),
    "invert": (
        ("fedsec invert", "two photographs from the gradient of a small network"),
        ("fedsec invert --defense '{name: prune, ratio: 0.9}'", "from a pruned one"),
        ("fedsec invert --images me.jpg you.jpg --model resnet18", "your own images"),
    ),
    "replay": (
        ("fedsec run quickstart --record seen", "keeps what each cell's server receives"),
        ("fedsec replay seen/0123456789ab --defense median --defense krum", "what other rules would have done"),
        ("fedsec replay seen/0123456789ab --attack alie --num-byzantine 3", "what attackers would have done"),
    ),
    "list": (
        ("fedsec list", "everything that a scenario can name"),
        ("fedsec list defenses", "one kind"),
        ("fedsec list models --dataset cifar10", "what each network costs on these images"),
    ),
    "show": (
        ("fedsec show krum", "formula, assumptions, options, paper, an example"),
        ("fedsec show alie --json", "the same for machines"),
    ),
    "data": (
        ("fedsec data", "which datasets are here"),
        ("fedsec data status cifar10", "where it is looked for, and how to get it"),
        ("fedsec data fetch fashion_mnist", "download it"),
    ),
    "schema": (("fedsec schema > schema.json", "for editors; fedsec init --schema does it for you"),),
}
"""Command -> command lines, and what each is for."""


def epilog(command: str) -> str | None:
    """The end of a command's help; nothing for one without examples."""
    examples = EXAMPLES.get(command)
    if examples is None:
        return None
    # An empty line keeps what follows on a line of its own; a bracket would begin a markup.
    lines = [f"[bold]{_plain(line)}[/bold]  [dim]# {_plain(purpose)}[/dim]" for line, purpose in examples]
    return "\n\n".join(["Examples:", *lines])


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
