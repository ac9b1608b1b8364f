"""What a cell's numbers depend on beside its configuration: code, versions, device and data, each as a short text.

- `fedsec`: its version, and a hash of the source of the packages that numbers come from.
- `torch`, `device`: PyTorch's version; `cpu`, or the name of the GPU.
- `data`: a hash of the content of the dataset's files (of an embedded dataset, the version of the package it is in).
- `code of <kind> <method>`: for each attack, defense, model, partition, metric, ... that the scenario names, and for
  the task that its dataset is for, a hash of the modules that its class and its base classes come from, and of other
  methods' modules that these import, as `auto` does; of a plugin, of its whole package, and its version.

What is not hashed: other packages that a plugin imports, and other installed packages.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsec import __version__
from fedsec.scenario.task_checks import task_of

if TYPE_CHECKING:
    from fedsec.scenario import CellConfig

_ENGINE = (
    *("data", "defense", "engine", "federation", "metrics", "models", "privacy", "tasks", "threat"),
    *("seeds.py", "randomness.py", "arithmetic.py"),
    *(f"runs/{name}.py" for name in ("cell", "detection", "experiment", "partitioned")),
    *(f"runs/{name}.py" for name in ("round_summary", "shared_updates")),
    "runs/building",
    *("runs/outcomes", "runs/sharded", "scenario/participation", "scenario/training"),
    *(f"scenario/{name}.py" for name in ("algorithm", "config", "federation_config", "inversion_config")),
    *(
        f"scenario/{name}.py"
        for name in ("declared", "named_sections", "server_rule", "shared_training", "threat", "threat_config")
    ),
)
"""Of fedsec, what every cell's numbers come from."""
_INVERSION = ("matching", "inversion", "runs/curious_server.py", "runs/malicious", "runs/texts")
"""What those of a curious server come from besides."""
_AUDIT = (
    *("auditing", "membership", "properties", "runs/audits", "scenario/audit"),
    *("matching/lbfgs.py", "matching/limits.py"),
)
"""What an audit's numbers come from besides."""
_MOST_FILES = 2_000
_LENGTH = 12


def provenance(
    config: "CellConfig", device: str, data: str | None = None, device_name: str | None = None
) -> dict[str, str]:
    """What a cell would be run with now.

    Args:
        config: the resolved configuration.
        device: `cpu` or `cuda`.
        data: the fingerprint of its dataset's files; None where they were not looked at.
        device_name: of the GPU, where it is another machine's.
    """
    made_with = {"fedsec": f"{__version__} {_fedsec(_ENGINE)}", "torch": metadata.version("torch")}
    made_with["device"] = device_name or _device(device)
    asked = None if config.audit is None else config.audit.properties
    if config.inversion is not None or asked is not None:  # class mixes are read as a curious server reads labels
        made_with["fedsec's inversions"] = _fedsec(_INVERSION)
    if config.audit is not None:
        made_with["fedsec's audits"] = _fedsec(_AUDIT)
    if data is not None:
        made_with["data"] = data
    for kind, name in sorted(set(_methods(config))):
        made_with[f"code of {kind} {name}"] = _code(kind, name)
    return made_with


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of what is not the same, for a message; empty if all is."""
    return [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]


def of_training(config: "CellConfig", made_with: Mapping[str, str], *, poisoned: bool) -> dict[str, str]:
    """Of what a cell was made with, what one client's honest or poisoned training depends on."""
    apart = {f"code of defense {part.name}" for part in config.defense if part.role != "local"} | {
        "fedsec's inversions"
    }
    apart |= {f"code of metric {name}" for name in config.metrics}
    if config.inversion is not None:
        apart.add(f"code of inversion {config.inversion.name}")
    if not poisoned:
        apart.add(f"code of attack {config.attack.name}")
    return {name: value for name, value in made_with.items() if name not in apart}


def _methods(config: "CellConfig") -> Iterator[tuple[str, str]]:
    """(kind, name) of everything that a configuration names."""
    yield "dataset", config.dataset.name
    yield "partition", config.partition.name
    yield "model", config.model.name
    yield "algorithm", config.federation.algorithm
    if config.federation.server is not None:
        yield "model", config.federation.server.model.name
    if config.attack.name != "none":
        yield "attack", config.attack.name
    if config.inversion is not None:
        yield "inversion", config.inversion.name
    if config.audit is not None and config.audit.membership is not None:
        for inference in config.audit.membership.inferences:
            yield "inference", inference.name
    if config.audit is not None and config.audit.properties is not None:
        for asked in config.audit.properties.inferences:
            yield "inference", asked.name
    if config.audit is not None and config.audit.labels is not None:
        for reader in config.audit.labels.inferences:
            yield "inference", reader.name
    for part in config.defense:
        yield "defense", part.name
    for metric in config.metrics:
        yield "metric", metric
    yield "task", task_of(config.dataset.name)


@cache
def _device(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    return str(torch.cuda.get_device_name())


@cache
def _fedsec(parts: tuple[str, ...]) -> str:
    import fedsec

    root = Path(fedsec.__file__).parent
    return _hash([file for part in parts for file in _sources(root / part)])


@cache
def _code(kind: str, name: str) -> str:
    from fedsec.plugins import registry

    return code_of(registry.load(kind, name))


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Of which installed distributions each top-level package is; this reads the lists of files of all of them."""
    return metadata.packages_distributions()


_CACHED = (_fedsec, _code, _distributions)


def forget() -> None:
    """Read sources anew: other processes will, and a file may have changed since this one did."""
    for function in _CACHED:
        function.cache_clear()


def code_of(method: Any) -> str:
    """A hash of the source that a class (or a function) comes from.

    Args:
        method: of fedsec, or of a plugin.
    """
    files: dict[Path, None] = {}
    versions = []
    for base in getattr(method, "__mro__", (method,)):
        top = base.__module__.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("torch", "numpy"):
            continue
        own = top == "fedsec"
        # A package without an __init__.py has no file; of such only the class's own module is known.
        places = (sys.modules.get(name) for name in ((base.__module__,) if own else (top, base.__module__)))
        file = next((file for place in places if (file := getattr(place, "__file__", None))), None)
        if file is None:
            continue
        path = Path(file)
        whole = not own and path.name == "__init__.py"
        files.update(dict.fromkeys(_sources(path.parent) if whole else _with_siblings(path, base) if own else [path]))
        if not own:
            versions += [f"{name} {metadata.version(name)}" for name in _distributions().get(top, [])]
    return _hash(list(files), *sorted(set(versions)))


def _with_siblings(source: Path, method: type) -> list[Path]:
    """The source of a method, and of all methods of its package that it imports, directly or not."""
    package, files = method.__module__.rpartition(".")[0], [source]
    for file in files:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[0] == package:
                sibling = source.with_name(f"{str(node.module).rpartition('.')[2]}.py")
                files += [sibling] if sibling.is_file() and sibling not in files else []
    return files


def _sources(place: Path) -> list[Path]:
    """A source file, or all of a folder."""
    return [place] if place.is_file() else sorted(place.rglob("*.py"))[:_MOST_FILES]


def _hash(files: list[Path], *more: str) -> str:
    content = hashlib.sha256(repr(more).encode())
    for file in files:
        content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()[:_LENGTH]
