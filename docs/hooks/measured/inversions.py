"""What inversions recover of undefended gradients, updates and feature maps."""

from collections.abc import Iterator

from measured.results import Bar, Measurement, numbers, rows, unique, where

_INVERSIONS = "inversions_digits.csv"
_INVERSION_SETTING = (
    "Gradients of an untrained network with a smooth activation (64 units), {images} a gradient, labels not granted, "
    "three seeds (dots are their means, lines join the smallest and the largest); 100 dB stands for exact."
)


def _inversions(kind: str, name: str) -> Iterator[Measurement]:
    names = unique(row["inversion"] for row in rows(_INVERSIONS))
    if kind != "inversion" or name not in names:
        return
    for partition, images in (("one image", "one digit"), ("four images", "four digits")):
        cells = {one: where(_INVERSIONS, partition=partition, inversion=one) for one in names}
        setting = _INVERSION_SETTING.format(images=images)
        if name == "labels":
            bars = [Bar(one, numbers(cells[one], "label_accuracy"), (), one == name) for one in names]
            title, unit = f"Labels found by each inversion, {images} a gradient", "labels found, in any order (%)"
            yield Measurement(title, unit, tuple(bars), "labels found", "", _INVERSIONS, setting)
            continue
        bars = [
            Bar(one, numbers(cells[one], "psnr", 1.0), numbers(cells[one], "psnr_gray", 1.0), one == name)
            for one in names
            if one != "labels"
        ]
        title, unit = f"Images recovered by each inversion, {images} a gradient", "PSNR (dB), more is closer"
        pair, limits = ("recovered image", "gray image"), (0, 105)
        yield Measurement(title, unit, tuple(bars), *pair, _INVERSIONS, setting, limits)


_SEPARATED = "spear_digits.csv"


def _separated(kind: str, name: str) -> Iterator[Measurement]:
    names = unique(row["inversion"] for row in rows(_SEPARATED))
    if kind != "inversion" or name not in names:
        return
    bars = [
        Bar(f"{one}, {partition}", numbers(cells, "psnr", 1.0), numbers(cells, "psnr_gray", 1.0), one == name)
        for partition in unique(row["partition"] for row in rows(_SEPARATED))
        for one in names
        if (cells := where(_SEPARATED, partition=partition, inversion=one))
    ]
    setting = (
        "Gradients of an untrained network with 512 ReLU neurons in its first layer, labels not granted, three seeds "
        "(dots are their means, lines join the smallest and the largest); 100 dB stands for exact."
    )
    title, unit = "Images separated in closed form, by how many there are", "PSNR (dB), more is closer"
    pair, limits = ("recovered image", "gray image"), (0, 105)
    yield Measurement(title, unit, tuple(bars), *pair, _SEPARATED, setting, limits)


_SUMS = "malicious_sums_digits.csv"


def _of_sums(kind: str, name: str) -> Iterator[Measurement]:
    names = unique(row["inversion"] for row in rows(_SUMS))
    if kind != "inversion" or name not in names:
        return
    bars = [
        Bar(f"{one}, {federation}", numbers(cells, "recovered"), (), one == name)
        for federation in unique(row["federation"] for row in rows(_SUMS))
        for one in names
        if (cells := where(_SUMS, federation=federation, inversion=one))
    ]
    setting = (
        "16 digits of one client, which the server recovers from its own update or from sums of clients, with a model "
        "that it made for them (scenarios/malicious_sums_digits.yaml); three seeds (dots are means, lines join the "
        "smallest and the largest)."
    )
    title, unit = "Images recovered by malicious servers that see sums", "images with a squared error below 0.01 (%)"
    yield Measurement(title, unit, tuple(bars), "recovered", "", _SUMS, setting)


_BENCH = "inversion.csv"


def _inversion_rows(kind: str, name: str) -> Iterator[Measurement]:
    cells = [row for row in rows(_BENCH) if kind == "inversion" and row["attack"] == name and row["psnr"]]
    bars = []
    for row in cells:
        classes = {"distinct": ", all different", "same": ", one class"}.get(row["classes"], "")
        images = "1 image" if row["batch_size"] == "1" else f"{row['batch_size']} images{classes}"
        stopped = ", interrupted" if row["interrupted"] == "True" else ""
        label = f"{row['model']}, {row['dataset']}, {images}{stopped}"
        bars.append(Bar(label, numbers([row], "psnr", 1.0), numbers([row], "psnr_gray", 1.0)))
    setting = (
        "Untrained networks, each row a command in [the tables](../../reproduction.md#gradient-inversion), with its "
        "settings in the file; mean PSNR over its images."
    )
    title, unit = f"Images recovered by {name} in larger settings", "PSNR (dB), more is closer"
    yield Measurement(title, unit, tuple(bars), "recovered image", "gray image", _BENCH, setting, limits=None)


_CHANNELS = "leakage_by_channel.csv"


def _channels(kind: str, name: str) -> Iterator[Measurement]:
    if (kind, name) != ("inversion", "feature_inversion"):
        return
    bars = []
    for federation, model, attack in dict.fromkeys((r["federation"], r["model"], r["attack"]) for r in rows(_CHANNELS)):
        cells = where(_CHANNELS, federation=federation, model=model, attack=attack)
        own = federation == "feature maps"
        label = f"{federation}, {model}, {attack}"
        bars.append(Bar(label, numbers(cells, "psnr", 1.0), numbers(cells, "psnr_gray", 1.0), own))
    setting = (
        "One client's images, from what it sends in each kind of federation (scenarios/leakage_by_channel.yaml); three "
        "seeds (dots are their means, lines join the smallest and the largest)."
    )
    title, unit = "What feature maps give away, beside gradients and updates", "PSNR (dB), more is closer"
    yield Measurement(title, unit, tuple(bars), "recovered image", "gray image", _CHANNELS, setting, limits=None)


_TEXTS = "text_inversion.csv"


def _texts(kind: str, name: str) -> Iterator[Measurement]:
    if kind != "inversion" or name not in unique(row["inversion"] for row in rows(_TEXTS)):
        return
    column = "token_set" if name == "token_rows" else "token_accuracy"
    bars = [
        Bar(f"{defense}, {partition}", numbers(cells, column), numbers(cells, f"{column}_null"), defense == "mean")
        for defense in unique(row["defense"] for row in rows(_TEXTS))
        for partition in unique(row["partition"] for row in rows(_TEXTS))
        if (cells := where(_TEXTS, partition=partition, inversion=name, defense=defense))
    ]
    setting = (
        "Gradients of an untrained transformer of width 64 on windows of 20 characters, three seeds (dots are their "
        "means, lines join the smallest and the largest)."
    )
    if name == "token_rows":
        title, unit = "Tokens of a batch that its embedding tells", "told and true tokens over either (%)"
        yield Measurement(title, unit, tuple(bars), "tokens told", "as many characters, drawn", _TEXTS, setting)
        return
    title, unit = "Texts read off one gradient", "places with the right character (%)"
    yield Measurement(title, unit, tuple(bars), "recovered", "characters drawn one by one", _TEXTS, setting)


SOURCES = (_inversions, _separated, _of_sums, _inversion_rows, _channels, _texts)
