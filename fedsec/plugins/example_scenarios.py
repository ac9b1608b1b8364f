"""A small scenario in YAML for each method, and the options that it shows.

Options are those of the `Example:` section of a method's docstring, `name: value` lines as in YAML, or else those that
the method requires, each with a value of its type.
"""

import ast
from typing import Any

from fedsec.plugins.registry import REQUIRED, Entry
from fedsec.plugins.signatures import Parameter, as_yaml

_ORDER = ("dataset", "partition", "model", "federation", "attack", "inversion", "audit", "defense")
_SURROUNDINGS = {
    ("algorithm", "fedper"): {"model": "mlp"},
    ("algorithm", "fedrep"): {"model": "mlp"},
    ("algorithm", "fedbn"): {"model": "resnet4"},
    ("algorithm", "fednas"): {"model": "darts_small"},
    ("defense", "bulyan"): {"partition": "{clients: 11}"},
    ("model", "pooled_cnn"): {"dataset": "fashion_mnist"},
    ("model", "convnet64"): {"dataset": "cifar10"},
    ("inversion", "seer"): {"partition": "{clients: 90}", "federation": "{algorithm: fedsgd, rounds: 1}"},
}
"""What single methods need: layers to keep at home, a space to search, rows enough, larger images, a gradient."""
_VALUES: dict[str, Any] = {"int": 2, "float": 1.0, "bool": True, "str": "name"}


def example_options(entry: Entry, section: str = "") -> dict[str, Any]:
    """Options that make a method.

    Args:
        entry: the method.
        section: the `Example:` section of its docstring.
    """
    import yaml

    try:
        options = yaml.safe_load(section)
    except yaml.YAMLError:
        options = None  # such as an example in Python
    if isinstance(options, dict) and options.keys() <= {parameter.name for parameter in entry.parameters}:
        return dict(options)
    return {option.name: _value(option) for option in entry.parameters if option.default is REQUIRED}


def example_scenario(entry: Entry, section: str = "") -> str:
    """A scenario in a few lines; nothing for kinds that scenarios do not name.

    Args:
        entry: the method.
        section: the `Example:` section of its docstring.
    """
    options, keys = example_options(entry, section), _surroundings(entry)
    if entry.kind == "attack":
        keys["attack"] = _flow(entry.name, options | {"num_byzantine": 1 if entry.role == "activations" else 2})
    elif entry.kind == "inversion":
        count = 100 if entry.role == "activations" else 300 if entry.traits.get("needs_auxiliary") else 0
        images = {"knowledge": {"auxiliary": count}} if count else {}
        keys["inversion"] = _flow(entry.name, options | {"target": {"client": 0, "rounds": [1]}} | images)
    elif entry.interface == "MembershipInference":
        keys["audit"] = (
            f"{{membership: {_as_flow({'inferences': [_method(entry.name, options)], **_watching(entry)})}}}"
        )
    elif entry.interface == "PropertyInference":
        keys["audit"] = f"{{properties: {_as_flow({'inferences': [_method(entry.name, options)]})}}}"
    elif entry.interface == "LabelInference":
        keys["audit"] = f"{{labels: {{inferences: {_as_flow([_method(entry.name, options)])}, known: 3}}}}"
    elif entry.kind == "defense":
        method = _flow(entry.name, options)
        keys["defense"] = f"[{method}, median]" if entry.interface in ("RuleWrapper", "PreAggregator") else method
    elif entry.kind == "partition":
        keys["partition"] = _flow(entry.name, options | {"clients": 10})
    elif entry.kind in ("dataset", "model"):
        keys[entry.kind] = _flow(entry.name, options)
    elif entry.kind != "algorithm":
        return ""
    return "".join(f"{key}: {keys[key]}\n" for key in _ORDER if key in keys)


