"""The picture of the trade: which defenses none beats, what is drawn of them, and when there is nothing to draw."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsec.report import run_report as report
from fedsec.report import tradeoff_figure
from fedsec.report.tradeoff_figure import front

# Few different numbers, so that points often agree in one or both.
NUMBERS = st.integers(0, 4).map(float)
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=9)


def better(one: tuple[float, float], other: tuple[float, float], *, rising: bool) -> bool:
    """Whether one point beats another; written out case by case."""
    leaks_less = one[0] < other[0] if rising else one[0] > other[0]
    leaks_as_much = one[0] == other[0]
    if leaks_less:
        return one[1] >= other[1]
    return leaks_as_much and one[1] > other[1]


@given(POINTS, st.booleans())
def test_the_front_is_what_nobody_beats(points: list[tuple[float, float]], rising: bool) -> None:
    found = front(points, rising=rising)
    unbeaten = {place for place, point in enumerate(points) if not any(better(o, point, rising=rising) for o in points)}
    assert set(found) == unbeaten
    assert len(found) == len(unbeaten)
    assert bool(found) == bool(points)


@given(POINTS, st.booleans())
def test_along_the_front_more_accuracy_leaks_more(points: list[tuple[float, float]], rising: bool) -> None:
    stairs = [points[place] for place in front(points, rising=rising)]
    assert [leakage for leakage, _ in stairs] == sorted(leakage for leakage, _ in stairs)
    accuracies = [accuracy for _, accuracy in stairs]
    assert accuracies == sorted(accuracies, reverse=not rising)


def test_a_front_by_hand() -> None:
    points = [(0.9, 0.8), (0.5, 0.7), (0.6, 0.7), (0.2, 0.1)]
    assert front(points, rising=True) == [3, 1, 0]
    assert front(points, rising=False) == [0]
    assert front([(0.5, 0.7), (0.5, 0.7)], rising=True) == [0, 1]  # neither beats the other


# The figure


def record(defense: str, seed: int = 0, *, privacy: bool = True, status: str = "done", **more: Any) -> dict[str, Any]:
    cell = {"attack": more.pop("attack", "dlg"), "defense": defense, "seed": seed, **more.pop("axes", {})}
    inverts = {"name": "dlg", "target": {"client": 0, "rounds": [1]}} if privacy else {"name": "none", "target": None}
    return {
        "id": "-".join(map(str, cell.values())),
        "cell": cell,
        "status": status,
        "metrics": more,
        "error": None,
        "config": {"attack": inverts},
    }


def leaking(defense: str, seed: int, accuracy: float, ssim: float, **more: Any) -> dict[str, Any]:
    return record(defense, seed, **{"accuracy": accuracy, "ssim": ssim, "ssim_gray": 0.1, "lpips": None, **more})


TWO_SEEDS = [
    leaking("mean", 0, 0.90, 0.80),
    leaking("mean", 1, 0.92, 0.84),
    leaking("dp_sgd", 0, 0.70, 0.20, epsilon=3.0),
    leaking("dp_sgd", 1, 0.74, 0.22, epsilon=3.5),
    leaking("worse", 0, 0.60, 0.50, user_epsilon=8.0),
    leaking("worse", 1, 0.60, 0.50, user_epsilon=8.0),
]


def drawn(root: Path, records: list[dict[str, Any]]) -> list[Any]:
    """The panels that `draw_tradeoff` saves."""
    saved = tradeoff_figure.tradeoff_figures(records)
    names = [path.name for path in report.draw_tradeoff(root, records)]
    assert names == ["tradeoff.png"] * len(saved)
    return [axes for figure in saved for axes in figure.axes if axes.get_visible()]


def points(axes: Any) -> dict[str, tuple[float, float]]:
    """Name -> (leakage, accuracy) of the points with error bars."""
    found = {}
    for container in axes.containers:
        line = container.lines[0]
        found[container.get_label()] = (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
    return found


def test_a_point_for_each_defense_with_its_epsilon(tmp_path: Path) -> None:
    (axes,) = drawn(tmp_path, TWO_SEEDS)
    assert points(axes) == {
        "mean": (pytest.approx(0.82), pytest.approx(91)),
        "dp_sgd\nepsilon 3.25 (example)": (pytest.approx(0.21), pytest.approx(72)),
        "worse\nepsilon 8 (client)": (pytest.approx(0.5), pytest.approx(60)),
    }
    assert axes.get_title() == "attack=dlg"
    assert axes.get_xlabel() == "SSIM of reconstructions (more leaks to the right)"
    assert axes.get_ylabel() == "accuracy (%)"
    assert {text.get_text() for text in axes.texts} - {""} == {*points(axes), "a gray image"}
    assert axes.get_legend() is None


def test_many_points_are_named_in_a_legend(tmp_path: Path) -> None:
    many = [leaking(f"d{number}", 0, 0.5 + 0.01 * number, 0.02 * number) for number in range(15)]
    (axes,) = drawn(tmp_path, many)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert set(texts) == {*points(axes), "a gray image"}
    assert len(texts) == 16
    assert not axes.texts


def test_bars_are_intervals_over_seeds_and_stairs_join_the_front(tmp_path: Path) -> None:
    (axes,) = drawn(tmp_path, TWO_SEEDS)
    (across, up) = axes.containers[0].lines[2]
    ((left, right),) = across.get_segments()
    ((low, high),) = up.get_segments()
    assert (left[0], right[0]) == pytest.approx((0.80, 0.84))
    assert (low[1], high[1]) == pytest.approx((90, 92))
    stairs, gray = (line for line in axes.lines if line.get_linestyle() in ("-", ":"))
    assert sorted(zip(stairs.get_xdata(), stairs.get_ydata(), strict=True)) == [
        (pytest.approx(0.21), pytest.approx(72)),
        (pytest.approx(0.82), pytest.approx(91)),
    ]
    assert stairs.get_drawstyle() == "steps-post"
    assert gray.get_xdata() == pytest.approx([0.1, 0.1])


def test_lpips_is_chosen_when_all_have_it(tmp_path: Path) -> None:
    records = [
        leaking("mean", 0, 0.9, 0.8, lpips=0.1),
        leaking("noise", 0, 0.7, 0.2, lpips=0.6),
        leaking("worse", 0, 0.6, 0.7, lpips=0.3),
    ]
    (axes,) = drawn(tmp_path, records)
    assert axes.get_xlabel() == "LPIPS of reconstructions (more leaks to the left)"
    assert points(axes) == {
        "mean": (0.1, pytest.approx(90)),
        "noise": (0.6, pytest.approx(70)),
        "worse": (0.3, pytest.approx(60)),
    }
    assert not [line for line in axes.lines if line.get_linestyle() == ":"]  # gray's LPIPS is not measured
    (stairs,) = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert sorted(stairs.get_xdata()) == [0.1, 0.6]
    assert stairs.get_drawstyle() == "steps-pre"
    records[1]["metrics"]["lpips"] = None
    (axes,) = drawn(tmp_path, records)
    assert axes.get_xlabel().startswith("SSIM")


def test_a_panel_for_each_setting_and_attack(tmp_path: Path) -> None:
    records = [
        leaking(defense, 0, 0.5 + 0.1 * place, 0.2 + 0.1 * place, attack=attack, axes={"model": "$x$"})
        for place, defense in enumerate(("mean", "prune"))
        for attack in ("dlg", "idlg")
    ]
    panels = drawn(tmp_path, [*records, leaking("mean", 0, 0.5, 0.5, attack="alone", axes={"model": "$x$"})])
    assert [axes.get_title() for axes in panels] == [f"attack={attack}, model=\\$x\\$" for attack in ("dlg", "idlg")]


def test_settings_of_one_defense_each_stand_in_one_panel(tmp_path: Path) -> None:
    """Larger batches are a defense too, compared with all the others."""
    records = [
        leaking("mean", 0, 0.9, 0.8, axes={"partition": "4 images", "model": "mlp"}),
        leaking("clip", 0, 0.8, 0.8, axes={"partition": "4 images", "model": "mlp"}),
        leaking("mean", 0, 0.9, 0.5, axes={"partition": "16 images", "model": "mlp"}),
    ]
    (axes,) = drawn(tmp_path, records)
    assert axes.get_title() == "attack=dlg, model=mlp, partition=4 images unless said"
    assert {name: x for name, (x, _) in points(axes).items()} == {"mean": 0.8, "clip": 0.8, "mean (16 images)": 0.5}


def test_a_long_legend_has_room(tmp_path: Path) -> None:
    heights = []
    for number in (15, 30):
        records = [leaking(f"defense {place}", 0, 0.9, 0.5, epsilon=1.0) for place in range(number)]
        (axes,) = drawn(tmp_path, records)
        figure = axes.figure
        figure.draw_without_rendering()
        heights.append(figure.get_figheight())
        assert axes.get_legend().get_window_extent().y0 >= 0
    assert heights[0] < heights[1]


def test_each_defense_is_judged_by_its_best_attacker(tmp_path: Path) -> None:
    seen = {
        ("dlg", "mean"): (30, 0.9),
        ("idlg", "mean"): (20, 0.6),
        ("dlg", "clip"): (8, 0.3),
        ("idlg", "clip"): (9, 0.2),
    }
    records = [
        leaking(defense, 0, 0.9, ssim, attack=attack, psnr=psnr) for (attack, defense), (psnr, ssim) in seen.items()
    ]
    (axes,) = drawn(tmp_path, records)
    assert axes.get_title() == "the best attacker of each defense"
    assert {name: x for name, (x, _) in points(axes).items()} == {"mean\nby dlg": 0.9, "clip\nby idlg": 0.2}


def test_attackers_who_know_something_else_have_a_panel_of_their_own(tmp_path: Path) -> None:
    records = [
        leaking(defense, 0, 0.9, 0.5, attack="", psnr=10 * place, axes={"attack.name": name, "attack.knowledge": known})
        for defense in ("mean", "clip")
        for place, (name, known) in enumerate((name, known) for name in ("dlg", "idlg") for known in ("naive", "told"))
    ]
    for each in records:
        del each["cell"]["attack"]
        each["config"]["attack"]["knowledge"] = {"defense": each["cell"]["attack.knowledge"] == "told"}
    panels = drawn(tmp_path, records)
    assert [axes.get_title() for axes in panels] == [
        f"attack.knowledge={known}, the best attacker of each defense" for known in ("naive", "told")
    ]
    assert all(set(points(axes)) == {"mean\nby idlg", "clip\nby idlg"} for axes in panels)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record("mean", accuracy=0.9, privacy=False), record("median", accuracy=0.8, privacy=False)],
        [leaking("mean", 0, 0.9, 0.8), leaking("mean", 1, 0.9, 0.7)],
        [leaking("mean", 0, 0.9, 0.8), leaking("noise", 0, 0.9, 0.7, status="failed")],
        [leaking("mean", 0, 0.9, 0.8), record("noise", accuracy=0.5, ssim=None, lpips=None)],
    ],
    ids=["nothing", "nothing inverted", "one defense", "a failure", "nothing reconstructed"],
)
def test_without_anything_to_compare_there_is_no_file(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    assert report.draw_tradeoff(tmp_path, records) == []
    assert not list(tmp_path.iterdir())


def test_the_file_is_a_picture(tmp_path: Path) -> None:
    (path,) = report.draw_tradeoff(tmp_path, TWO_SEEDS)
    assert path == tmp_path / "tradeoff.png"
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
