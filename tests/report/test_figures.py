"""The pictures: what is drawn, from what, and into which files."""

import json
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsec.report import figures, partition_figure
from fedsec.report import run_report as report

ATTACKED = "label_flip(fraction=0.4)"


def write_cells(root: Path, rounds: int, seeds: int = 3, **axes: list[Any]) -> list[dict[str, Any]]:
    """Cells whose accuracy in round r is (r + seed) / 100, and 0.5 higher for the median."""
    records = []
    for number, values in enumerate(product(*axes.values(), range(seeds))):
        cell = dict(zip([*axes, "seed"], values, strict=True))
        folder = root / str(number)
        folder.mkdir(parents=True)
        accuracy = [(r + cell["seed"]) / 100 + 0.5 * (cell.get("defense") == "median") for r in range(1, rounds + 1)]
        lines = [json.dumps({"round": r, "accuracy": value}) for r, value in enumerate(accuracy, 1)]
        (folder / "rounds.jsonl").write_text("\n".join(lines) + "\n")
        metrics = {"accuracy": accuracy[-1]}
        records.append({"id": str(number), "cell": cell, "status": "done", "metrics": metrics, "error": None})
    return records


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n")


def drawn(root: Path, records: list[dict[str, Any]]) -> list[Any]:
    """The figures that `draw_curves` would save."""
    saved: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", lambda figure, path: saved.append(figure) or path)
        report.draw_curves(root, records)
    return saved


def test_curves_show_means_and_intervals_by_attack(tmp_path: Path) -> None:
    records = write_cells(tmp_path, 6, attack=[ATTACKED, "none"], defense=["mean", "median"])
    (figure,) = drawn(tmp_path, records)
    panels = figure.axes
    assert [axes.get_title() for axes in panels] == ["no attack", "label_flip (fraction=0.4)"]
    mean, median = panels[0].lines
    assert mean.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert mean.get_ydata() == pytest.approx([2, 3, 4, 5, 6, 7])
    assert median.get_ydata() == pytest.approx([52, 53, 54, 55, 56, 57])
    edges = panels[0].collections[1].get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(57 + 1)  # three seeds, a point apart
    assert edges.min() == pytest.approx(52 - 1)
    assert {text.get_text().strip() for text in figure.legends[0].get_texts()} == {"mean", "median"}
    assert mean.get_color() != median.get_color()
    assert mean.get_marker() != median.get_marker()


def test_a_cell_that_diverged_stays_where_it_was(tmp_path: Path) -> None:
    records = write_cells(tmp_path, 6, seeds=2, attack=["none"], defense=["mean"])
    log = tmp_path / records[0]["id"] / "rounds.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))
    (figure,) = drawn(tmp_path, records)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 2, 3]
    records[0]["metrics"]["diverged_in_round"] = 3
    (figure,) = drawn(tmp_path, records)
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    accuracy = [json.loads(text)["accuracy"] for text in log.read_text().splitlines()]
    other = json.loads((tmp_path / records[1]["id"] / "rounds.jsonl").read_text().splitlines()[-1])["accuracy"]
    assert line.get_ydata()[-1] == pytest.approx(100 * (accuracy[-1] + other) / 2)


@pytest.mark.parametrize(("models", "panels", "lines"), [(3, 1, 3), (12, 1, 12), (13, 13, 1)])
def test_settings_without_attack_and_defense_share_a_panel(
    tmp_path: Path, models: int, panels: int, lines: int
) -> None:
    drawings = drawn(tmp_path, write_cells(tmp_path, 4, seeds=1, model=[f"m{number}" for number in range(models)]))
    found = [axes for figure in drawings for axes in figure.axes if axes.lines]
    assert len(found) == panels
    assert {len(axes.lines) for axes in found} == {lines}
    if panels == 1:
        labels = [text.get_text().strip() for text in drawings[0].legends[0].get_texts()]
        assert labels == [f"model=m{number}" for number in range(models)]


