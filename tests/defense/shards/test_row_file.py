"""Rows on disk, against the same rows in memory."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsec.defense import Aggregator, DiskShards, Pipeline, RowFile
from fedsec.defense.shards import row_file
from fedsec.defenses import NNM, RLR, Bucketing, GeometricMedian, Krum, Meamed, Mean, Median, SignMajority, TrimmedMean
from fedsec.errors import InputError

COORDINATE: dict[str, Aggregator] = {
    "median": Median(),
    "trimmed mean": TrimmedMean(num_trimmed_per_side=2),
    "weighted median": Median(weighted=True),
    "meamed": Meamed(num_byzantine=2),
    "sign majority": SignMajority(),
    "rlr": RLR(threshold=3),
    "mean": Mean(),
}
GRAM: dict[str, Aggregator] = {
    "krum": Krum(num_byzantine=2),
    "geometric median": GeometricMedian(),
    "nnm, trimmed mean": Pipeline([NNM(num_byzantine=2), TrimmedMean(num_trimmed_per_side=2)]),
    "bucketing, median": Pipeline([Bucketing(2), Median()]),
}
WEIGHTS = [1.0, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2]


def updates(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(11, 333, generator=torch.Generator().manual_seed(4)).to(dtype)


def on_disk(rows: Tensor, folder: Path) -> DiskShards:
    file = RowFile(len(rows), rows.shape[1], rows.dtype, folder=folder, block_bytes=rows.element_size() * 11 * 128)
    order = [3, 4, 5, 0, 9, 10, 1, 2, 6, 8, 7]
    for places in torch.tensor(order).split([4, 5, 2]):
        file.write(rows[places], places.tolist())
    return DiskShards(file)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_come_back_to_the_bit_in_blocks_of_columns(tmp_path: Path, dtype: torch.dtype) -> None:
    rows = updates(dtype)
    shards = on_disk(rows, tmp_path)
    assert len(shards.widths) > 2
    assert torch.equal(torch.cat(shards.map(lambda piece: piece), dim=1), rows)
    others = shards.without([0, 4]).without([1])
    assert torch.equal(torch.cat(others.map(lambda piece: piece), dim=1), rows[[1, 3, 5, 6, 7, 8, 9, 10]])
    doubled = others.changed(lambda piece: 2 * piece)
    assert torch.equal(torch.cat(doubled.map(lambda piece: piece), dim=1), 2 * rows[[1, 3, 5, 6, 7, 8, 9, 10]])


def test_rows_are_changed_in_place(tmp_path: Path) -> None:
    rows = updates()
    shards = on_disk(rows, tmp_path)
    doubled = shards.changed(lambda piece, factor: factor * piece, [2.0] * len(shards.widths))
    assert doubled.file is shards.file
    assert torch.equal(torch.cat(doubled.map(lambda piece: piece), dim=1), 2 * rows)
    with pytest.raises(ValueError, match=r"a block of 11 x 128 became \(10, 128\)"):
        doubled.changed(lambda piece: piece[1:])


@pytest.mark.parametrize("rule", COORDINATE.values(), ids=COORDINATE)
@pytest.mark.parametrize("lost", [False, True])
def test_coordinate_rules_give_the_same_bits_from_disk(rule: Aggregator, lost: bool, tmp_path: Path) -> None:
    rows = updates()
    if lost:
        rows[6, 300] = torch.nan
    expected = rule.aggregate(rows, WEIGHTS, generator=seeded())
    aggregate = rule.aggregate_shards(on_disk(rows, tmp_path), WEIGHTS, generator=seeded())
    assert torch.equal(aggregate.vector, expected.vector)
    assert aggregate.rejected == expected.rejected == ((6,) if lost else ())
    torch.testing.assert_close(aggregate.influence, expected.influence, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("rule", GRAM.values(), ids=GRAM)
def test_gram_rules_add_up_the_products_of_blocks(rule: Aggregator, tmp_path: Path) -> None:
    rows = updates(torch.float64)
    expected = rule.aggregate(rows, generator=seeded())
    aggregate = rule.aggregate_shards(on_disk(rows, tmp_path), generator=seeded())
    torch.testing.assert_close(aggregate.vector, expected.vector, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(aggregate.influence, expected.influence, rtol=1e-11, atol=1e-12)


def test_one_block_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, read = on_disk(updates(), tmp_path), []

    def block(self: RowFile, number: int, original: Any = RowFile.block) -> Tensor:
        read.append(original(self, number))
        return read[-1]

    monkeypatch.setattr(RowFile, "block", block)
    TrimmedMean(num_trimmed_per_side=2).aggregate_shards(shards)
    assert {part.shape for part in read} == {(11, 128), (11, 77)}


def test_nothing_is_ever_seen_in_the_folder(tmp_path: Path) -> None:
    shards = on_disk(updates(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    Median().aggregate_shards(shards)
    shards.file.close()


def test_a_full_disk_says_what_is_needed_and_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(InputError, match=r"take 14 KiB on disk in .*are free; expected more room, or more mem"):
        on_disk(updates(), tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere, which cannot be written: No such file"):
        on_disk(updates(), tmp_path / "nowhere")


def test_a_write_that_the_disk_takes_in_part_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, file = updates(), RowFile(11, 333, torch.float32, folder=tmp_path)

    class Slow:
        def __init__(self, held: Any) -> None:
            self.held = held

        def write(self, data: memoryview) -> int:
            written: int = self.held.write(data[: max(1, len(data) // 2)])
            return written

        def readinto(self, data: memoryview) -> int:
            count: int = self.held.readinto(data[: max(1, len(data) // 2)])
            return count

        def __getattr__(self, name: str) -> Any:
            return getattr(self.held, name)

    monkeypatch.setattr(file, "_file", Slow(file._file))
    file.write(rows, range(11))
    assert torch.equal(file.block(0), rows)


def test_widest_blocks_take_products_in_float64() -> None:
    from fedsec.defense.swift_products import swift_products

    assert swift_products(torch.ones(2, row_file.WIDEST)) is None
