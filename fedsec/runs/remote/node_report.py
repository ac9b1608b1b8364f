"""What a node is asked before a run begins there. Sent to it as it is: the node may have another fedsec, or none."""

from collections.abc import Iterator
from typing import Any


def node_report(
    expected: dict[str, str], marks: list[str], questions: list[dict[str, Any]], directory: str
) -> Iterator[dict[str, Any]]:
    """Look around on a node.

    Args:
        expected: versions by package.
        marks: files in folders that the node may or may not see.
        questions: tasks of kind `look`, as plain data, asked only where the versions are the expected ones.
        directory: where the run was started, see `fedsec.runs.remote.service`.

    Yields:
        Once: `problems`, what the node lacks, a line each; `sees`, whether it sees each of the files.
    """
    from importlib import metadata
    from pathlib import Path

    problems = []
    for package, version in expected.items():
        try:
            present = f"has {package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            present = f"has no {package}"
        if present != f"has {package} {version}":
            problems.append(f"{present}, expected {version}")
    if not problems and questions:
        from fedsec.runs.remote.service import missing_pieces

        problems = missing_pieces(questions, directory)
    yield {"problems": problems, "sees": [Path(mark).is_file() for mark in marks]}


def gpu_report() -> Iterator[str]:
    """The name of the GPU that a task is given on a node."""
    import torch

    yield torch.cuda.get_device_name() if torch.cuda.is_available() else ""
