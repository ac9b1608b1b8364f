"""How often clients that inspect received models are wrong about an honest server."""

from collections.abc import Iterator

from measured.results import Bar, Measurement, rows, unique, where

_BENIGN = "inspect_model_benign.csv"


def _false_alarms(kind: str, name: str) -> Iterator[Measurement]:
    if (kind, name) != ("defense", "inspect_model"):
        return
    bars = []
    for dataset in unique(row["dataset"] for row in rows(_BENIGN)):
        for model in unique(row["model"] for row in where(_BENIGN, dataset=dataset)):
            for partition in ("iid", "dirichlet"):
                cells = where(_BENIGN, dataset=dataset, model=model, partition=partition)
                shares = []
                for seed in unique(row["seed"] for row in cells):
                    own = [row for row in cells if row["seed"] == seed]
                    inspected = sum(int(row["inspected"]) for row in own)
                    shares.append(100 * sum(int(row["refused"]) for row in own) / inspected)
                if shares:
                    bars.append(Bar(f"{dataset}, {model}, {partition}", tuple(shares), (), True))
    setting = (
        "Ten clients, every round from the untrained model on, with and without two Byzantine clients (ipm) under the "
        "mean; default limits, dots are seeds (benchmarks/inspect_models.py)."
    )
    title, unit = "Models of an honest server that are refused", "refused (%), less is better"
    yield Measurement(title, unit, tuple(bars), "false alarms", "", _BENIGN, setting, limits=None)


SOURCES = (_false_alarms,)
