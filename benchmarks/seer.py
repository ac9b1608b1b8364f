"""What SEER's kind of attack reads from gradients of batches, beside null baselines, and who notices its model.

A row is one crafted model: digits, an untrained network, the attacker's images from the training data and the client's
batches from the test data, which have no image in common. Of 400 batches drawn at random those in which exactly one
image has the property are attacked, 60 at most. PSNR is that of this image, in dB. Baselines: the mean of the server's
own images that have the property; the nearest of them, chosen with knowledge of the truth; the honest model with the
best linear decoder for it (`steps` 0). D-SNR and refusals are those of ten clients with the default `inspect_model`,
for the honest model, SEER's and that of `fishing`.

Rows go to docs/results/seer.csv, each as soon as it is measured; rows that are there stay. Run it with

    uv run python benchmarks/seer.py                     # all rows, some minutes
    uv run python benchmarks/seer.py mlp 16 "" 0 600     # one: model, batch, share, seed, steps
"""

import csv
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsec.attacks import Fishing, Seer
from fedsec.data import load
from fedsec.data.normalization import normalization
from fedsec.defenses import InspectModel
from fedsec.inversion.server_view import pixel_scale
from fedsec.metrics.images import psnr
from fedsec.models import build
from fedsec.threat import Observation, PixelScale, ServerView

OUT = Path(__file__).parents[1] / "docs/results/seer.csv"
SHARES = {8: ("",), 16: ("", "0.0625"), 64: ("",)}
SETTINGS = [
    ("mlp", str(batch), share, str(seed), str(steps))
    for steps in (600, 0)
    for batch, shares in SHARES.items()
    for share in shares
    for seed in range(3)
]
BATCHES, MOST, CLIENTS = 400, 60, 10


def measured(name: str, batch: int, share: str, seed: int, steps: int) -> dict[str, Any]:
    """One crafted model."""
    dataset = load("digits")
    auxiliary, test = dataset.train.images.float() / 255, dataset.test.images.float() / 255
    torch.manual_seed(seed)
    model, scale = build(name, dataset.image_shape, 10), pixel_scale(normalization("half"))
    view = ServerView(
        model, dataset.image_shape, 10, batch, scale, auxiliary=auxiliary, auxiliary_labels=dataset.train.labels
    )
    server, draw = Seer((3 + seed) % 10, float(share) if share else None, steps), torch.Generator().manual_seed(seed)
    begun = time.process_time()
    crafted = server.craft(view, generator=draw)
    seconds = time.process_time() - begun
    (decoder,) = server._decoders.values()
    has = decoder.image_property.holds(auxiliary, dataset.train.labels)
    mean, own = auxiliary[has].mean(0), auxiliary[has]
    scores: dict[str, list[float]] = {"psnr": [], "mean_image": [], "nearest": []}
    victims, single = set[int](), 0
    for _ in range(BATCHES):
        chosen = torch.randperm(len(test), generator=draw)[:batch]
        images, labels = test[chosen], dataset.test.labels[chosen]
        wanted = decoder.image_property.holds(images, labels)
        if int(wanted.sum()) != 1:
            continue
        single += 1
        if single > MOST:
            continue
        truth = images[wanted]
        victims.add(int(chosen[wanted]))
        loss = F.cross_entropy(crafted(scale.apply(images)), labels)
        gradient = torch.autograd.grad(loss, list(crafted.parameters()))
        seen = Observation.of_gradient(
            crafted, gradient, input_shape=dataset.image_shape, num_classes=10, batch_size=batch, scale=scale
        )
        result = server.reconstruct(seen).images
        assert result is not None
        scores["psnr"].append(float(psnr(result[:1], truth)))
        scores["mean_image"].append(float(psnr(mean[None], truth)))
        scores["nearest"].append(float(psnr(own, truth.expand_as(own)).max()))
    values = {key: torch.tensor(row) for key, row in scores.items()}
    reached = values["psnr"]
    row: dict[str, Any] = {
        "dataset": "digits",
        "model": name,
        "batch_size": batch,
        "share": share,
        "seed": seed,
        "steps": steps,
    }
    row |= {"target_class": decoder.image_property.label, "auxiliary_with_property": int(has.sum())}
    row |= {"exactly_one": round(single / BATCHES, 3), "attacked": len(reached), "different_images": len(victims)}
    row |= {f"{key}_mean": round(float(value.mean()), 2) for key, value in values.items()}
    row |= {"psnr_p10": round(float(reached.quantile(0.1)), 2), "psnr_p90": round(float(reached.quantile(0.9)), 2)}
    row |= {
        "above_mean_image": round(float((reached > values["mean_image"]).double().mean()), 3),
        "above_nearest": round(float((reached > values["nearest"]).double().mean()), 3),
        "craft_cpu_seconds": round(seconds, 1),
    }
    if steps:
        fished = Fishing(target_class=(3 + seed) % 10).craft(view, generator=draw)
        for key, sent in (("honest", model), ("seer", crafted), ("fishing", fished)):
            row |= noticed(key, sent, model, test, dataset.test.labels, scale)
    return row


def noticed(
    key: str, sent: nn.Module, expected: nn.Module, images: Tensor, labels: Tensor, scale: PixelScale
) -> dict[str, Any]:
    """D-SNR, and how many clients with 36 images each refuse a model, and by which checks."""
    inspections = [
        InspectModel().inspect(sent, scale.apply(images[client::CLIENTS]), labels[client::CLIENTS], expected=expected)
        for client in range(CLIENTS)
    ]
    refused = [one for one in inspections if one.reasons]
    return {
        f"{key}_d_snr_median": f"{median(one.statistics['d_snr'] for one in inspections):.3g}",
        f"{key}_d_snr_largest": f"{max(one.statistics['d_snr'] for one in inspections):.3g}",
        f"{key}_refused": f"{len(refused)} of {CLIENTS}",
        f"{key}_reason": refused[0].reasons[0] if refused else "",
    }


def main() -> None:
    """Measure what is not there yet, and write the table."""
    torch.set_num_threads(1)
    rows = list(csv.DictReader(OUT.open(newline=""))) if OUT.exists() else []
    for setting in [tuple(sys.argv[1:])] if len(sys.argv) > 1 else SETTINGS:
        if any(
            tuple(row[name] for name in ("model", "batch_size", "share", "seed", "steps")) == setting for row in rows
        ):
            continue
        model, batch, share, seed, steps = setting
        rows.append(
            {name: str(value) for name, value in measured(model, int(batch), share, int(seed), int(steps)).items()}
        )
        print(rows[-1], flush=True)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with OUT.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
