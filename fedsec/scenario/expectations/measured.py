"""Which metrics a cell can have, told by its configuration alone: what cannot be measured, nothing is expected of."""

from collections.abc import Callable, Mapping

from fedsec.metrics.metric import METRICS, TEXTS, Metric, described
from fedsec.plugins import registry
from fedsec.scenario.config import CellConfig
from fedsec.scenario.task_checks import task_of
from fedsec.scenario.threat_config import NO_ATTACK, DefenseConfig

__all__ = ["measured", "why_unmeasured"]

_TEXTS = frozenset(name for name, *_ in TEXTS)


def why_unmeasured(row: Metric, config: CellConfig) -> str:
    """Why a metric has no value in a cell, whatever happens in it; nothing where it may have one.

    What depends on the rounds (whether somebody was found, whether a model diverged) is not judged here.

    Args:
        row: the metric's.
        config: the cell's.
    """
    if row.name in config.metrics:
        return ""
    if row.name in _CONDITIONS:
        return "" if _CONDITIONS[row.name](config) else row.missing
    if row.source == "clients":
        tested = config.federation.client_test is not None
        return "" if tested else "is measured of clients that hold test examples out (federation.client_test)"
    if row.source == "inversion":
        return _why_not_recovered(row, config)
    return _why_not_evaluated(row, config) if row.source == "evaluation" else ""


def measured(config: CellConfig) -> tuple[str, ...]:
    """The metrics that a cell can have, its own first."""
    return (*config.metrics, *(name for name, row in METRICS.items() if not why_unmeasured(row, config)))


def _why_not_evaluated(row: Metric, config: CellConfig) -> str:
    task = task_of(config.dataset.name)
    names = registry.entry("task", task).traits["metrics"]
    first = described(names[0])
    if row.name in (*names, first.worst_of_last.name, first.worst_client.name):
        return ""
    return f"is not measured in a {task}"


def _why_not_recovered(row: Metric, config: CellConfig) -> str:
    inversion = config.inversion
    if inversion is None:
        return (
            ""
            if row.also is not None and not _why_not_evaluated(row, config)
            else "is measured of what an inversion reconstructs"
        )
    entry = registry.entry("inversion", inversion.name)
    reads_texts = entry.interface == "TextInversion"
    if (row.name in _TEXTS) != reads_texts:
        return f"is measured of {'images' if reads_texts else 'texts'}"
    if row.name.endswith("_mean_image") and entry.interface != "HijackingServer":
        return row.missing
    return ""


def _audits(part: str) -> Callable[[CellConfig], bool]:
    return lambda config: config.audit is not None and getattr(config.audit, part) is not None


def _canaries(unit: str) -> Callable[[CellConfig], bool]:
    return lambda config: (
        config.audit is not None and config.audit.canaries is not None and config.audit.canaries.unit == unit
    )


def _asks(what: str) -> Callable[[CellConfig], bool]:
    def asks(config: CellConfig) -> bool:
        properties = None if config.audit is None else config.audit.properties
        return properties is not None and any(one.asks == what for one in properties.inferences)

    return asks


def _attacked(config: CellConfig) -> bool:
    return config.attack.name != NO_ATTACK


def _left(config: CellConfig) -> bool:
    return _attacked(config) and config.attack.until is not None


def _private_clients(config: CellConfig) -> bool:
    """Whether a rule or shares of noise may keep an account of whole clients."""
    return any(
        registry.entry("defense", part.name).interface == "PrivateAggregator" or _shares_noise(part)
        for part in config.defense
    )


def _shares_noise(part: DefenseConfig) -> bool:
    """Whether clients add noise that is accounted for, in a sum or alone."""
    if part.role != "update":
        return False
    try:
        return registry.load("defense", part.name)(**part.options).noise_share is not None
    except Exception:  # its options are complained about elsewhere
        return True


def _aggregates(config: CellConfig) -> bool:
    return bool(config.federation.traits["exchanges"] == "updates")


def _inspects(config: CellConfig) -> bool:
    return any(part.role == "inspection" for part in config.defense)


def _crafts(config: CellConfig) -> bool:
    inversion = config.inversion
    return inversion is not None and registry.entry("inversion", inversion.name).interface == "MaliciousServer"


def _chosen(config: CellConfig) -> bool:
    federation = config.federation
    return _attacked(config) and (federation.selection is not None or bool(federation.traits.get("by_arrival")))


def _gossips(config: CellConfig) -> bool:
    return bool(config.federation.traits["exchanges"] == "models")


_CONDITIONS: Mapping[str, Callable[[CellConfig], bool]] = {
    **dict.fromkeys(("consensus_distance", "spectral_gap"), _gossips),
    "accuracy_worst_class_mix": lambda config: task_of(config.dataset.name) == "classification",
    "attack_success_rate": _attacked,
    **dict.fromkeys(("attack_success_rate_at_until", "backdoor_lifespan"), _left),
    "attacker_flops": _attacked,
    "epsilon": lambda config: any(part.role == "local" for part in config.defense),
    "user_epsilon": _private_clients,
    **dict.fromkeys(("epsilon_lower", "epsilon_lower_gaussian"), _canaries("example")),
    **dict.fromkeys(("user_epsilon_lower", "user_epsilon_lower_gaussian"), _canaries("client")),
    **dict.fromkeys((name for name in METRICS if name.startswith("membership_")), _audits("membership")),
    **dict.fromkeys((name for name in METRICS if name.startswith("label_leak_")), _audits("labels")),
    **dict.fromkeys((name for name in METRICS if name.startswith("site_")), _asks("site")),
    **dict.fromkeys((name for name in METRICS if name.startswith("class_mix_")), _asks("class_mix")),
    **dict.fromkeys(("detection_precision", "detection_recall", "honest_excluded"), _aggregates),
    "models_refused": _inspects,
    "crafted_models_refused": lambda config: _inspects(config) and _crafts(config),
    "aggregation_seconds": lambda config: _aggregates(config) or _gossips(config),
    "byzantine_participation": _chosen,
    "simulated_seconds": lambda config: bool(config.federation.traits.get("by_arrival")),
    **dict.fromkeys(("upload_bytes", "download_bytes"), lambda config: not config.pooled),
    "group_recovered": lambda config: _crafts(config) and config.federation.secure_aggregation is not None,
}
"""Metric -> whether a cell may have it, of those that not every cell has; `missing` of its row says when not."""
