"""Tables of numbers with their types, through pandas and pyarrow, which the extra `tables` installs."""

import io
from collections.abc import Sequence
from typing import Any

from fedsec.errors import InputError
from fedsec.report.exports.tidy import TidyTable

__all__ = ["to_frame", "to_parquet"]

_INSTALL = 'pip install "fedsec[tables]"'
_NULLABLE = {int: "Int64", bool: "boolean", str: "object"}


def to_frame(table: TidyTable) -> Any:
    """A table as a pandas data frame; whole numbers and truth values with gaps are pandas' types that have them.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas  # type: ignore[import-untyped]
    except ImportError as error:
        message = f"a data frame needs pandas, which is not installed; try: {_INSTALL} (or pip install pandas)"
        raise InputError(message) from error
    columns = table.columns
    return pandas.DataFrame({name: pandas.Series(column, dtype=_dtype(column)) for name, column in columns.items()})


def _dtype(column: Sequence[Any]) -> str:
    kinds = {type(value) for value in column if value is not None}
    if kinds <= {float}:
        return "float64"
    kind = next(iter(kinds)) if len(kinds) == 1 else object
    if kind in (int, bool) and None not in column:
        return "int64" if kind is int else "bool"
    return _NULLABLE.get(kind, "object")


def to_parquet(table: TidyTable) -> bytes:
    """A table as the content of a Parquet file; lists stay lists.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"a Parquet file needs pyarrow, which is not installed; try: {_INSTALL}") from error
    arrays = {name: pyarrow.array(column) for name, column in table.columns.items()}
    # What was never measured is a number all the same.
    arrays = {
        name: array.cast(pyarrow.float64()) if pyarrow.types.is_null(array.type) else array
        for name, array in arrays.items()
    }
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(arrays), file)
    return file.getvalue()
