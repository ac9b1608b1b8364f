"""Plays by role, characters as numbers, windows with the next character at each place."""

import pytest

from fedsec.data.text.characters import ALPHABET, CLASSES, PADDING, UNKNOWN, decode, encode
from fedsec.data.text.plays import roles
from fedsec.data.text.windows import Windows
from fedsec.errors import DataError

PLAY = """A PLAY

by William Shakespeare

Persons

FOOL.
He is no speech.

ACT I. SCENE I. A room.

[Enter FOOL and
KING.]

FOOL.
Nuncle, [Kneels.]
  give me an egg.

KING.
No.

SCENE II.

FOOL.
Two crowns.
[Exit.]

ANOTHER

by William Shakespeare

ACT I.

FOOL.
Mine own.
"""


def test_roles_say_what_they_say_and_no_direction() -> None:
    assert roles(PLAY) == {
        "A PLAY: FOOL": "Nuncle,\ngive me an egg.\nTwo crowns.",
        "A PLAY: KING": "No.",
        "ANOTHER: FOOL": "Mine own.",
    }


def test_leaf_s_alphabet_stands_behind_padding_and_unknown() -> None:
    assert len(ALPHABET) == len(set(ALPHABET)) == 80
    assert CLASSES[2:] == tuple(ALPHABET)
    text = "To be, or not?\n"
    assert decode(encode(text)) == text
    assert encode("\u00e9") == [UNKNOWN]
    assert decode([PADDING, UNKNOWN, *encode("x")]) == "\ufffdx"


def test_windows_touch_and_their_targets_are_what_follows() -> None:
    text = "abcdefghijkl"  # 11 places with a next character, windows of 3: the last has two of them
    train, test, names = Windows(3).splits({"one": text, "short": "ab", "other": text.upper()})
    assert names == ("one", "other")
    assert [decode(row) for row in train.inputs[:3]] == ["abc", "def", "ghi"]
    assert [decode(row) for row in train.targets[:3]] == ["bcd", "efg", "hij"]
    assert [decode(row) for row in test.inputs] == ["jkl", "JKL"]
    assert test.targets[0].tolist() == [*encode("kl"), PADDING]
    assert train.groups is not None
    assert train.groups.tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(DataError, match=r"length 12: no role says enough.*less than the 12 characters"):
        Windows(12).splits({"one": text, "short": "ab"})
