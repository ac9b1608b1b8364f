"""The section on reconstructions: images and scores are those of the files that a curious server left."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedsec.report.evidence.image_tiles import SCORES, TILES, read_tiles, write_tiles
from fedsec.report.page import DataTable, Folded, ImageGrid, Photo, RunView
from fedsec.report.page.sections.reconstructions import reconstructions

INVERSION = {"inversion": {"name": "dlg", "target": {"client": 1, "rounds": [1, 2]}, "knowledge": {}}}
SHADES = [0.2, 0.4, 0.6]


def leave(folder: Path, number: int, psnrs: list[float], **more: float) -> None:
    """Tiles of a round: originals are black, reconstructions of one shade each."""
    folder = folder / "leakage" / f"round-{number:04d}"
    folder.mkdir(parents=True)
    recovered = torch.stack([torch.full((1, 4, 4), shade) for shade in SHADES[: len(psnrs)]])
    scores = [
        {"caption": f"<i>{psnr}", "psnr": psnr, "ssim": 0.5, "psnr_gray": 7.0, "label_right": True, **more}
        for psnr in psnrs
    ]
    write_tiles(folder, torch.zeros_like(recovered), recovered, scores, {"client": 1, "round": number})


def test_best_median_and_worst_of_each_defense(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView], tmp_path: Path
) -> None:
    first = cell("none", "mean", 0, config=INVERSION, psnr=9.0)
    second = cell("none", "mean", 1, config=INVERSION, psnr=9.0)
    leave(tmp_path / first["id"], 1, [9.0, 21.0])
    leave(tmp_path / first["id"], 2, [8.0])
    leave(tmp_path / second["id"], 1, [12.0, 11.0])
    other = cell("none", "sign", 0, config=INVERSION, psnr=6.0)
    leave(tmp_path / other["id"], 1, [6.0])
    section = reconstructions(view())
    assert section is not None
    (grid,) = (part for part in section.parts if isinstance(part, ImageGrid))
    assert [(name, [photo.caption for photo in photos]) for name, photos in grid.rows] == [
        (
            "none, mean",
            [
                "best: <i>21.0, 21.0 dB (gray 7.0), SSIM 0.50",
                "median: <i>11.0, 11.0 dB (gray 7.0), SSIM 0.50",
                "worst: <i>8.0, 8.0 dB (gray 7.0), SSIM 0.50",
            ],
        ),
        ("none, sign", ["best: <i>6.0, 6.0 dB (gray 7.0), SSIM 0.50"]),
    ]
    best = grid.rows[0][1][0]
    assert "(round 1, client 1, seed 0)" in best.description
    pixels = np.asarray(Image.open(io.BytesIO(best.png)).convert("RGBA"))
    assert (pixels[:, :112, :3] == 0).all()  # the original
    assert (pixels[:, -112:, :3] == round(255 * 0.4)).all()
    assert (pixels[:, 112:-112, 3] == 0).all()  # what parts them shows the page
    (table,) = (part for part in section.parts if isinstance(part, DataTable))
    assert [[shown.text for shown in row[:7]] for row in table.rows][1] == [
        *("none, mean", "median", "11.0", "7.0", "0.500", "1", "5")
    ]
    (folded,) = (part for part in section.parts if isinstance(part, Folded))
    assert folded.summary.startswith("All 6 images")


def test_pictures_of_earlier_versions_are_shown_as_they_are(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView], tmp_path: Path
) -> None:
    record = cell("none", "mean", config=INVERSION, psnr=9.0)
    folder = tmp_path / record["id"] / "leakage" / "round-0002"
    folder.mkdir(parents=True)
    assert reconstructions(view()) is None
    (folder / "reconstruction.png").write_bytes(b"\x89PNG")
    section = reconstructions(view())
    assert section is not None
    (photo,) = section.parts
    assert isinstance(photo, Photo)
    assert photo.png == b"\x89PNG"
    assert photo.caption == "Originals over reconstructions: none, mean, seed=0, round 2"


def test_what_is_no_picture_of_tiles_is_passed_by(tmp_path: Path) -> None:
    leave(tmp_path, 1, [9.0, 21.0])
    folder = tmp_path / "leakage" / "round-0001"
    assert read_tiles(folder) is not None
    whole, scores = (folder / TILES).read_bytes(), (folder / SCORES).read_text()
    for content in (b"", whole[:40], b"GIF89a" + whole):
        (folder / TILES).write_bytes(content)
        assert read_tiles(folder) is None
    (folder / TILES).write_bytes(whole)
    for text in (
        "",
        "[]",
        "{}",
        scores.replace('"height": 4', '"height": 5'),
        scores.replace('"width": 4', '"width": "x"'),
    ):
        (folder / SCORES).write_text(text)
        assert read_tiles(folder) is None


@pytest.mark.parametrize(
    ("path", "value"), [(("about",), {}), (("about", "round"), "x"), (("images", 0, "ssim"), None), (("height",), 5)]
)
def test_scores_that_somebody_changed_are_left_out(
    path: tuple[Any, ...],
    value: Any,
    cell: Callable[..., dict[str, Any]],
    view: Callable[[], RunView],
    tmp_path: Path,
) -> None:
    record = cell("none", "mean", 0, config=INVERSION, psnr=9.0)
    leave(tmp_path / record["id"], 1, [9.0])
    (file,) = tmp_path.glob(f"*/leakage/round-*/{SCORES}")
    content = json.loads(file.read_text())
    *parents, last = path
    inner = content
    for key in parents:
        inner = inner[key]
    inner[last] = value
    file.write_text(json.dumps(content))
    assert reconstructions(view()) is None


def test_the_mean_of_the_servers_own_images_stands_beside_what_it_decodes(
    cell: Callable[..., dict[str, Any]], view: Callable[[], RunView], tmp_path: Path
) -> None:
    first = cell("none", "mean", 0, config=INVERSION, psnr=9.0)
    leave(tmp_path / first["id"], 1, [15.0], psnr_mean_image=11.0)
    section = reconstructions(view())
    assert section is not None
    (grid,) = (part for part in section.parts if isinstance(part, ImageGrid))
    assert grid.rows[0][1][0].caption == "best: <i>15.0, 15.0 dB (mean image 11.0), SSIM 0.50"
    (table,) = (part for part in section.parts if isinstance(part, DataTable))
    assert [column.title for column in table.columns][2:6] == ["PSNR (dB)", "gray (dB)", "mean image (dB)", "SSIM"]
    assert [entry.text for entry in table.rows[0]][2:6] == ["15.0", "7.0", "11.0", "0.500"]
