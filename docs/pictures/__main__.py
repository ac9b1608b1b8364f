"""Makes the pictures of docs/images/ again: all of them, or those that are named.

uv run python docs/pictures --list          # what each picture is made of, and how long that takes
uv run python docs/pictures byzantine_zoo   # one of them
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib as mpl
import report
import results
import threats

IMAGES = Path(__file__).parents[1] / "images"


@dataclass(frozen=True)
class Picture:
    """How a picture is made.

    Args:
        source: of what, and how long it takes.
        draw: writes it to a path.
    """

    source: str
    draw: Callable[[Path], None]


def of_command(path: Path, *, made: str, command: str) -> None:
    """Copy what a command of fedsec draws, which is run first unless its run is there already."""
    if not Path(made).exists():
        subprocess.run([sys.executable, "-m", "fedsec", *command.split()], check=True)
    shutil.copyfile(made, path)


def command_picture(command: str, made: str, takes: str) -> Picture:
    """A picture that a command writes by itself."""
    return Picture(f"`fedsec {command}`, {takes}", partial(of_command, made=made, command=command))


PICTURES = {
    "parties.svg": Picture("drawn", threats.parties),
    "byzantine_clients.svg": Picture("drawn", threats.byzantine),
    "curious_server.svg": Picture("drawn", threats.curious_server),
    "privacy_promises.svg": Picture("drawn", threats.promises),
    "byzantine_zoo.png": Picture("docs/results/byzantine_zoo.csv", results.byzantine_zoo),
    "inversion_features.png": Picture("docs/results/inversion_features.csv", results.inversion_features),
    "quickstart.png": command_picture("run quickstart", "runs/quickstart/accuracy.png", "a minute"),
    "imprint_batch64.png": command_picture(
        "invert --inversion imprint --dataset cifar10 --batch-size 64 --auxiliary 1000 --out runs/imprint64",
        "runs/imprint64/reconstruction.png",
        "seconds; CIFAR-10",
    ),
    "report.png": Picture("`fedsec run quickstart`, a minute, in Chromium", report.quickstart),
    "tradeoff.png": Picture("docs/results/privacy_fmnist.csv", results.tradeoff),
    "byzantine_fmnist_gd_small.png": command_picture(
        "run byzantine_fmnist_gd_small", "runs/byzantine_fmnist_gd_small/accuracy.png", "forty minutes; Fashion-MNIST"
    ),
    "invert.png": command_picture(
        "invert --batch-size 2 --out runs/invert", "runs/invert/reconstruction.png", "half a minute"
    ),
    "inversion_batch8.png": command_picture(
        "invert --inversion decoupled --dataset cifar10 --batch-size 8 --trials 5 --seed 11 --out runs/invert_batch8",
        "runs/invert_batch8/reconstruction.png",
        "minutes; CIFAR-10",
    ),
}
"""Every file of docs/images/, and what it is made of."""


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="without the ending; all by default")
    parser.add_argument("--list", action="store_true", help="say what each is made of, and make none")
    options = parser.parse_args()
    if unknown := set(options.names) - {name.rpartition(".")[0] for name in PICTURES}:
        parser.error(f"no such picture: {', '.join(sorted(unknown))}; --list names them")
    mpl.rcParams["svg.hashsalt"] = "fedsec"  # the same bytes each time
    for name, picture in PICTURES.items():
        if options.list:
            print(f"{name:32} {picture.source}")
        elif not options.names or name.rpartition(".")[0] in options.names:
            picture.draw(IMAGES / name)
            print(f"wrote {IMAGES / name}")


if __name__ == "__main__":
    main()
