"""Of how many members inferences are nearly certain, with and without private training."""

from collections.abc import Iterator

from measured.results import Bar, Measurement, method_names, numbers, rows, unique, where

_SOURCES = ("membership_digits.csv", "membership_fmnist.csv", "membership_server_digits.csv")
_SETTINGS = {
    "membership_digits.csv": (
        "Members among 300 members and 300 others of 1,100 digits at four clients, asked by a client that sees every "
        "second global model of 20 rounds (scenarios/membership_digits.yaml)"
    ),
    "membership_fmnist.csv": (
        "Members among 1,000 members and 1,000 others of 2,000 photographs of Fashion-MNIST at four clients, asked by "
        "whoever has the last of 20 rounds' models (scenarios/membership_fmnist.yaml)"
    ),
    "membership_server_digits.csv": (
        "Members among 100 members and 100 others of one client of four, asked by the server that sees its update in "
        "every second of 20 rounds (scenarios/membership_server_digits.yaml)"
    ),
}


def _membership(kind: str, name: str) -> Iterator[Measurement]:
    for source in _SOURCES if kind == "inference" else ():
        inferences = unique(row["inference"] for row in rows(source))
        if name not in {method for one in inferences for method in method_names(one)}:
            continue
        bars = [
            Bar(
                one,
                numbers(where(source, inference=one, defense="mean"), "tpr_at_1pct"),
                numbers(where(source, inference=one, defense="dp_sgd"), "tpr_at_1pct"),
                name in method_names(one),
            )
            for one in inferences
        ]
        setting = f"{_SETTINGS[source]}; two seeds (dots are their means, lines join them). By chance 1% is found."
        title, unit = "Members found at 1% false positives", "members found at 1% FPR (%)"
        pair = ("no defense", "DP-SGD, epsilon 8")
        yield Measurement(title, unit, tuple(bars), *pair, source, setting, limits=None)


SOURCES = (_membership,)
