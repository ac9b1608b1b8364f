"""How often backdoors succeed, and how long they last."""

from collections.abc import Iterator

from measured.results import Bar, Measurement, numbers, where

_BACKDOORS = "backdoor_digits.csv"
_BACKDOOR_SETTING = (
    "Digits, ten clients of alike data, two of them Byzantine for the first 20 of 40 rounds, three seeds (dots are "
    "their means, lines join the smallest and the largest). Clean accuracy is 97% throughout."
)
_BACKDOOR_LABELS = {
    "backdoor": ("square", "blended", "boosted"),
    "dba": ("distributed",),
    "edge_case": ("edge case",),
    "model_replacement": ("replacement",),
    "neurotoxin": ("neurotoxin",),
    "alternating_minimization": ("alternating",),
    "a3fl": ("a3fl",),
}
_BACKDOOR_RULES = {"mean": "mean", "median": "median", "multi_krum": "multi-krum", "norm_bound": "norm bound"}


def _backdoors(kind: str, name: str) -> Iterator[Measurement]:
    if kind == "attack" and name in _BACKDOOR_LABELS:
        pairs = [(label, rule) for label in _BACKDOOR_LABELS[name] for rule in _BACKDOOR_RULES.values()]
        bars = [Bar(f"{label}, {rule}", *_backdoor_values(label, rule)) for label, rule in pairs]
        title = f"How often {name} succeeds"
    elif kind == "defense" and name in _BACKDOOR_RULES:
        labels = [label for group in _BACKDOOR_LABELS.values() for label in group]
        bars = [Bar(label, *_backdoor_values(label, _BACKDOOR_RULES[name])) for label in labels]
        title = f"How often backdoors succeed under {name}"
    else:
        return
    unit = "success on images that are not of the target class (%)"
    value, other = "when the attackers leave", "20 rounds later"
    yield Measurement(title, unit, tuple(bars), value, other, _BACKDOORS, _BACKDOOR_SETTING)


def _backdoor_values(attack: str, rule: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    cells = where(_BACKDOORS, attack=attack, defense=rule)
    return numbers(cells, "attack_success_rate_at_until"), numbers(cells, "attack_success_rate")


SOURCES = (_backdoors,)
