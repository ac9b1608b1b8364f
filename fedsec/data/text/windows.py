"""A text cut into windows: what comes before, and the next character at every place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsec.data.text.characters import PADDING, encode
from fedsec.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from fedsec.data.dataset import Split

TEST_SHARE = 0.2
"""Of what a role says: the end of it, as LEAF splits by time."""


def last_targets(split: "Split") -> "Split":
    """The windows that are full, with the character after each as their only target; the other places are padding."""
    from fedsec.data.dataset import Split

    full = split.targets[:, -1] != PADDING
    targets = split.targets[full].clone()
    targets[:, :-1] = PADDING
    return Split(split.inputs[full], targets, None if split.groups is None else split.groups[full])


@dataclass(frozen=True)
class Windows:
    """How roles become examples.

    A role's text is cut into windows of `length` characters that touch each other; the targets of a window are the
    characters that follow, so a window and the next share one. The last one is filled up with padding. The first
    windows are for training, the last (`TEST_SHARE`, rounded, at least one) for the test. Roles that would have no
    window in one of the two are left out, as in LEAF those with next to nothing to say.

    Args:
        length: characters of an input.
    """

    length: int

    def splits(self, texts: Mapping[str, str]) -> "tuple[Split, Split, tuple[str, ...]]":
        """Training and test windows, each with the number of its role, and the roles' names.

        Args:
            texts: role -> what it says.

        Raises:
            DataError: no role says so much that it has a window in each.
        """
        import numpy as np
        import torch

        from fedsec.data.dataset import Split

        names: list[str] = []
        parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
        owners: dict[str, list[int]] = {"train": [], "test": []}
        for name, text in texts.items():
            rows = self._rows(encode(text))
            tested = max(1, round(TEST_SHARE * len(rows)))
            if len(rows) <= tested:
                continue
            for part, chosen in (("train", rows[:-tested]), ("test", rows[-tested:])):
                parts[part].append(chosen)
                owners[part] += [len(names)] * len(chosen)
            names.append(name)
        if not names:
            longest = max(map(len, texts.values()), default=0)
            raise DataError(
                f"length {self.length}: no role says enough for a window to train on and one to test with; expected "
                f"less than the {longest:,} characters of the one that says most"
            )
        train, test = (
            Split(
                torch.from_numpy(rows[:, :-1].astype(np.float32)),
                torch.from_numpy(rows[:, 1:].copy()),
                torch.tensor(owners[part]),
            )
            for part, rows in ((part, np.concatenate(chosen)) for part, chosen in parts.items())
        )
        return train, test, tuple(names)

    def _rows(self, numbers: list[int]) -> "np.ndarray":
        """[windows, length + 1]: each window with the character that follows it."""
        import numpy as np

        count = max(0, -(-(len(numbers) - 1) // self.length))
        padded = np.full(count * self.length + 1, PADDING, np.int64)
        padded[: len(numbers)] = numbers[: len(padded)]
        return np.stack([padded[i * self.length : (i + 1) * self.length + 1] for i in range(count)] or [padded[:0]])
