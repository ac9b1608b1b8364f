"""Rows whose columns lie in several pieces, in this process or in others."""

from fedsec.defense.shards.column_shards import ColumnShards, LocalShards, column_blocks, lost_rows
from fedsec.defense.shards.row_file import DiskShards, RowFile

__all__ = ["ColumnShards", "DiskShards", "LocalShards", "RowFile", "column_blocks", "lost_rows"]
