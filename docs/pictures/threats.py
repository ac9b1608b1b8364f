"""Threat models, drawn: who stands where in a federation, what each sees, and what each may change."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

HONEST, ATTACKER, READER, SERVER, QUIET = "#0072B2", "#D55E00", "#882255", "#444444", "#777777"
"""Colors that people who confuse red and green tell apart; every box says in words what it is, too."""


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing, one unit an inch."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def box(axes: Axes, x: float, y: float, text: str, color: str = HONEST, size: tuple[float, float] = (1.5, 0.7)) -> None:
    """A box with a text, its middle at x, y."""
    width, height = size
    shape = FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.1", lw=1.6
    )
    shape.set(edgecolor=color, facecolor=f"{color}14")
    axes.add_patch(shape)
    axes.text(x, y, text, ha="center", va="center", fontsize=10, color="black", linespacing=1.25)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = QUIET, style: str = "-"
) -> None:
    """An arrow; dashed ones are looks, not messages."""
    look = {"arrowstyle": "-|>", "color": color, "lw": 1.5, "linestyle": style, "mutation_scale": 13}
    axes.annotate("", xy=end, xytext=start, arrowprops=look)


def note(axes: Axes, x: float, y: float, text: str, color: str = "black", align: str = "left") -> None:
    """A line or two beside what they are about."""
    axes.text(x, y, text, ha=align, va="center", fontsize=9.5, color=color, linespacing=1.3)


def parties(path: Path) -> None:
    """The whole federation, and the places from which it can be attacked."""
    figure, axes = canvas(9.2, 5.6)
    box(axes, 4.6, 4.2, "server\ncombines the updates", SERVER, (2.3, 0.8))
    for number, x in enumerate((1.4, 3.2, 5.0)):
        box(axes, x, 1.2, f"client {number}\nits own images", HONEST, (1.5, 0.8))
        arrow(axes, (x + 0.12, 1.65), (4.3 + 0.3 * number, 3.75))
        arrow(axes, (4.05 + 0.3 * number, 3.75), (x - 0.12, 1.65), "#BBBBBB")
    box(axes, 7.2, 1.2, "client 3\nBYZANTINE", ATTACKER, (1.7, 0.8))
    arrow(axes, (7.1, 1.65), (5.4, 3.75), ATTACKER)
    note(axes, 1.15, 2.95, "updates up,\nmodels down", QUIET, "center")
    arrow(axes, (5.1, 3.75), (6.85, 1.65), "#BBBBBB")
    note(axes, 7.2, 0.45, "1  sends whatever it likes", ATTACKER, "center")
    note(axes, 6.05, 4.6, "2  CURIOUS SERVER\n    follows the protocol, and looks\n    at each update it gets", READER)
    note(axes, 6.5, 2.75, "3  EAVESDROPPER\n    sees what a link carries", READER)
    arrow(axes, (6.45, 2.85), (6.02, 2.95), READER, "--")
    box(axes, 1.4, 4.2, "whoever gets\nthe model", QUIET, (1.6, 0.8))
    arrow(axes, (3.4, 4.2), (2.25, 4.2))
    note(axes, 0.6, 5.05, "4  sees the released models alone", READER)
    figure.savefig(path)


def byzantine(path: Path) -> None:
    """What a Byzantine client may change, and what it may know when it does."""
    figure, axes = canvas(9.2, 3.9)
    for x, text, what in (
        (1.2, "its images\nand labels", "label_flip, backdoor,\nnoise_inputs"),
        (3.6, "its training", "neurotoxin, a3fl,\nmodel_replacement"),
        (6.0, "its update", "sign_flip, alie, ipm,\nmin_max, auto"),
    ):
        box(axes, x, 3.0, text, ATTACKER, (1.6, 0.8))
        note(axes, x, 2.2, what, ATTACKER, "center")
    arrow(axes, (2.05, 3.0), (2.75, 3.0), ATTACKER)
    arrow(axes, (4.45, 3.0), (5.15, 3.0), ATTACKER)
    arrow(axes, (6.85, 3.0), (7.55, 3.0), ATTACKER)
    box(axes, 8.3, 3.0, "server's\nrule", SERVER, (1.4, 0.8))
    note(axes, 0.4, 1.45, "What it knows is a setting of the attack, and withheld from it otherwise:")
    for y, word, meaning in (
        (1.05, "own", "the model it received, and what its own clients would have sent"),
        (0.70, "omniscient", "the honest clients' updates of this round, too"),
        (
            0.35,
            "knows the defense",
            "(adaptive, auto) the server's rule with its settings and memory, not what it will draw",
        ),
    ):
        note(axes, 0.6, y, word, ATTACKER)
        note(axes, 2.3, y, meaning)
    figure.savefig(path)


def curious_server(path: Path) -> None:
    """What an inversion is given of a client, and what it is not."""
    figure, axes = canvas(9.2, 3.6)
    note(axes, 0.4, 3.3, "AT THE CLIENT", HONEST)
    box(axes, 1.2, 2.5, "images\nand labels", HONEST, (1.4, 0.8))
    box(axes, 3.1, 2.5, "training", HONEST, (1.3, 0.8))
    box(axes, 5.0, 2.5, "defense\n(clip, noise, ...)", HONEST, (1.6, 0.8))
    arrow(axes, (1.95, 2.5), (2.4, 2.5))
    arrow(axes, (3.8, 2.5), (4.15, 2.5))
    arrow(axes, (5.85, 2.5), (6.95, 2.5))
    note(axes, 6.4, 2.72, "update", QUIET, "center")
    axes.plot([6.4, 6.4], [0.2, 2.3], color="#BBBBBB", lw=1, linestyle=":")
    note(axes, 6.65, 3.3, "AT THE SERVER", READER)
    box(axes, 7.9, 2.5, "Observation", READER, (1.8, 0.8))
    arrow(axes, (7.9, 2.05), (7.9, 1.6), READER)
    box(axes, 7.9, 1.2, "images, labels\nas far as they leak", READER, (1.8, 0.8))
    note(axes, 0.4, 1.35, "An Observation holds the model that was sent, the update that came back,")
    note(axes, 0.4, 1.0, "how the client trains, and, where granted, labels, statistics of batch")
    note(axes, 0.4, 0.65, "normalization, and the defense. It has no field for the client's images.")
    note(axes, 7.9, 0.45, "compared with the truth only\nafterwards, to give a score", QUIET, "center")
    figure.savefig(path)


def promises(path: Path) -> None:
    """Whom differential privacy protects from whom, by where the noise is added."""
    figure, axes = canvas(9.2, 3.5)
    for y, name, who, towards in (
        (2.6, "dp_sgd", "one EXAMPLE of one client", "the server, other clients, users of the model"),
        (1.0, "dp_fedavg", "one CLIENT with all its data", "other clients and users, NOT the server"),
    ):
        for x, text, color in ((1.1, "client", HONEST), (4.1, "server", SERVER), (7.1, "released\nmodel", QUIET)):
            box(axes, x, y, text, color, (1.3, 0.65))
        arrow(axes, (1.8, y), (3.4, y))
        arrow(axes, (4.8, y), (6.4, y))
        x = 2.6 if name == "dp_sgd" else 5.6
        axes.plot([x, x], [y - 0.32, y + 0.32], color=READER, lw=3)
        note(axes, x, y + 0.5, f"{name}: noise", READER, "center")
        note(axes, 0.45, y - 0.62, f"protects {who} from {towards}")
        if name == "dp_fedavg":
            note(axes, 2.6, y + 0.2, "as it is", QUIET, "center")
    figure.savefig(path)
