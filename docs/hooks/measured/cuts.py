"""What is read of labels at the cut of a network, with and without defenses."""

from collections.abc import Iterator

from measured.results import Bar, Measurement, numbers, rows, unique, where

_SOURCE = "split_threats.csv"
_SETTING = (
    "Zeros among digits, every tenth: pairs of a zero and another digit that one of two clients orders, "
    "who knows three labels of either class, over ten rounds of split learning (scenarios/split_threats.yaml); three "
    "seeds (dots are their means, lines join them). Guessing orders 50%."
)
_AXIS = "audit.labels.inferences"
_NAMES = {
    "cut_noise": "noise 1",
    "cut_clip": "clipping",
    "max_norm": "max norm",
    "marvell": "marvell 4",
    "distance_correlation": "NoPeek",
}


def _area(inference: str, defense: str, column: str = "label_leak_auc") -> tuple[float, ...]:
    chosen = where(_SOURCE, **{_AXIS: inference}, defense=defense)
    return numbers(chosen, column)


def _cuts(kind: str, name: str) -> Iterator[Measurement]:
    inferences = unique(row[_AXIS] for row in rows(_SOURCE))
    unit = "pairs in order (%)"
    if kind == "inference" and name in inferences:
        bars = [
            Bar(one, _area(one, "none"), _area(one, "none", "label_leak_auc_blind"), one == name) for one in inferences
        ]
        title, pair = "Labels read without a defense", ("at the cut", "blind: from activations before training")
        yield Measurement(title, unit, tuple(bars), *pair, _SOURCE, _SETTING, limits=None)
    if kind == "defense" and name in _NAMES:
        bars = [Bar(one, _area(one, "none"), _area(one, _NAMES[name]), False) for one in inferences]
        title, pair = "Labels read with this defense", ("no defense", _NAMES[name])
        yield Measurement(title, unit, tuple(bars), *pair, _SOURCE, _SETTING, limits=None)


SOURCES = (_cuts,)
