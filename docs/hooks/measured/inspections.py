"""How often clients that inspect received models refuse a malicious server's, and an honest one's."""

from collections.abc import Iterator, Mapping

from measured.results import Bar, Measurement, rows, unique, where

_BENIGN, _ATTACKS = "inspect_model_benign.csv", "inspect_model_attacks.csv"
_HELD_OUT, _CRAFTED = "inspect_model_held_out.csv", "inspect_model_crafted.csv"


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


def _detection(kind: str, name: str) -> Iterator[Measurement]:
    if (kind, name) != ("defense", "inspect_model"):
        return
    bars = []
    for attack in unique(row["attack"] for row in rows(_ATTACKS)):
        for model in unique(row["model"] for row in where(_ATTACKS, attack=attack)):
            cells = where(_ATTACKS, attack=attack, model=model)
            inspected = sum(int(row["inspected"]) for row in cells)
            refused, unaware = (
                (100 * sum(int(row[column]) for row in cells) / inspected,)
                for column in ("refused", "refused_by_weights_and_gradients")
            )
            bars.append(Bar(f"{attack}, {model}", refused, unaware, True))
    setting = (
        "Ten clients with their own examples, untrained and trained models, two partitions and two seeds, default "
        "limits (benchmarks/inspect_attacks.py)."
    )
    title, unit = "Models of a malicious server that are refused", "refused (%), more is better"
    other = "without the check of architecture"
    yield Measurement(title, unit, tuple(bars), "all checks", other, _ATTACKS, setting)


def _share(row: Mapping[str, str], column: str = "refused") -> float:
    return 100 * int(row[column]) / int(row["inspected"])


def _held_out(kind: str, name: str) -> Iterator[Measurement]:
    if (kind, name) != ("defense", "inspect_model"):
        return
    networks = {"mlp": "mlp", "inspect_held_out:dropout": "mlp, dropout", "cnn": "cnn", "lenet": "lenet"}
    networks |= {"resnet8 bn": "resnet8, bn", "resnet8 gn": "resnet8, gn"}
    bars = []
    for start, label in networks.items():
        shares = [_share(row) for row in rows(_HELD_OUT) if row["model"].startswith(start)]
        bars.append(Bar(label, tuple(shares), (), True))
    setting = (
        "Eight clients, every round, settings that no limit was chosen on; default limits, dots are federations "
        "(benchmarks/inspect_held_out.py)."
    )
    title, unit = "Models of an honest server that are refused, held out", "refused (%), less is better"
    yield Measurement(title, unit, tuple(bars), "false alarms", "", _HELD_OUT, setting, limits=None)
    bars = []
    for attack in unique(row["attack"] for row in rows(_CRAFTED)):
        cells = where(_CRAFTED, attack=attack)
        refused, unaware = (
            tuple(_share(row, column) for row in cells) for column in ("refused", "without_architecture")
        )
        bars.append(Bar(attack, refused, unaware, True))
    setting = (
        "Clients with their own examples, on MLPs, convolutions and ResNet-8, default limits; dots are models, one "
        "untrained and one trained of each network (benchmarks/inspect_crafted.py)."
    )
    title, unit = "Models of a malicious server that are refused, held out", "refused (%), more is better"
    yield Measurement(title, unit, tuple(bars), "all checks", "without the check of architecture", _CRAFTED, setting)


SOURCES = (_detection, _false_alarms, _held_out)
