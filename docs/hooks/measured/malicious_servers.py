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


def _label(row: dict[str, str]) -> str:
    images = (
        f"{row['batch_size']} images"
        if row["clients"] == "1"
        else f"sum of {row['clients']} x {row['batch_size']} images"
    )
    words = [f"{row['dataset']}, {row['model']}, {images}"]
    words += [row[key] for key in ("options", "local", "defense") if row[key]]
    return ", ".join(words).replace('"', "").replace("{", "").replace("}", "")


SOURCES = (_by_setting,)
