"""What a person sees on a terminal: the commands under a pseudo-terminal of 80 and of 40 columns."""

import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

SMALL = """\
dataset: {name: digits, train_size: 100, test_size: 50}
partition: {clients: 4}
model: logistic
federation: {rounds: 2, local: {steps: 1, batch_size: 10, lr: 0.1}}
matrix: {defense: [{name: trimmed_mean, num_trimmed_per_side: 1}, median]}
expect: [{accuracy: '>= 0'}, {defense: median, accuracy: '>= 1'}]
"""
_MOVES = re.compile(r"\x1b\[\d*[A-H]|\r\n|\r|\n")
_LOOKS = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")


def seen(folder: Path, width: int, *arguments: str, **environment: str) -> tuple[list[str], str, int]:
    """Every line that was ever shown, all that was sent, and the exit code."""
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
    process = subprocess.Popen(
        [sys.executable, "-m", "fedsec", *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=folder,
        env={**plain, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
    )
    os.close(follower)
    sent = b""
    while process.poll() is None or select.select([leader], [], [], 0)[0]:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                sent += os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
    os.close(leader)
    text = sent.decode()
    lines = [_LOOKS.sub("", line).rstrip() for line in _MOVES.split(text)]
    return [line for line in lines if line], text, process.wait()


def test_a_run_from_its_first_moment_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    width = 40
    lines, text, code = seen(tmp_path, width, "run", "small.yaml", "--device", "cpu", "--workers", "1")
    assert code == 1, text
    assert "Traceback" not in text
    records = json.loads((tmp_path / "runs/small/results.json").read_text())
    assert [record["cell"]["defense"] for record in records] == ["trimmed_mean(num_trimmed_per_side=1)", "median"]
    assert all(0 <= record["metrics"]["accuracy"] <= 1 for record in records)
    assert max(map(len, lines)) <= width
    moments = ["reading the scenario", "starting 1 worker", "loading data", "2 of 2 cells", "drawing pictures"]
    places = [next(place for place, line in enumerate(lines) if moment in line) for moment in moments]
    assert places == sorted(places)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h"), "the cursor is left hidden"
    words = " ".join(lines[places[-1] :]).split()
    # Whole words, and names broken nowhere but before their options.
    assert "(num_trimmed_per_side=1)" in words or "trimmed_mean(num_trimmed_per_side=1)" in words
    assert "trimmed_mean" in words or "trimmed_mean(num_trimmed_per_side=1)" in words
    for word in ("runs/small:", "report.html", "accuracy.png"):
        assert any(shown.strip(",") == word or shown.endswith(word) for shown in words)


def test_without_colors_there_are_none_and_a_dumb_terminal_has_no_moving_lines(tmp_path: Path) -> None:
    _, text, _ = seen(tmp_path, 80, "list", "defenses", NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*3\d", text)
    _, text, _ = seen(tmp_path, 80, "show", "krum", TERM="dumb")
    assert "\x1b" not in text


def test_an_inversion_goes_through_the_same_line(tmp_path: Path) -> None:
    options = ("--inversion", "analytic", "--model", "logistic", "--dataset", "digits", "--batch-size", "1")
    lines, text, code = seen(tmp_path, 80, "invert", *options, "--out", "o")
    assert code == 0, text
    assert max(map(len, lines)) <= 80
    moments = ["loading PyTorch", "preparing", "inversion analytic on logistic", "attacking", "measuring and drawing"]
    places = [next(place for place, line in enumerate(lines) if moment in line) for moment in moments]
    assert places == sorted(places)
    assert "…" not in text
    header = next(line for line in lines if line.startswith("image"))
    assert header.split() == ["image", "PSNR", "gray", "mean", "SSIM", "LPIPS", "MSE", "label"]
    assert json.loads((tmp_path / "o/result.json").read_text())["inversion"] == "analytic"
