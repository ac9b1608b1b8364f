"""LEAF's files: JSON in train/ and test/, examples by user.

Each file is `{"users": [...], "num_samples": [...], "user_data": {user: {"x": [...], "y": [...]}}}`; several files of a
folder hold users of their own.

Reference: Caldas et al., "LEAF: a benchmark for federated settings", 2018, arXiv:1812.01097.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsec.data.sources.source import Contents, Location
from fedsec.errors import DataError, printable

if TYPE_CHECKING:
    import torch

    from fedsec.data.dataset import Split

SPLITS = ("train", "test")


def leaf_files(folder: Path) -> Location | None:
    """Whether a folder, or the folder data/ in it as LEAF writes it, holds such files."""
    for candidate in (folder, folder / "data"):
        lacks = tuple(f"{split}/*.json" for split in SPLITS if not any((candidate / split).glob("*.json")))
        if len(lacks) < len(SPLITS):
            return Location(candidate, lacks=lacks)
    return None


def read_leaf(
    folder: Path,
    classes: Sequence[str],
    *,
    inputs: Callable[[Any], Any],
    target: Callable[[Any, Any], Any],
    stored: "Callable[[list[Any]], torch.Tensor] | None" = None,
) -> Contents:
    """All examples of a folder, with the user that each comes from.

    Args:
        folder: that `leaf_files` found.
        classes: names of the classes.
        inputs: makes of an `x` what is stored.
        target: makes of that and a `y` the target.
        stored: makes of all inputs a tensor; by default float32.

    Raises:
        DataError: a file that is no such JSON, or an example that is not what it should be.
    """
    import torch

    def as_floats(rows: list[Any]) -> torch.Tensor:
        return torch.tensor(rows, dtype=torch.float32)

    users: dict[str, int] = {}
    splits = [_split(folder / split, users, inputs, target, stored or as_floats) for split in SPLITS]
    return Contents(splits[0], splits[1], tuple(classes), (), tuple(printable(user) for user in users))


def _split(
    folder: Path,
    users: dict[str, int],
    inputs: Callable[[Any], Any],
    target: Callable[[Any, Any], Any],
    stored: "Callable[[list[Any]], torch.Tensor]",
) -> "Split":
    import torch

    from fedsec.data.dataset import Split

    rows, targets, groups = [], [], []
    for path in sorted(folder.glob("*.json")):
        for user, examples in _user_data(path).items():
            number = users.setdefault(user, len(users))
            try:
                for x, y in zip(examples["x"], examples["y"], strict=True):
                    rows.append(inputs(x))
                    targets.append(target(rows[-1], y))
                    groups.append(number)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{path}: user {printable(user)}: expected lists x and y of one length ({error})"
                ) from error
    if not rows:
        raise DataError(f"{folder} holds no example")
    try:
        return Split(stored(rows), torch.tensor(targets, dtype=torch.int64), torch.tensor(groups))
    except (ValueError, TypeError) as error:
        raise DataError(f"{folder}: examples of different shapes ({error})") from error


def _user_data(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        data = content["user_data"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is none of LEAF's files ({type(error).__name__}: {error}); get it again") from error
    if not isinstance(data, dict):
        raise DataError(f"{path} is none of LEAF's files: user_data is no mapping; get it again")
    return data
