"""What `fedsec list` shows: what scenarios can name, in tables."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from fedsec.cli.display.tables import Column, print_note, print_table
from fedsec.plugins.registry import Entry

__all__ = ["point_to_show", "show_entries"]


def show_entries(title: str, entries: Iterable[Entry]) -> None:
    """Print what a scenario can name, with options and papers; attacks and defenses by what they act on."""
    console = Console()
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_acts_on(entry), []).append(entry)
    if len(groups) > 1:
        console.print(Text(title, "bold underline"))
    columns = (
        Column("name"),
        Column("what it is", comfort=40),
        Column("proves", comfort=14, optional=True),
        Column("paper", "dim", comfort=26, optional=True),
        Column("options", "cyan", comfort=32, optional=True),
    )
    for heading in sorted(groups, key=_ORDER.index):
        rows = []
        for entry in groups[heading]:
            label = entry.name + (f" ({entry.plugin})" if entry.plugin else "")
            paper = "" if entry.paper.startswith("none") else entry.paper
            proves = entry.traits.get("guarantee", "").partition(":")[0]
            rows.append((label, entry.summary, proves, paper, ", ".join(map(str, entry.parameters))))
        print_table(console, heading if len(groups) > 1 else title, columns, rows)
    if any(entry.kind == "algorithm" for group in groups.values() for entry in group):
        print_note(
            console,
            "In a scenario these options stand under `federation`, some in its sections local, server, distillation.",
        )


def point_to_show(name: str) -> None:
    """Say below the tables where there is more about each; `name` is an example."""
    print_note(Console(), f"All about one of them: fedsec show NAME{name and f', such as fedsec show {name}'}")


_GROUPS: dict[str, dict[str, str]] = {
    "attack": {
        "DataPoisoning": "by Byzantine clients, on their data or their updates",
        "UpdatePoisoning": "by Byzantine clients, on their data or their updates",
        "KnowledgePoisoning": "by Byzantine clients of FedGKT, on the feature maps and logits they send",
        "ActivationPoisoning": "by a Byzantine client or party without labels, at the cut of a network",
    },
    "inversion": {
        "Inversion": "by a curious server, on updates (also with `fedsec invert`)",
        "MaliciousServer": "by a server that makes the model it sends (also with `fedsec invert`)",
        "HijackingServer": "by a server that trains split learning's clients for its ends",
        "TextInversion": "by a curious server, on updates of models of texts (also with `fedsec invert`)",
        "FeatureInversion": "by FedGKT's curious server, on feature maps (in scenarios only)",
    },
    "inference": {
        "MembershipInference": "by whoever observes training: was an example trained on (in scenarios under `audit`)",
        "PropertyInference": "by a server: what do updates say of their client (in scenarios under `audit`)",
        "LabelInference": "by a party without labels: what crosses the cut of a network (under `audit`)",
    },
    "defense": {
        "Aggregator": "aggregation rules, one a scenario",
        "PrivateAggregator": "aggregation rules that hide whole clients, one a scenario",
        "PreAggregator": "by the server, mixing updates before its rule",
        "RuleWrapper": "by the server, asking the rule that follows in the list",
        "ModelInspector": "by clients, on the model they receive, before they train (one, before all others)",
        "LocalDefense": "by clients, in their own training (one, before all others)",
        "UpdateTransform": "by clients, on their own update (any number, before the server's rule)",
        "KnowledgeDefense": "for FedGKT's server, which aggregates nothing",
        "ActivationDefense": "at the cut of a network, by who has labels or makes activations (any number)",
    },
}
"""Kind -> interface -> heading of the table in which `fedsec list` shows what implements it."""
_ORDER = [*dict.fromkeys(heading for headings in _GROUPS.values() for heading in headings.values()), ""]


def _acts_on(entry: Entry) -> str:
    """The heading of an entry; nothing for kinds that have none."""
    return _GROUPS.get(entry.kind, {}).get(entry.interface, "")
