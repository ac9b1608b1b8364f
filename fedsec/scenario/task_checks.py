"""Whether the parts of a cell go with what its dataset is for, told by what each says of itself."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fedsec.plugins import registry
from fedsec.plugins.wording import Problem
from fedsec.scenario.named_sections import either
from fedsec.scenario.threat_config import NO_ATTACK

if TYPE_CHECKING:
    from fedsec.scenario.config import CellConfig


def task_of(dataset: str) -> str:
    """What is learned of a dataset, a key of `fedsec.tasks.TASKS`."""
    return str(registry.entry("dataset", dataset).traits["task"])


def task_problems(config: "CellConfig") -> Iterator[Problem]:
    """What does not go with the dataset's task: its key path, and what is wrong with it."""
    task = task_of(config.dataset.name)
    about = f"{config.dataset.name} is data for {task}"
    parts: list[tuple[tuple[str | int, ...], str, str]] = [
        (("federation", "algorithm"), "algorithm", config.federation.algorithm),
        (("model", "name"), "model", config.model.name),
        *((("metrics", place), "metric", name) for place, name in enumerate(config.metrics)),
        *((("defense", place, "name"), "defense", part.name) for place, part in enumerate(config.defense)),
    ]
    if config.attack.name != NO_ATTACK:
        parts.append((("attack", "name"), "attack", config.attack.name))
    if config.inversion is not None:
        parts.append((("inversion", "name"), "inversion", config.inversion.name))
    if config.audit is not None and config.audit.membership is not None:
        where = ("audit", "membership", "inferences")
        inferences = enumerate(config.audit.membership.inferences)
        parts += [((*where, place, "name"), "inference", inference.name) for place, inference in inferences]
    if config.audit is not None and config.audit.labels is not None:
        where = ("audit", "labels", "inferences")
        readers = enumerate(config.audit.labels.inferences)
        parts += [((*where, place, "name"), "inference", inference.name) for place, inference in readers]
    served = [(path, kind, name, registry.entry(kind, name).traits.get("tasks") or ()) for path, kind, name in parts]
    if config.audit is not None and config.audit.properties is not None:
        where = ("audit", "properties", "inferences")
        asked = enumerate(config.audit.properties.inferences)
        served += [((*where, place, "name"), "inference", one.name, one.tasks) for place, one in asked]
    for path, kind, name, tasks in served:
        if tasks and task not in tasks:
            yield path, f"{about}, and {name!r} goes with {either(tuple(tasks))}; expected another {kind}"
    local, shape = config.federation.local, registry.entry("dataset", config.dataset.name).traits["input_shape"]
    tokens = registry.entry("task", task).traits["takes_tokens"]
    if local is not None and local.augmentation is not None and shape is not None and len(shape) == 1:
        held = "texts" if tokens else f"vectors of {shape[0]} numbers"
        message = f"{config.dataset.name} holds {held}, and only images have other views"
        yield ("federation", "local", "augmentation"), message
    if tokens and config.dataset.normalization != "unit":
        yield ("dataset", "normalization"), f"{about}, whose inputs are numbers of tokens; expected unit"
    if local is not None and local.label_smoothing and not registry.entry("task", task).traits["has_strata"]:
        yield ("federation", "local", "label_smoothing"), f"{about}, which has no classes to spread a label over"
    yield from _partition_problems(config, task, about)
    if config.federation.traits.get("cuts_columns"):
        yield from _column_problems(config, shape, tokens)


def _column_problems(config: "CellConfig", shape: tuple[int, ...] | None, tokens: bool) -> Iterator[Problem]:
    """Every party has columns of its own: there must be as many, and none may be missing in a step.

    Args:
        config: of a vertical federation.
        shape: of an example; None where only the files tell.
        tokens: whether examples are texts.
    """
    dataset, parties, sampled = config.dataset.name, config.partition.clients, config.federation.clients_per_round
    algorithm = config.federation.algorithm
    if tokens:
        message = f"{algorithm} shares out columns, and {dataset} holds texts, whose places are no columns"
        yield ("federation", "algorithm"), f"{message}; expected split_learning, or another dataset"
    elif shape is not None and parties > shape[-1]:
        message = f"{algorithm} shares out columns, and examples of {dataset} have {shape[-1]} columns"
        yield ("partition", "clients"), f"{message}; expected at most as many, got {parties}"
    if sampled is not None and sampled < parties:
        message = f"every party has columns that no other has, and all of {parties} take part in each step"
        yield ("federation", "clients_per_round"), f"{message}; expected no such key, got {sampled}"


def _partition_problems(config: "CellConfig", task: str, about: str) -> Iterator[Problem]:
    """What a partition looks at must be there: classes, quantiles, groups, coarse classes."""
    partition, traits = config.partition, registry.entry("task", task).traits
    wanted, source = (registry.entry(*which).traits for which in _looked_at(config))
    if wanted["needs_groups"] and not source["has_groups"] and not config.pooled:
        able = either(_datasets("has_groups"))
        yield ("partition", "name"), f"{config.dataset.name} does not tell whom an example comes from; expected {able}"
    if wanted["needs_superclasses"] and not source["has_superclasses"] and not config.pooled:
        able = either(_datasets("has_superclasses"))
        yield ("partition", "name"), f"{config.dataset.name} has no coarse classes above its classes; expected {able}"
    if wanted["needs_groups"]:
        return
    if partition.quantiles is not None and not traits["has_quantiles"]:
        yield ("partition", "quantiles"), f"{about}, whose targets are no numbers to be cut into quantiles"
    needs_classes = registry.entry("partition", partition.name).traits["needs_classes"]
    if needs_classes and not traits["has_strata"] and partition.quantiles is None and not config.pooled:
        how = ", or partition.quantiles: 10 to share out intervals of the target" if traits["has_quantiles"] else ""
        yield (
            ("partition", "name"),
            f"{about}, without classes for {partition.name!r} to share out; expected iid or quantity_skew{how}",
        )


def _looked_at(config: "CellConfig") -> tuple[tuple[str, str], tuple[str, str]]:
    return ("partition", config.partition.name), ("dataset", config.dataset.name)


def _datasets(trait: str) -> tuple[str, ...]:
    return tuple(name for name, source in registry.entries("dataset").items() if source.traits[trait])