def test_one_round_is_drawn_as_points(tmp_path: Path) -> None:
    records = write_cells(tmp_path, 1, attack=[ATTACKED, "none"], defense=["mean", "median"])
    (figure,) = drawn(tmp_path, records)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["no attack", "label_flip (fraction=0.4)"]
    points = sorted((float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines)
    assert [x for x, _ in points] == pytest.approx([2, 2, 52, 52])
    assert len({y for _, y in points}) == 4
    assert [round(y) for _, y in sorted(points, key=lambda point: point[1])] == [0, 0, 1, 1]


def test_settings_of_one_point_each_are_rows_whose_names_do_not_overlap(tmp_path: Path) -> None:
    settings = {"federation.clients_per_round": [5, 10], "partition": [f"dirichlet(alpha=0.{n})" for n in range(7)]}
    (figure,) = drawn(tmp_path, write_cells(tmp_path, 1, seeds=1, **settings))
    (axes,) = figure.axes
    figure.draw_without_rendering()
    rows = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert len(rows) == len(axes.lines) == 14
    assert "alpha=0.0" in axes.get_yticklabels()[0].get_text()
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(rows))


def test_titles_of_many_panels_of_points_do_not_reach_into_others(tmp_path: Path) -> None:
    settings = {"federation.clients_per_round": [5, 10], "partition": [f"dirichlet(alpha=0.{n})" for n in range(6)]}
    settings["model"] = ["resnet20(norm=gn, width=8)", "resnet20(norm=gn, width=16)"]
    figure, *_ = drawn(tmp_path, write_cells(tmp_path, 1, seeds=1, **settings, attack=["label_flip"]))
    figure.draw_without_rendering()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    titles = [axes.title.get_window_extent() for axes in figure.axes]
    assert not any(box.overlaps(title) for box in boxes for title in titles)


def test_a_cell_without_history_counts_with_its_final_accuracy(tmp_path: Path) -> None:
    records = write_cells(tmp_path, 1, attack=["none"], defense=["mean"])
    for entry in records:
        (tmp_path / entry["id"] / "rounds.jsonl").unlink()
    (figure,) = drawn(tmp_path, records)
    assert figure.axes[0].lines[0].get_xdata() == pytest.approx([2])


