"""Accuracy of FedGKT, and the error of a regression, under attack."""

from collections.abc import Iterator

from measured.results import Bar, Measurement, numbers, rows, unique, where

_FEDGKT = "fedgkt_threats.csv"
_FEDGKT_SETTING = (
    "FedGKT on digits, eight clients of alike data, two of them Byzantine, ten rounds, three seeds (dots are their "
    "means, lines join the smallest and the largest)."
)
_FEDGKT_LABELS = {
    "label_flip": ("label flip",),
    "feature_poison": ("noise for features", "shuffled features"),
    "logit_poison": ("reversed logits",),
}


def _fedgkt(kind: str, name: str) -> Iterator[Measurement]:
    defenses = unique(row["defense"] for row in rows(_FEDGKT))

    def values(attack: str, defense: str) -> tuple[float, ...]:
        return numbers(where(_FEDGKT, attack=attack, defense=defense), "accuracy")

    if kind == "attack" and name in _FEDGKT_LABELS:
        pairs = [(label, defense) for label in _FEDGKT_LABELS[name] for defense in defenses]
        bars = [
            Bar(f"{label}, {defense.replace('none', 'no defense')}", values(label, defense), values("none", defense))
            for label, defense in pairs
        ]
        title, value, other = f"Accuracy of FedGKT that each defense keeps under {name}", name, "no attack"
    elif kind == "defense" and name in defenses:
        attacks = unique(row["attack"] for row in rows(_FEDGKT))
        bars = [
            Bar(attack.replace("none", "no attack"), values(attack, name), values(attack, "none")) for attack in attacks
        ]
        title, value, other = f"Accuracy of FedGKT that each attack leaves under {name}", name, "no defense"
    else:
        return
    unit = "honest clients' final accuracy (%)"
    yield Measurement(title, unit, tuple(bars), value, other, _FEDGKT, _FEDGKT_SETTING)


_REGRESSION = "regression_diabetes.csv"


def _regression(kind: str, name: str) -> Iterator[Measurement]:
    if (kind, name) == ("attack", "target_shift"):
        cells = unique(row["attack"] for row in rows(_REGRESSION))
        bars = [
            Bar(
                defense,
                numbers(where(_REGRESSION, attack=cells[-1], defense=defense), "mean_squared_error", 1.0),
                numbers(where(_REGRESSION, attack="none", defense=defense), "mean_squared_error", 1.0),
            )
            for defense in ("mean", "median")
        ]
        setting = (
            "Diabetes progression, ten clients, three of them Byzantine, linear model, ten rounds, three seeds. Always "
            "predicting the mean has an error of about 1."
        )
        title, unit = "Error under target_shift", "final mean squared error (less is better)"
        yield Measurement(title, unit, tuple(bars), name, "no attack", _REGRESSION, setting, limits=None)


SOURCES = (_fedgkt, _regression)
