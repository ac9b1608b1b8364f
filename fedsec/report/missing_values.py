"""Why a finished cell has no value of a metric, in words for whoever asks for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsec.metrics.metric import described, of_source
from fedsec.report.summary import Record, value_of
from fedsec.scenario.federation_config import traits_of


def algorithm_of(record: Record) -> str | None:
    """The algorithm of a cell's federation; None where the record carries no configuration."""
    federation = _section(record, "federation")
    return None if federation is None else federation.get("algorithm")


def curious(record: Record) -> Mapping[str, Any] | None:
    """What a cell's configuration says of its curious server; None where it has none, or there is no configuration."""
    sections = (_section(record, "inversion"), _section(record, "attack"))
    return next((section for section in sections if section and section.get("target")), None)


def inverted(record: Record) -> bool:
    """Whether a curious server reconstructs images in this cell."""
    return curious(record) is not None or bool((record.get("metrics") or {}).get("rounds_reconstructed"))


def rounds_outvoted(record: Record) -> int:
    """In how many rounds a rule had at least as many Byzantine clients as others; none where no rule judges clients."""
    if traits_of(algorithm_of(record)).get("exchanges") == "activations":
        return 0
    return round(value_of(record, "rounds_with_byzantine_majority") or 0)


def rounds_of_interest(record: Record) -> int:
    """In how many rounds the curious server of a cell was to look; 0 where there is none."""
    server = curious(record)
    return 0 if server is None else len(server["target"]["rounds"])


def claims(record: Record, metric: str) -> bool:
    """Whether something in this cell claims the epsilon that a metric is."""
    unit = described(metric).protects
    return bool(unit) and any(claim["unit"] == unit for claim in record.get("privacy") or [])


def without_weights(record: Record) -> bool:
    """Whether images were reconstructed, and only their perceptual distance could not be measured."""
    metrics = record.get("metrics") or {}
    return metrics.get("psnr") is not None and metrics.get("lpips") is None


def lpips_advice() -> str:
    """How to get LPIPS measured; this imports torch."""
    import torch

    from fedsec.metrics.lpips import BACKBONES

    backbone, folder = BACKBONES["alex"], Path(torch.hub.get_dir()) / "checkpoints"
    return (
        f"LPIPS needs weights: `fedsec invert --lpips alex` downloads them, or put {backbone.url} into {folder}; "
        "then run again with --fresh"
    )


def why(record: Record, metric: str) -> str:
    """Why a finished cell has no value of a metric."""
    row = described(metric)
    if row.source == "inversion" and metric != record.get("primary_metric"):
        return _why_not_measured(record, metric)
    has_clients = row.source == "cost" and not traits_of(algorithm_of(record)).get("pooled")
    if row.missing and not claims(record, metric) and not has_clients:
        return row.missing
    if metric in (record.get("metrics") or {}):
        return f"{metric} is no finite number"
    return f"{metric} was not measured"


def _why_not_measured(record: Record, metric: str) -> str:
    metrics = record.get("metrics") or {}
    if metric == "lpips" and without_weights(record):
        return lpips_advice()
    if any(metrics.get(name) is not None for name in of_source("inversion")):
        what = "no labels" if metric == "label_accuracy" else "labels only, no images"
        if metrics.get("token_set") is not None:
            what = "tokens only, no texts"
        return f"the attack recovers {what}"
    server = curious(record)
    if server is None:
        return "nothing is reconstructed without an inversion"
    target = server["target"]
    if any(name in metrics for name in of_source("inversion")):
        return f"the attack reconstructed nothing of client {target['client']}"
    rounds = ", ".join(map(str, target["rounds"]))
    many = "s" if len(target["rounds"]) > 1 else ""
    return f"client {target['client']} took no part in round{many} {rounds}, so nothing of it could be reconstructed"


def _section(record: Record, name: str) -> Mapping[str, Any] | None:
    return (record.get("config") or {}).get(name)