def test_histories_may_be_cut_short_and_evaluated_rarely(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    log = tmp_path / "a" / "rounds.jsonl"
    log.write_text('{"round": 1, "accuracy": null}\n{"round": 2, "accuracy": 0.25}\n\n{"round": 3, "accura')
    assert figures.history(tmp_path, "a") == {2: 0.25}
    assert figures.history(tmp_path, "missing") == {}
    log.write_bytes(b"\xfb" + log.read_bytes())
    assert figures.history(tmp_path, "a") == {}


def test_only_rounds_that_all_seeds_have_are_averaged(tmp_path: Path) -> None:
    records = write_cells(tmp_path, 4, attack=["none"], defense=["mean"])
    (tmp_path / "0" / "rounds.jsonl").write_text('{"round": 2, "accuracy": 0.5}\n{"round": 3, "accuracy": 0.5}\n')
    (figure,) = drawn(tmp_path, records)
    assert figure.axes[0].lines[0].get_xdata().tolist() == [2, 3]


def test_failed_cells_are_left_out_and_nothing_gives_no_file(tmp_path: Path) -> None:
    records = write_cells(tmp_path, 3, attack=["none"], defense=["mean", "median"])
    for entry in records[:3]:
        entry.update(status="failed", metrics={})
    (figure,) = drawn(tmp_path, records)
    assert len(figure.axes[0].lines) == 1
    for entry in records:
        entry.update(status="failed", metrics={})
    assert report.draw_curves(tmp_path, records) == []
    assert not (tmp_path / "accuracy.png").exists()


@pytest.mark.parametrize(("rounds", "settings", "defenses"), [(4, 5, 12), (1, 3, 12), (4, 1, 1)])
def test_large_matrices_are_drawn_without_a_warning(tmp_path: Path, rounds: int, settings: int, defenses: int) -> None:
    names = ["_hidden", "100 $ off $", *(f"defense_{number}" for number in range(defenses))][:defenses]
    records = write_cells(
        tmp_path,
        rounds,
        1,
        **{"partition.alpha": list(range(settings))},
        attack=["none", ATTACKED, "sign"],
        defense=names,
    )
    paths = report.draw_curves(tmp_path, records)
    assert [path.name for path in paths] == ["accuracy.png", "accuracy-2.png"][: 2 if settings == 5 else 1]
    assert all(map(is_png, paths))


def test_names_appear_as_they_are(tmp_path: Path) -> None:
    names = ["_hidden", "100 $ off $"]
    (figure,) = drawn(tmp_path, write_cells(tmp_path, 2, attack=["none", "$x$"], defense=names))
    assert [text.get_text().strip() for text in figure.legends[0].get_texts()] == ["_hidden", r"100 \$ off \$"]
    assert figure.axes[1].get_title() == r"\$x\$"


def test_looks_are_distinct() -> None:
    looks = [tuple(figures.look(number).items()) for number in range(14)]
    assert len(set(looks)) == 14


def write_partition(root: Path, name: str, counts: list[list[int]], seed: int = 0, **options: Any) -> dict[str, Any]:
    folder = root / name
    folder.mkdir(parents=True)
    partition = {"name": "dirichlet", "clients": len(counts), "options": options}
    classes = [f"class {number}" for number in range(len(counts[0]))]
    content = {"counts": counts, "classes": classes, "partition": partition, "seed": seed}
    (folder / "partition.json").write_text(json.dumps(content))
    return {"id": name, "cell": {}, "status": "done", "metrics": {}}


@pytest.mark.parametrize("clients", [3, 200])
def test_quantiles_of_targets_are_called_no_classes(clients: int) -> None:
    content = {"counts": [[2, 1]] * clients, "classes": ["quantile 1 of 2", "quantile 2 of 2"]}
    for quantiles, kind in ((2, "quantile"), (None, "class")):
        figure = partition_figure.draw_partition({**content, "partition": {"name": "iid", "quantiles": quantiles}})
        grid = figure.axes[1]
        assert grid.get_ylabel() == kind
        assert grid.get_xlabel() in ("client", f"clients, those of the same main {kind} side by side")


def test_partitions_are_drawn_once_for_each_setting(tmp_path: Path) -> None:
    records = [
        write_partition(tmp_path, "a", [[3, 0], [1, 4]], alpha=0.5),
        write_partition(tmp_path, "same cell with another attack", [[3, 0], [1, 4]], alpha=0.5),
        write_partition(tmp_path, "another seed", [[2, 2], [1, 3]], seed=1, alpha=0.5),
        write_partition(tmp_path, "another seed of a part of the data", [[2, 3], [2, 1]], seed=2, alpha=0.5),
        write_partition(tmp_path, "another alpha", [[2, 2], [2, 2]], alpha=9.0),
        write_partition(tmp_path, "centralized", [[4, 4]], alpha=9.0),
        {"id": "failed early", "cell": {}, "status": "failed", "metrics": {}},
    ]
    records.append(write_partition(tmp_path, "other data", [[2, 2], [2, 2]], alpha=9.0) | {"cell": {"dataset": "b"}})
    paths = report.draw_partitions(tmp_path, records)
    assert [path.name for path in paths] == ["partition.png", "partition-2.png", "partition-3.png"]
    assert all(map(is_png, paths))
    assert report.draw_partitions(tmp_path, records[-2:-1]) == []


@pytest.mark.parametrize(("clients", "classes"), [(5, 10), (100, 10), (100, 100), (2, 2)])
def test_areas_are_proportional_to_counts_and_circles_do_not_overlap(clients: int, classes: int) -> None:
    counts = np.random.default_rng(0).integers(0, 50, (clients, classes))
    counts[0, 0] = 0
    settings = {"name": "dirichlet", "options": {"alpha": 0.5, "family": "per_class", "min_per_client": 10}}
    partition = {"counts": counts.tolist(), "classes": list(range(classes)), "partition": settings, "seed": 3}
    figure = partition_figure.draw_partition(partition)
    figure.draw_without_rendering()
    totals, grid = figure.axes
    sizes = np.concatenate([np.repeat(points.get_sizes(), len(points.get_offsets())) for points in grid.collections])
    where = np.concatenate([points.get_offsets().data.astype(int) for points in grid.collections])
    assert np.allclose(sizes / counts[where[:, 0], where[:, 1]], sizes.max() / counts.max())
    assert len(where) == np.count_nonzero(counts)
    assert [bar.get_height() for bar in totals.patches] == counts.sum(axis=1).tolist()
    diameter = np.sqrt(sizes.max()) * figure.dpi / 72
    box = grid.get_window_extent()
    assert diameter <= min(box.width / clients, box.height / classes)
    title = totals.title.get_window_extent()
    assert title.x1 <= figure.bbox.x1
    assert "seed 3" in totals.get_title(loc="left")


def test_of_very_many_sizes_circles_are_rounded_by_less_than_one_sees() -> None:
    counts = np.random.default_rng(0).integers(1, 5_000, (100, 10))
    partition = {"counts": counts.tolist(), "classes": list(range(10))}
    _, grid = partition_figure.draw_partition(partition).axes
    assert len(grid.collections) <= 64
    for points in grid.collections:
        where = points.get_offsets().data.astype(int)
        widths = np.sqrt(points.get_sizes() / grid.collections[-1].get_sizes())
        exact = np.sqrt(counts[where[:, 0], where[:, 1]] / counts.max())
        assert np.all(np.abs(widths - exact) <= 1 / 64)


def test_clients_of_one_size_are_not_called_a_range() -> None:
    partition = {"counts": [[2, 3], [4, 1]], "classes": ["a", "b"]}
    title = partition_figure.draw_partition(partition).axes[0].get_title(loc="left")
    assert "2 clients with 5 examples each" in title


def test_many_clients_are_drawn_as_shades_of_one_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(30, [0, *[1 / 9] * 9], 10_000)
    counts[:5000] = [40] + [0] * 9
    partition = {"counts": counts.tolist(), "classes": list("abcdefghij"), "partition": {"name": "iid"}, "seed": 3}
    figure = partition_figure.draw_partition(partition)
    assert (figure.get_size_inches() * 150).max() < 2000
    totals, grid, _ = figure.axes
    (image,) = grid.images
    shades = image.get_array()
    assert shades.shape == (10, partition_figure._COLUMNS)
    assert np.allclose(shades.sum(axis=0), 1)
    assert np.allclose(shades[0, : partition_figure._COLUMNS // 2 - 10], 1)  # clients of nothing but the first class
    assert totals.lines[0].get_ydata()[[0, -1]].tolist() == [40, 30]
    assert "10,000 clients with 30 to 40 examples" in totals.get_title(loc="left")
    assert "circle" not in totals.get_title(loc="left")


def test_drawing_needs_no_display_and_no_pyplot(tmp_path: Path) -> None:
    records = write_cells(tmp_path, 2, attack=["none"], defense=["mean"])
    code = (
        "import json, sys; from pathlib import Path; from fedsec.report import run_report; "
        "paths = run_report.draw_curves(Path(sys.argv[1]), json.loads(sys.argv[2])); "
        "assert len(paths) == 1; assert 'matplotlib.pyplot' not in sys.modules; assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), json.dumps(records)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
