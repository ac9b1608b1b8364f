"""A curious server that reads a client's texts off its update: scores beside a null baseline, both texts on file."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import Tensor

from fedsec.data.dataset import Dataset
from fedsec.data.text.characters import spelled
from fedsec.federation.updates import Federation
from fedsec.files import write_json
from fedsec.metrics.texts import null_scores, text_scores, token_shares
from fedsec.seeds import Streams
from fedsec.threat.texts import TextInversion, TextObservation, TextReconstruction

_OUTPUT = "texts.json"


def read_texts(
    inversion: TextInversion,
    federation: Federation,
    row: Tensor,
    inputs: Tensor,
    dataset: Dataset,
    streams: Streams,
    round_number: int,
    folder: Path,
) -> dict[str, Any]:
    """What an inversion reads off one row, as plain data.

    Args:
        inversion: the attack.
        federation: whose model was broadcast.
        row: what a client sent, or the sum of several.
        inputs: [texts, length], what it was trained on: the truth, only for the scores.
        dataset: whose tokens are named, and whose shares of tokens the null baseline draws from.
        streams: of the cell.
        round_number: of the round.
        folder: of the cell; true and recovered texts are written there.
    """
    model, update = federation.module, federation.trainer.layout.views(row)
    originals = inputs.long().cpu()
    observation = TextObservation(model, update, originals.shape[1], dataset.num_classes, len(originals))
    begin = perf_counter()
    generator = streams.torch("attack", "round", round_number)
    reconstruction = inversion.reconstruct(observation, generator=generator)
    seconds = perf_counter() - begin
    metrics, places = text_scores(originals, reconstruction.tokens, reconstruction.token_set)
    shares = token_shares(dataset.train.targets, dataset.num_classes)
    null = null_scores(originals, shares, streams.numpy("attack", "null", round_number))
    metrics |= {f"{name}_null": null[f"{name}_null"] for name in metrics}
    if reconstruction.tokens is not None:
        _write(folder / "leakage" / f"round-{round_number:04d}", originals, reconstruction, places, dataset.classes)
    return {
        "images": len(originals),
        "metrics": metrics,
        "iterations": 0,
        "seconds": round(seconds, 3),
        "lpips": None,
        "notes": list(reconstruction.notes),
    }


def _write(
    folder: Path,
    originals: Tensor,
    reconstruction: TextReconstruction,
    places: Sequence[int],
    classes: Sequence[str],
) -> None:
    """The texts side by side, the client's own first."""
    assert reconstruction.tokens is not None
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [
        {
            "client": spelled(original.tolist(), classes),
            "recovered": spelled(reconstruction.tokens[place].tolist(), classes),
        }
        for original, place in zip(originals, places, strict=True)
    ]
    write_json(folder / _OUTPUT, {"texts": pairs})
