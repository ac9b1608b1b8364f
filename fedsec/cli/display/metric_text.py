"""What `fedsec show` prints of a metric that runs measure by themselves."""

from typing import Any

from rich.console import Console

from fedsec.cli.display.method_text import print_prose, print_title
from fedsec.metrics.metric import METRICS, Metric
from fedsec.plugins.pages import page_of

__all__ = ["as_json", "print_metric"]


def as_json(name: str) -> dict[str, Any]:
    """A metric as plain data, for machines."""
    return {"kind": "metric", **METRICS[name].as_json(), "docs": page_of("metric")}


def print_metric(name: str) -> None:
    """Print what is known of a metric before any value of it is seen."""
    console, metric = Console(), METRICS[name]
    print_title(console, name, "metric")
    print_prose(console, f"{metric.about[:1].upper()}{metric.about[1:]}.")
    for line in _lines(metric):
        print_prose(console, line)
    print_prose(console, "A scenario may expect something of it, under `expect`.")
    console.print()
    print_prose(console, f"More: {page_of('metric')}", "dim")


def _lines(metric: Metric) -> list[str]:
    better = {"higher": "Higher is better.", "lower": "Lower is better."}.get(metric.better, "")
    unit = (
        "A fraction; tables show it in percent." if metric.is_fraction else f"In {metric.unit}." if metric.unit else ""
    )
    baseline = f"Stands beside {metric.baseline}, what would be reached without the update." if metric.baseline else ""
    missing = f"A finished cell may lack it: {metric.missing}." if metric.missing else ""
    return [line for line in (better, unit, baseline, missing) if line]
