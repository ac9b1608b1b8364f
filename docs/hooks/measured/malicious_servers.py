"""What malicious servers recover, by batch size, local training and defense."""

from collections.abc import Iterator

from measured.results import Bar, Measurement, numbers, unique, where

_SOURCE = "malicious_servers.csv"
_SETTING = (
    "One client's test images behind one gradient of an untrained network, or as the label says; the server has 2,000 "
    "other images. Exact: every pixel rounds to the client's own 8 bits. Three seeds (dots are their means, lines join "
    "the smallest and the largest)."
)


def _by_setting(kind: str, name: str) -> Iterator[Measurement]:
    cells = where(_SOURCE, attack=name)
    if kind != "inversion" or not cells:
        return
    bars = []
    for label in unique(_label(row) for row in cells):
        own = [row for row in cells if _label(row) == label and row["recovered"]]
        if own:
            bars.append(Bar(label, numbers(own, "exact"), numbers(own, "recovered")))
    title, unit = f"Images that come back from {name}", "share of the batch (%)"
    yield Measurement(title, unit, tuple(bars), "exact", "recovered (error below 0.01)", _SOURCE, _SETTING)


def _beside_the_honest_model(kind: str, name: str) -> Iterator[Measurement]:
    if (kind, name) != ("inversion", "seer"):
        return
    bars = []
    for label in unique(_seer_label(row) for row in where("seer.csv")):
        own = [row for row in where("seer.csv") if _seer_label(row) == label]
        trained, honest = ([row for row in own if (row["steps"] != "0") is crafted] for crafted in (True, False))
        if trained:
            bars.append(Bar(label, numbers(trained, "psnr_mean", 1.0), numbers(honest, "psnr_mean", 1.0)))
    yield Measurement(
        "The image that seer reads from the gradient of a batch",
        "PSNR (dB)",
        tuple(bars),
        "the model trained for it",
        "the honest model, with the best linear decoder for it",
        "seer.csv",
        "Digits, an untrained mlp, batches of test images in which exactly one has the property; the server has the "
        "1,437 training images. The mean of the server's images that have the property has 13.5 to 15.5 dB. Seeds with "
        "a class each (dots are their means, lines join the smallest and the largest).",
    )


def _seer_label(row: dict[str, str]) -> str:
    return f"{row['batch_size']} images" + (f", the brightest {row['share']} of them" if row["share"] else "")


def _label(row: dict[str, str]) -> str:
    images = (
        f"{row['batch_size']} images"
        if row["clients"] == "1"
        else f"sum of {row['clients']} x {row['batch_size']} images"
    )
    words = [f"{row['dataset']}, {row['model']}, {images}"]
    words += [row[key] for key in ("options", "local", "defense") if row[key]]
    return ", ".join(words).replace('"', "").replace("{", "").replace("}", "")


SOURCES = (_by_setting, _beside_the_honest_model)
