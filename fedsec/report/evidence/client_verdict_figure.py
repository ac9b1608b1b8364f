"""The picture of client verdicts: clients against rounds, a panel for each defense, those who attack on top."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedsec.report.evidence.client_verdicts import UpdateVerdict, VerdictMatrix
from fedsec.report.figures import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["verdict_figure"]

_ACROSS = 3
_WIDTH, _ROW = 3.4, 0.115
"""Of a panel, and of a client's row, in inches."""
_MOST_CROSSES = 600
_LOOKS = {
    (False, UpdateVerdict.COUNTED): ("#bcd6ea", "honest, counted"),
    (False, UpdateVerdict.COUNTED_LESS): ("#7fb0d8", "honest, less than half a share"),
    (False, UpdateVerdict.LEFT_OUT): ("#0072b2", "honest, left out: wrongly"),
    (True, UpdateVerdict.LEFT_OUT): ("#f4d3bd", "Byzantine, left out: rightly"),
    (True, UpdateVerdict.COUNTED_LESS): ("#ee9d64", "Byzantine, less than half a share"),
    (True, UpdateVerdict.COUNTED): ("#d55e00", "Byzantine, counted"),
}
_CROSS = {False: "#fefefe", True: "#7a3a08"}


def verdict_figure(panels: Sequence[tuple[str, VerdictMatrix]]) -> "Figure":
    """Verdicts over the rounds.

    Honest clients are blue, Byzantine ones orange, on top and above a line; a full color is an error of the rule. Who
    was left out is crossed out as well, as long as crosses can be told apart.

    Args:
        panels: title and verdicts of each.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    rows = max(len(matrix.clients) for _, matrix in panels)
    height = down * (max(1.0, rows * _ROW) + 0.75) + 0.55
    figure = Figure(figsize=(max(across * _WIDTH, 6.4), height), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for position, axes in enumerate(grid.flat):
        axes.set_visible(position < len(panels))
    for number, ((title, matrix), axes) in enumerate(zip(panels, grid.flat, strict=False)):
        _draw(axes, title, matrix)
        if number % across == 0:
            axes.set_ylabel("client", fontsize=8)
        if number + across >= len(panels):
            axes.set_xlabel("round", fontsize=8)
    handles = [Patch(facecolor=color, label=label) for color, label in _LOOKS.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if across > 1 else 2, fontsize=8, frameon=False)
    return figure


def _draw(axes: "Axes", title: str, matrix: VerdictMatrix) -> None:
    rows, columns = matrix.verdicts.shape
    crossed = (matrix.verdicts == UpdateVerdict.LEFT_OUT).sum() <= _MOST_CROSSES and columns <= 60
    for (byzantine, verdict), (color, _) in _LOOKS.items():
        cells = (matrix.verdicts == verdict) & (matrix.byzantine == byzantine)
        _fill(axes, cells, color)
        if verdict == UpdateVerdict.LEFT_OUT and crossed and cells.any():
            _cross(axes, cells, _CROSS[byzantine])
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.axhline(matrix.attackers - 0.5, color="black", linewidth=1)
    every = -(-columns // 5)
    axes.set_xticks(range(0, columns, every), [str(number) for number in matrix.rounds[::every]], fontsize=7)
    axes.set_yticks(range(rows), [str(client) for client in matrix.clients], fontsize=6 if rows <= 20 else 5)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    axes.set_title(plain("\n".join(textwrap.wrap(title, 44))), fontsize=8)


def _fill(axes: "Axes", cells: NDArray[np.bool_], color: str) -> None:
    """All cells as one shape, those side by side in one piece."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    pieces = []
    for row, along in enumerate(cells):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], along, [False]]).astype(np.int8)))
        for start, end in edges.reshape(-1, 2):
            left, right, low, high = start - 0.5, end - 0.5, row - 0.44, row + 0.44
            pieces.append(Path([(left, low), (right, low), (right, high), (left, high), (left, low)], closed=True))
    if pieces:
        path = Path.make_compound_path(*pieces)
        axes.add_patch(PathPatch(path, facecolor=color, edgecolor="none", linewidth=0))


def _cross(axes: "Axes", cells: NDArray[np.bool_], color: str) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    strokes = [
        Path([(column - 0.22, row - 0.26 * way), (column + 0.22, row + 0.26 * way)])
        for row, column in zip(*map(np.ndarray.tolist, np.nonzero(cells)), strict=True)
        for way in (1, -1)
    ]
    axes.add_patch(PathPatch(Path.make_compound_path(*strokes), fill=False, edgecolor=color, linewidth=0.7))
