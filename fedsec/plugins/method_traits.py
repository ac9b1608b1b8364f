"""What a method's class attributes mean, in words, and where such a method stands."""

import ast
from collections.abc import Iterator
from dataclasses import replace

from fedsec.plugins.registry import Entry
from fedsec.plugins.sources import lineage

PLACES: dict[str, str] = {
    "DataPoisoning": "Byzantine clients, on their own data before they train; in a scenario under `attack`.",
    "UpdatePoisoning": "Byzantine clients, on the updates that they send; in a scenario under `attack`.",
    "KnowledgePoisoning": "Byzantine clients of FedGKT, on the feature maps and logits that they send; in a scenario "
    "under `attack`.",
    "ActivationPoisoning": "a Byzantine client or party without labels, on what crosses the cut of a network; in a "
    "scenario under `attack`.",
    "Inversion": "a curious server, on what a client sends; in a scenario under `inversion`, and with `fedsec invert`.",
    "MaliciousServer": "a malicious server, which sends a client a model of its own making and reads what comes back; "
    "in a scenario under `inversion`, and with `fedsec invert`.",
    "FeatureInversion": "FedGKT's curious server, on the feature maps that a client sends; in a scenario under "
    "`inversion`.",
    "HijackingServer": "a malicious server of split learning, which answers what clients send with gradients of its "
    "own making, and reads what they send then; in a scenario under `inversion`.",
    "TextInversion": "a curious server, on updates of models of texts; in a scenario under `inversion`, and with "
    "`fedsec invert --dataset shakespeare`.",
    "MembershipInference": "whoever observes training, on examples of which it would know whether they were trained "
    "on; in a scenario under `audit.membership`, and in Python on models of any origin.",
    "PropertyInference": "a server, on clients' updates; in a scenario under `audit.properties`, and in Python on "
    "updates of any origin.",
    "LabelInference": "a party without labels, on what crosses the cut of a network; in a scenario under "
    "`audit.labels`.",
    "Aggregator": "the server, as the rule that combines a round's updates; in a scenario under `defense`, one, "
    "last in a list.",
    "RuleWrapper": "the server, as a rule that asks another one; in a scenario's list under `defense`, right before "
    "it.",
    "PrivateAggregator": "the server, as the rule that combines a round's updates and hides whole clients; in a "
    "scenario under `defense`, one, last in a list.",
    "PreAggregator": "the server, on a round's updates before its rule; in a scenario's list under `defense`, before "
    "the rule.",
    "ModelInspector": "each client, on the model that it receives, before it trains; in a scenario under `defense`, "
    "one, before all others.",
    "LocalDefense": "each client, in its own training; in a scenario under `defense`, one, before all others but an "
    "inspection.",
    "UpdateTransform": "each client, on its own update; in a scenario under `defense`, any number, before the server's "
    "rule.",
    "KnowledgeDefense": "FedGKT's server, which aggregates nothing; in a scenario under `defense`.",
    "ActivationDefense": "whoever has the labels, on gradients at the cut of a network, and whoever makes the "
    "activations, on its loss; in a scenario under `defense`, any number.",
    "Source": "the federation's data; in a scenario under `dataset`.",
    "Partition": "how the data are divided among clients; in a scenario under `partition`.",
    "Algorithm": "how clients and server train together; in a scenario under `federation`.",
    "Task": "what is learned; it follows from the dataset.",
    "Measure": "what is measured after a round; it stands in every table of a run where it applies.",
}
"""Interface -> who does it, on what, and where it is named."""

