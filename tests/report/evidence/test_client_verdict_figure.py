"""Errors of a rule have the strong colors: an honest client that was left out, an attacker that counted."""

from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch

from fedsec.report.evidence.client_verdict_figure import verdict_figure
from fedsec.report.evidence.client_verdicts import verdict_matrix


def test_colors_say_who_was_wronged_and_who_was_missed() -> None:
    line = {"round": 1, "clients": [0, 1, 2, 3], "byzantine_in_round": [2, 3], "suspected": [0, 2]}
    matrix = verdict_matrix([line])
    assert matrix is not None
    assert matrix.clients == (2, 3, 0, 1)
    figure = verdict_figure([("krum: alie", matrix)])
    rows = {
        to_hex(patch.get_facecolor()): round(float(patch.get_path().vertices[:, 1].mean()))
        for patch in figure.axes[0].patches
        if isinstance(patch, PathPatch) and patch.get_fill()
    }
    labels = {to_hex(handle.get_facecolor()): handle.get_label() for handle in figure.legends[0].get_patches()}
    said = {matrix.clients[row]: labels[color] for color, row in rows.items()}
    assert said == {
        2: "Byzantine, left out: rightly",
        3: "Byzantine, counted",
        0: "honest, left out: wrongly",
        1: "honest, counted",
    }
    strong = {"#0072b2", "#d55e00"}
    assert {matrix.clients[row] for color, row in rows.items() if color in strong} == {0, 3}