def _surroundings(entry: Entry) -> dict[str, str]:
    """Everything that a scenario needs beside the method itself."""
    keys = {"dataset": "digits", "partition": "{clients: 10}", "model": "logistic", "federation": "{rounds: 5}"}
    tasks = entry.traits.get("tasks") or ("classification",)
    if "classification" not in tasks or entry.name in ("linear", "diabetes"):
        keys |= {"dataset": "diabetes", "model": "linear"}
    if tasks == ("next_token",) or entry.traits.get("task") == "next_token" or entry.traits.get("needs_groups"):
        keys |= {"dataset": "shakespeare", "model": "char_transformer"}
    if entry.traits.get("needs_superclasses"):
        keys |= {"dataset": "cifar100"}
    knowledge = entry.role == "knowledge" or entry.traits.get("exchanges") == "knowledge"
    if knowledge:
        keys |= {"model": "resnet4", "federation": "{algorithm: fedgkt, rounds: 2, server: {model: resnet7}}"}
    cut = entry.role in ("activations", "label") or entry.traits.get("exchanges") == "activations"
    if cut:
        algorithm = entry.name if entry.kind == "algorithm" else "split_learning, labels: server"
        federation = f"{{algorithm: {algorithm}, rounds: 5}}"
        model = "cnn" if entry.kind == "inversion" else "mlp"
        keys |= {"dataset": "zero_digits", "model": model, "federation": federation}
        return keys | {"partition": "{clients: 2}"}
    if entry.kind == "algorithm" and not knowledge:
        keys |= {"federation": f"{{algorithm: {entry.name}, rounds: 5}}"}
        if entry.name == "centralized":
            keys["partition"] = "{clients: 1}"
    if entry.kind == "attack" and not knowledge:
        keys["defense"] = "median"
    if entry.kind == "inversion" and not knowledge:
        keys["model"] = "mlp" if keys["dataset"] == "digits" else keys["model"]
        local = "epochs: 1, batch_size: 200"
        if keys["dataset"] == "shakespeare":
            keys["dataset"], local = "{name: shakespeare, test_size: 200}", "steps: 1, batch_size: 2"
        keys["federation"] = f"{{rounds: 1, local: {{{local}, lr: 0.1}}}}"
    if entry.kind == "defense" and entry.role in ("rule", "wrapper", "pre_aggregation"):
        keys["attack"] = "{name: sign_flip, num_byzantine: 2}"
    if entry.kind == "defense" and knowledge:
        keys["attack"] = "{name: logit_poison, num_byzantine: 2}"
    if entry.traits.get("needs_server_update"):
        keys["federation"] = "{rounds: 5, server_data: {examples: 50}}"
    return keys | _SURROUNDINGS.get((entry.kind, entry.name), {})


def _watching(entry: Entry) -> dict[str, Any]:
    """Who observes what a membership inference needs, and of how many."""
    needs = entry.traits.get("needs") or ()
    view = {"view": "server", "victim": 0} if "updates" in needs else {"view": "client"}
    numbers = {"members": 50, "nonmembers": 50}
    return {**(view if {"updates", "several_rounds"} & {*needs} else {}), **numbers}


def _method(name: str, options: dict[str, Any]) -> Any:
    return {"name": name, **options} if options else name


def _flow(name: str, options: dict[str, Any]) -> str:
    """A method as YAML writes it in a line: its name, or a mapping."""
    return _as_flow({"name": name, **options}) if options else name


def _as_flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_as_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_as_flow(item)}' for key, item in value.items())}}}"
    return as_yaml(value)


def _value(option: Parameter) -> Any:
    """A value for a required option, of its type."""
    node = ast.parse(option.annotation, mode="eval").body
    while isinstance(node, ast.BinOp):
        node = node.left
    if not isinstance(node, ast.Subscript):
        return _VALUES.get(ast.unparse(node), 1)
    first = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
    if ast.unparse(node.value).endswith("Literal"):
        return ast.literal_eval(first)
    return [_VALUES.get(ast.unparse(first), 1)]
