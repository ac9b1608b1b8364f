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


_HIJACKED, _PLANTED = "hijacked_cut.csv", "party_backdoor.csv"


def _hijacking(kind: str, name: str) -> Iterator[Measurement]:
    if (kind, name) != ("inversion", "feature_hijacking"):
        return
    bars = []
    for label in unique(row["inversion"] for row in rows(_HIJACKED)):
        cells = where(_HIJACKED, inversion=label)
        own = label == "hijacking"
        bars.append(Bar(label, numbers(cells, "psnr", 1.0), numbers(cells, "psnr_mean_image", 1.0), own))
    setting = (
        "32 digits of a client of split learning, decoded after twenty rounds with 200 auxiliary images "
        "(scenarios/hijacked_cut.yaml); three seeds (dots are their means, lines join the smallest and the largest)."
    )
    title, unit = "Images read by a server that hijacks clients", "PSNR (dB), more is closer"
    yield Measurement(title, unit, tuple(bars), "decoded image", "mean image", _HIJACKED, setting, limits=None)


def _replacement(kind: str, name: str) -> Iterator[Measurement]:
    if (kind, name) != ("attack", "gradient_replacement"):
        return
    bars = []
    for defense in unique(row["defense"] for row in rows(_PLANTED)):
        attacked, clean = (where(_PLANTED, defense=defense, **{"attack.gamma": gamma}) for gamma in ("5", "0"))
        success = "attack_success_rate"
        bars.append(Bar(defense, numbers(attacked, success), numbers(clean, success), defense == "none"))
    setting = (
        "Two parties with half a digit each, one of which marks one example in fifty and knows a hundred zeros "
        "(scenarios/party_backdoor.yaml); three seeds (dots are their means, lines join the smallest and the largest)."
    )
    title, unit = "Digits with the trigger that are taken for zeros", "test images (%)"
    yield Measurement(
        title, unit, tuple(bars), "attacked", "the trigger on a model that nobody attacked", _PLANTED, setting
    )


SOURCES = (_cuts, _hijacking, _replacement)
