"""Accuracy under Byzantine attacks: the zoo on digits, and attackers who know the rule."""

from collections.abc import Iterator

from measured.results import Bar, Measurement, method_names, numbers, rows, unique, where

_ZOO = "byzantine_zoo.csv"
_ZOO_SETTING = (
    "Digits, 15 clients of unlike data (Dirichlet 1.0), three of them Byzantine, logistic regression, 20 rounds, one "
    "seed; each rule knows that there are three."
)


def _zoo_defense(kind: str, name: str) -> Iterator[Measurement]:
    cells = unique(row["defense"] for row in rows(_ZOO)) if kind == "defense" else []
    for cell in [cell for cell in cells if method_names(cell)[0] == name]:
        names = method_names(cell)
        beside = names[-1] if len(names) > 1 else "mean"
        bars = []
        for attack in unique(row["attack"] for row in rows(_ZOO)):
            values = numbers(where(_ZOO, attack=attack, defense=cell), "accuracy")
            others = numbers(where(_ZOO, attack=attack, defense=beside), "accuracy") if cell != beside else ()
            bars.append(Bar(attack.replace("none", "no attack"), values, others))
        title = f"Accuracy that each attack leaves under {' before '.join(names)}"
        other = beside if cell != beside else ""
        yield Measurement(title, "final accuracy (%)", tuple(bars), cell, other, _ZOO, _ZOO_SETTING)


def _zoo_attack(kind: str, name: str) -> Iterator[Measurement]:
    if kind != "attack" or not where(_ZOO, attack=name):
        return
    bars = []
    for defense in unique(row["defense"] for row in rows(_ZOO)):
        values = numbers(where(_ZOO, attack=name, defense=defense), "accuracy")
        bars.append(Bar(defense, values, numbers(where(_ZOO, attack="none", defense=defense), "accuracy")))
    title = f"Accuracy that each defense keeps under {name}"
    yield Measurement(title, "final accuracy (%)", tuple(bars), name, "no attack", _ZOO, _ZOO_SETTING)


_WORST = "worst_case_fmnist_small.csv"
_WORST_SETTING = (
    "Fashion-MNIST (6,000 images), 20 clients, logistic regression, 15 rounds; the attackers know the rule (`auto`), "
    "which knows how many they are. One to three seeds; lines join the smallest and the largest."
)
_PARTITIONS = {"iid": "alike data", "dirichlet(alpha=0.5)": "unlike data"}


def _worst_case(kind: str, name: str) -> Iterator[Measurement]:
    cells = unique(row["defense"] for row in rows(_WORST))
    if kind == "defense":
        for cell in [cell for cell in cells if method_names(cell)[0] == name]:
            bars = []
            for partition, words in _PARTITIONS.items():
                for attack in ("none", *(f"auto(num_byzantine={count})" for count in (2, 4, 8))):
                    values = _worst_values(partition, attack, cell)
                    count = attack.removeprefix("auto(num_byzantine=").rstrip(")") if attack != "none" else "no"
                    others = _worst_values(partition, attack, "mean") if cell != "mean" else ()
                    bars.append(Bar(f"{words}, {count} attackers", values, others))
            title = (
                f"Worst accuracy of the last rounds against attackers who know {' before '.join(method_names(cell))}"
            )
            unit = "worst accuracy of the last five evaluations (%)"
            other = "" if cell == "mean" else "mean"
            yield Measurement(title, unit, tuple(bars), cell, other, _WORST, _WORST_SETTING)
    elif (kind, name) == ("attack", "auto"):
        bars = [
            Bar(cell, _worst_values("iid", "auto(num_byzantine=4)", cell), _worst_values("iid", "none", cell))
            for cell in cells
        ]
        unit = "worst accuracy of the last five evaluations (%)"
        title = "Worst accuracy of the last rounds, four attackers of 20 clients with alike data"
        yield Measurement(title, unit, tuple(bars), "auto", "no attack", _WORST, _WORST_SETTING)


def _worst_values(partition: str, attack: str, defense: str) -> tuple[float, ...]:
    return numbers(where(_WORST, partition=partition, attack=attack, defense=defense), "accuracy_min_last5")


_NOISY = "noisy_clients_fmnist.csv"
_NOISY_SETTING = (
    "Fashion-MNIST (4,000 images), 20 clients of which some train honestly on noisy images, logistic regression, 30 "
    "rounds (scenarios/noisy_clients_fmnist.yaml). Three seeds; lines join the smallest and the largest."
)


def _noisy_clients(kind: str, name: str) -> Iterator[Measurement]:
    cells = unique(row["defense"] for row in rows(_NOISY)) if kind == "defense" else []
    for cell in [cell for cell in cells if method_names(cell)[0] == name == "fedgw"]:
        bars = []
        for partition in unique(row["partition"] for row in rows(_NOISY)):
            for attack in unique(row["attack"] for row in rows(_NOISY)):
                values, others = (
                    numbers(where(_NOISY, partition=partition, attack=attack, defense=defense), "accuracy")
                    for defense in (cell, "mean")
                )
                bars.append(Bar(f"{partition}, {attack.replace('none', 'no noise')}", values, others))
        title = "Accuracy where some clients have noisy images"
        yield Measurement(title, "final accuracy (%)", tuple(bars), cell, "mean", _NOISY, _NOISY_SETTING)


_GOSSIP = "gossip_digits.csv"
_GOSSIP_SETTING = (
    "Digits, ten clients that exchange models with neighbors on a graph, Dirichlet 1.0, one of them Byzantine, 30 "
    "rounds (scenarios/gossip_digits.yaml); means over honest clients. Three seeds; lines join the smallest and the "
    "largest."
)


def _neighbors(kind: str, name: str) -> Iterator[Measurement]:
    if (kind, name) != ("defense", "clipped_gossip"):
        return
    bars = []
    for graph in unique(row["federation.graph"] for row in rows(_GOSSIP)):
        for attack in unique(row["attack"] for row in rows(_GOSSIP)):
            values, others = (
                numbers(where(_GOSSIP, **{"federation.graph": graph, "attack": attack, "defense": rule}), "accuracy")
                for rule in (name, "mean")
            )
            bars.append(Bar(f"{graph}, {attack}", values, others))
    title = "Accuracy of clients that clip what their neighbors send"
    yield Measurement(title, "final accuracy (%)", tuple(bars), name, "mean", _GOSSIP, _GOSSIP_SETTING)


SOURCES = (_zoo_defense, _zoo_attack, _worst_case, _noisy_clients, _neighbors)
