"""Rows whose columns lie in several pieces, in this process or in others."""

from fedsec.defense.shards.column_shards import ColumnShards, LocalShards, column_blocks, lost_rows

__all__ = ["ColumnShards", "LocalShards", "column_blocks", "lost_rows"]