_RULE_TRAITS = {
    "detects": "It says which clients it takes for Byzantine.",
    "draws": "It draws random numbers: a call in Python gives it a `generator`.",
    "needs_server_update": "It needs an update from the server's own data: `federation.server_data` in a scenario, "
    "`server_update` in Python.",
    "needs_losses": "It asks each client for the loss of the model that it received: `losses` in Python.",
    "needs_shapes": "It treats parameters one by one: a call in Python gives it their `shapes`.",
    "needs_global_model": "It evaluates the global model at the server.",
    "by_columns": "Its columns can be combined apart from each other: a cluster may hold the updates in pieces.",
    "streams": "It needs no more than a running total of the updates: they may be forgotten as they come.",
}
_CLIENT_TRAITS = {
    "draws": "It draws random numbers: a call in Python gives it a `generator`.",
    "needs_client": "It looks at the client's data and model: a call in Python gives it a `client`.",
}
_ATTACK_TRAITS = {
    "knows_defense": "It tries the server's own defense before it sends.",
    "needs_last_aggregate": "It looks at what the server made of the last round.",
    "trains": "It trains on the Byzantine clients' machines.",
    "divided": "The attackers divide it among themselves.",
    "aim_moves": "What it aims at changes from round to round.",
}
_NEEDS = {
    "several_rounds": "It needs models of several rounds.",
    "shadow_models": "It needs shadow models: an observer with data of the same kind, who trains as the clients do.",
    "population": "It needs further examples that were surely not trained on.",
    "known": "It needs other updates of which it is known what is asked.",
    "observations": "It needs the broadcast model and a client's update: a curious server's view.",
    "known_labels": "It needs a few examples whose labels are known.",
    "two_classes": "It needs two classes.",
    "updates": "It needs a client's own updates, and the model that each starts from: the server's view.",
}
_KNOWLEDGE = {
    "own": "It knows what its own clients would have sent honestly, and no other client's update.",
    "omniscient": "It knows every honest update of the round.",
}
_WORDS: dict[str, dict[str, str]] = {
    "Aggregator": _RULE_TRAITS,
    "RuleWrapper": _RULE_TRAITS,
    "PrivateAggregator": _RULE_TRAITS,
    "PreAggregator": {name: _RULE_TRAITS[name] for name in ("draws", "by_columns")},
    "UpdateTransform": _CLIENT_TRAITS,
    "DataPoisoning": _ATTACK_TRAITS,
    "UpdatePoisoning": _ATTACK_TRAITS,
    "KnowledgePoisoning": _ATTACK_TRAITS,
}


def place(entry: Entry) -> str:
    """Who carries a method out, on what, and where it is named; nothing for kinds without an interface but models."""
    if entry.kind == "model":
        return "what is trained; in a scenario under `model`."
    return PLACES.get(entry.interface, "")


def optional_traits(entry: Entry) -> frozenset[str]:
    """The class attributes that a method's constructor sets anew, so that they depend on its options."""
    classes = [written.node for written in lineage(*entry.path) if isinstance(written.node, ast.ClassDef)]
    constructors = [
        item
        for node in classes
        for item in node.body
        if isinstance(item, ast.FunctionDef) and item.name in ("__init__", "__post_init__")
    ]
    names = {
        target.attr
        for constructor in constructors
        for target in ast.walk(constructor)
        if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
    }
    return frozenset(names & entry.traits.keys())


def with_all_traits(entry: Entry) -> Entry:
    """The same entry, with every trait true that an option can make true: what a call must be ready for."""
    return replace(entry, traits={**entry.traits, **dict.fromkeys(optional_traits(entry) & _CONTEXT, True)})


_CONTEXT = {"draws", "needs_server_update", "needs_losses", "needs_shapes"}


def trait_sentences(entry: Entry) -> tuple[str, ...]:
    """What a method's class attributes say about it, a sentence for each."""
    return tuple(_sentences(entry))


def _sentences(entry: Entry) -> Iterator[str]:
    traits, optional = entry.traits, optional_traits(entry)
    options = {parameter.name: parameter for parameter in entry.parameters}
    if entry.interface in ("Aggregator", "RuleWrapper"):
        if "weighted" in options:
            yield "The clients' weights count only if `weighted`."
        else:
            yield f"The clients' weights {'count' if traits.get('uses_weights') else 'do not count'}."
    if entry.interface in ("DataPoisoning", "KnowledgePoisoning", "ActivationPoisoning") and "knowledge" not in traits:
        yield "It knows what its own clients have, and nothing of others."
    if entry.kind == "attack" and (traits.get("forges", True) or "forges" in optional):
        if "knowledge" in options:
            default = options["knowledge"].default
            yield f"What it knows of honest updates is an option: `knowledge`, {default} by default."
        elif traits.get("knowledge") in _KNOWLEDGE:
            yield _KNOWLEDGE[traits["knowledge"]]
    for name, sentence in _WORDS.get(entry.interface, {}).items():
        if name in optional:
            yield f"Depending on its options: {sentence[0].lower()}{sentence[1:]}"
        elif traits.get(name) is True:
            yield sentence
    for need in traits.get("needs") or () if entry.kind == "inference" else ():
        yield _NEEDS.get(need, f"It needs {need}.")
    if guarantee := traits.get("guarantee"):
        proven, _, unit = guarantee.partition(": ")
        yield f"Guarantee of privacy: {proven}{unit and f' ({unit})'}."
    if tasks := traits.get("tasks"):
        yield f"For {' and '.join(tasks)} only."
