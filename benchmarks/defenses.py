"""What defenses of a single update hide: from an attacker who does not know them, and from one who does.

Each row is one `fedsec invert` on the same images: Inverting Gradients against an untrained LeNet on single CIFAR-10
images with their labels granted, as in Geiping et al. (NeurIPS 2020, arXiv:2003.14053); the defenses are those of Huang
et al. (NeurIPS 2021, arXiv:2112.00059) that change updates, and more. Prints a table and writes one line a row; rows
that the file has already are left out. Run it with

    uv run python benchmarks/defenses.py docs/results/inversion_defenses.csv

which takes a quarter of an hour on one core; `--trials 2 --iterations 20` shows that it works.
"""

import argparse
import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import stdev
from typing import Any

DEFENSES = {
    "none": None,
    "clipping": {"name": "clip", "max_norm": 0.01},
    "pruning 0.7": {"name": "prune", "ratio": 0.7},
    "pruning 0.9": {"name": "prune", "ratio": 0.9},
    "pruning 0.99": {"name": "prune", "ratio": 0.99},
    "noise 1": {"name": "gaussian_noise", "std": 1.0, "relative": True},
    "noise 3": {"name": "gaussian_noise", "std": 3.0, "relative": True},
    "quantization, 2 bits": {"name": "quantize", "bits": 2},
    "signs": {"name": "sign"},
    "Soteria 0.8": {"name": "soteria", "ratio": 0.8},
}
NORMALIZATION = "{mean: [0.4914, 0.4822, 0.4465], std: [0.2470, 0.2435, 0.2616]}"
FIELDS = ("row", "defense", "adaptive", "iterations", "images", "psnr", "psnr_std", "psnr_gray", "ssim", "recovered")


def command(defense: dict[str, Any] | None, *, adaptive: bool, trials: int, iterations: int, folder: str) -> list[str]:
    """One row's command line."""
    options = f"--inversion inverting_gradients --dataset cifar10 --batch-size 1 --labels --trials {trials}"
    parts = ["invert", *options.split(), "--iterations", str(iterations), "--normalization", NORMALIZATION]
    if defense is not None:
        parts += ["--defense", json.dumps(defense), "--defense-known" if adaptive else "--defense-unknown"]
    return [*parts, "--out", folder, "--json"]


def main() -> None:
    """Measure what the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the CSV file")
    parser.add_argument("--trials", type=int, default=20, help="images (default 20)")
    parser.add_argument("--iterations", type=int, default=1200, help="of each attack (default 1200)")
    parser.add_argument("--folder", default="inversions", help="where runs go (default inversions)")
    options = parser.parse_args()
    rows = list(csv.DictReader(options.out.open())) if options.out.exists() else []
    if any(int(row["images"]) != options.trials for row in rows):
        parser.error(f"{options.out} has rows of other trials than {options.trials}")
    done = {(row["row"], row["adaptive"]) for row in rows}
    with options.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        for name, defense in DEFENSES.items():
            for adaptive in (False, True):
                if (name, str(adaptive)) in done or (adaptive and defense is None):
                    continue
                folder = f"{options.folder}/defense-{name.replace(' ', '-').replace(',', '')}-{adaptive}"
                parts = command(
                    defense, adaptive=adaptive, trials=options.trials, iterations=options.iterations, folder=folder
                )
                print("fedsec", shlex.join(parts), file=sys.stderr, flush=True)
                found = json.loads(
                    subprocess.run([sys.executable, "-m", "fedsec", *parts], stdout=-1, check=True).stdout
                )
                metrics, scores = found["metrics"], [image["psnr"] for image in found["images"]]
                row = {name: round(metrics[name], 4) for name in ("psnr", "psnr_gray", "ssim", "recovered")}
                row |= {"row": name, "defense": json.dumps(defense), "adaptive": adaptive}
                row |= {"iterations": found["iterations"], "images": len(scores)}
                row |= {"psnr_std": round(stdev(scores), 4) if len(scores) > 1 else None}
                writer.writerow(row)
                file.flush()
    print("| defense | attacker | PSNR, dB | SSIM | recovered |\n|---|---|---|---|---|")
    for row in csv.DictReader(options.out.open()):
        who = "knows it" if row["adaptive"] == "True" else "does not know it"
        spread = f"{float(row['psnr']):.1f} ± {float(row['psnr_std'] or 'nan'):.1f}"
        print(f"| {row['row']} | {who} | {spread} | {float(row['ssim']):.3f} | {float(row['recovered']):.0%} |")


if __name__ == "__main__":
    main()
