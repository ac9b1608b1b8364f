"""What inversions recover under defenses of updates, and what those cost."""

from collections.abc import Iterator
from statistics import fmean

from measured.results import Bar, Measurement, numbers, rows, unique, where

_DEFENDED = "inversion_defenses.csv"
_DEFENDED_LABELS = {
    "clip": "clipping",
    "prune": "pruning",
    "gaussian_noise": "noise",
    "quantize": "quantization",
    "sign": "signs",
    "soteria": "Soteria",
}
_PRIVACY = "privacy_quickstart.csv"
_PRIVACY_LABELS = {
    "clip": ("clipping",),
    "gaussian_noise": ("noise", "more noise"),
    "prune": ("pruning 0.9", "pruning 0.99"),
    "sign": ("signs",),
    "dp_sgd": ("DP-SGD 50", "DP-SGD 10", "DP-SGD 3"),
    "dp_fedavg": ("user-level DP 10",),
}
_PRIVACY_SETTING = (
    "Digits, 100 clients of four images, 40 rounds; one client is inverted in rounds 1 and 20 by two attackers who "
    "know the defense. Three seeds (dots are their means, lines join the smallest and the largest)."
)

_DEPLOYED = "deployed_filters_digits.csv"
_DEPLOYED_LABELS = {
    "clip": ("fixed clipping",),
    "percentile_privacy": ("percentile privacy", "percentile privacy, gamma 0.1", "percentile privacy 90, gamma 0.1"),
    "svt_privacy": ("SVT", "SVT 2.7", "SVT, noise_var 100"),
    "local_dp": ("local DP 1", "local DP 1000"),
    "gaussian_noise": ("noise",),
    "dp_sgd": ("DP-SGD 10",),
}
_DEPLOYED_SETTING = (
    "Digits, 100 clients of four images, one local step a round, 30 rounds; one client is inverted in the first round "
    "by `inverting_gradients`, which knows the defense (scenarios/deployed_filters_digits.yaml). Three seeds (dots are "
    "their means, lines join the smallest and the largest)."
)


def _defended(kind: str, name: str) -> Iterator[Measurement]:
    if kind != "defense" or name not in _DEFENDED_LABELS:
        return
    bars = []
    for label in unique(row["row"] for row in rows(_DEFENDED)):
        knowing = where(_DEFENDED, row=label, adaptive="True") or where(_DEFENDED, row=label)
        naive = where(_DEFENDED, row=label, adaptive="False") if label != "none" else []
        own = label.startswith(_DEFENDED_LABELS[name])
        words = label.replace("none", "no defense")
        bars.append(Bar(words, numbers(knowing, "psnr", 1.0), numbers(naive, "psnr", 1.0), own))
    first = rows(_DEFENDED)[0]
    setting = (
        f"Single CIFAR-10 images and an untrained LeNet, `inverting_gradients` with labels granted, means over "
        f"{first['images']} images; a gray image has {float(first['psnr_gray']):.1f} dB (benchmarks/defenses.py)."
    )
    title, unit = "What is recovered under each defense of updates", "PSNR (dB), less is safer"
    value, other = "attacker who knows the defense", "attacker who does not"
    yield Measurement(title, unit, tuple(bars), value, other, _DEFENDED, setting, limits=None)


def _privacy(kind: str, name: str) -> Iterator[Measurement]:
    if kind != "defense" or name not in _PRIVACY_LABELS:
        return
    leaks, accuracies = [], []
    for label in unique(row["defense"] for row in rows(_PRIVACY)):
        cells = where(_PRIVACY, defense=label)
        attackers = unique(row["inversion.name"] for row in cells)
        groups = [[row for row in cells if row["inversion.name"] == attacker] for attacker in attackers]
        best = max(groups, key=lambda group: fmean(numbers(group, "psnr", 1.0)))
        own, words = label in _PRIVACY_LABELS[name], label.replace("none", "no defense")
        leaks.append(Bar(words, numbers(best, "psnr", 1.0), numbers(best, "psnr_gray", 1.0), own))
        accuracies.append(Bar(words, numbers(best, "accuracy"), (), own))
    title, unit = "What the better of two attackers recovers under each defense", "PSNR (dB), less is safer"
    pair = "recovered image", "gray image"
    yield Measurement(title, unit, tuple(leaks), *pair, _PRIVACY, _PRIVACY_SETTING, limits=None)
    title, unit = "What each defense costs", "final accuracy (%)"
    yield Measurement(title, unit, tuple(accuracies), "accuracy", "", _PRIVACY, _PRIVACY_SETTING)


def _deployed(kind: str, name: str) -> Iterator[Measurement]:
    if kind != "defense" or name not in _DEPLOYED_LABELS:
        return
    leaks, accuracies = [], []
    for label in unique(row["defense"] for row in rows(_DEPLOYED)):
        cells = where(_DEPLOYED, defense=label, inversion="inverting gradients")
        own, words = label in _DEPLOYED_LABELS[name], label.replace("none", "no defense")
        leaks.append(Bar(words, numbers(cells, "psnr", 1.0), numbers(cells, "psnr_gray", 1.0), own))
        accuracies.append(Bar(words, numbers(cells, "accuracy"), (), own))
    title, unit = "What is recovered under filters that other frameworks deploy", "PSNR (dB), less is safer"
    pair = "recovered image", "gray image"
    yield Measurement(title, unit, tuple(leaks), *pair, _DEPLOYED, _DEPLOYED_SETTING, limits=None)
    title, unit = "What deployed filters cost", "final accuracy (%)"
    yield Measurement(title, unit, tuple(accuracies), "accuracy", "", _DEPLOYED, _DEPLOYED_SETTING)


_SUMMED = "summed_noise_digits.csv"
_SUMMED_SETTING = (
    "Digits, 40 clients with alike data, logistic regression, 20 rounds, noise divided by 40 clients whoever is in a "
    "sum (scenarios/summed_noise_digits.yaml). Three seeds; lines join the smallest and the largest."
)
_SUMS = {
    "null": "the server sees each client",
    "clients=20": "sums of 20",
    "clients=40": "a sum of 40",
    "clients=40, protocol=pairwise_masks, clip=4.0, dropouts=before_upload=0.2": "pairwise masks, a fifth drops out",
    "clients=40, protocol=turbo_aggregate, clip=4.0": "Turbo-Aggregate",
}


def _summed(kind: str, name: str) -> Iterator[Measurement]:
    if (kind, name) != ("defense", "distributed_dp"):
        return
    bars = []
    for sums, words in _SUMS.items():
        plain, *noisy = (
            where(_SUMMED, defense=defense, **{"federation.secure_aggregation": sums})
            for defense in ("mean", "noise 1", "noise 4")
        )
        for noise, cells in zip((1, 4), noisy, strict=True):
            label = f"{words}, noise {noise}: epsilon {numbers(cells, 'user_epsilon', 1.0)[0]:.3g}"
            bars.append(Bar(label, numbers(cells, "accuracy"), numbers(plain, "accuracy")))
    title = "What noise of clients costs, and what it is worth by the sums that a server sees"
    yield Measurement(title, "final accuracy (%)", tuple(bars), name, "no noise", _SUMMED, _SUMMED_SETTING)


SOURCES = (_defended, _privacy, _deployed, _summed)
