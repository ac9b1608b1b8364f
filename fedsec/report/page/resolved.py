"""Resolved configurations of a run: what all cells have in common, and what differs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fedsec.report.summary import Record, describe, display

__all__ = ["Variant", "as_yaml", "common", "variants"]

Variant = tuple[str, str, str, int]
"""A section's key, what it says where cells differ, what the matrix's axes say of it, and of how many cells."""


def common(records: Sequence[Record]) -> dict[str, Any]:
    """What the configurations of all cells have in common; without a section of which they have nothing in common."""
    configs = [record["config"] for record in records if record.get("config")]
    return _shared(configs) if configs else {}


def variants(records: Sequence[Record]) -> list[Variant]:
    """For each section that differs between cells each of its values: only what differs of it."""
    configured = [record for record in records if record.get("config")]
    if not configured:
        return []
    shared = common(configured)
    variants: list[Variant] = []
    for key in configured[0]["config"]:
        cells: dict[str, list[Record]] = {}
        for record in configured:
            cells.setdefault(json.dumps(record["config"].get(key), sort_keys=True), []).append(record)
        if len(cells) > 1:
            for alike in cells.values():
                own = _without(alike[0]["config"].get(key), shared.get(key))
                axes = {axis: display(text) for axis, text in alike[0]["cell"].items() if axis.partition(".")[0] == key}
                variants.append((key, as_yaml(own, flow=True), describe(axes) if axes else "", len(alike)))
    return variants


def as_yaml(content: Any, *, flow: bool = False) -> str:
    """Plain data as YAML, in its own order; in one line where `flow` says so."""
    text = yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=10_000 if flow else 100
    )
    return text.removesuffix("...\n").strip()


def _shared(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What mappings have in common, key by key."""
    shared: dict[str, Any] = {}
    for key, value in configs[0].items():
        others = [config.get(key, _MISSING) for config in configs[1:]]
        if all(other == value for other in others):
            shared[key] = value
        elif all(isinstance(section, Mapping) for section in (value, *others)) and (inner := _shared([value, *others])):
            shared[key] = inner
    return shared


_MISSING = object()


def _without(value: Any, shared: Any) -> Any:
    """What a value has beside what is shared."""
    if not (isinstance(value, Mapping) and isinstance(shared, Mapping)):
        return value
    differing = [key for key in value if key not in shared or value[key] != shared[key]]
    return {key: _without(value[key], shared.get(key)) for key in differing}
