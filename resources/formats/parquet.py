"""Parquet as chunks and back: row group by row group, only the columns wanted, encodings chosen by what the data is; no store.

What a footer says is checked before it is believed: sizes that no honest file has are refused before memory is taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.errors import SchemaError
from resources.formats.chunks import Chunk
from resources.formats.columns import Wanted, conformed, plain_schema
from resources.formats.options import Dictionaries, Limits, ParquetOptions
from resources.formats.parquet_footer import FooterError, values_of
from resources.formats.streams import FREE_BYTES, DecodeError

BATCH_ROWS = 65_536
GROUP_BYTES = 64 * 2**20
LARGEST_BATCH = 128 * 2**20
SAMPLE_ROWS = 10_000
VALUE_BYTES = 4
"""Bytes that a value of a list takes in memory, about, however few it takes in the file."""
REPEATED = 0.2
_BROKEN = (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError)


def infer(opened: BinaryIO, where: str) -> pa.Schema:
    """Returns the schema of a file, from its footer.

    Raises:
        DecodeError: It is not Parquet.
    """
    return plain_schema(_open(opened, where).schema_arrow)


def decode(opened: BinaryIO, wanted: Wanted, limits: Limits, where: str, start: int = 0) -> Iterator[Chunk]:
    """Reads a file in chunks; row groups that end before a record are passed over.

    Args:
        opened: The file; it must seek.
        wanted: The columns.
        limits: What is refused.
        where: Names the file in errors.
        start: The first record of interest.

    Raises:
        SchemaError: Its columns are not those wanted.
        DecodeError: It is broken, or hostile.
    """
    file = _open(opened, where)
    wanted.check(file.schema_arrow.names, where, absent=True)
    names = [each for each in wanted.schema.names if each in file.schema_arrow.names]
    first, size = 0, opened.seek(0, os.SEEK_END)
    _check_lists(opened, file.schema, names, size, limits, where)
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        if first + group.num_rows > start:
            _check_group(group, size, limits, where)
            for rows in _batches(opened, file, number, names, where):
                yield (chunk := conformed(rows, wanted.schema, first, where))
                first = chunk.end
        else:
            first += group.num_rows


def _open(opened: BinaryIO, where: str, **options: Any) -> Any:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(
            pa.PythonFile(cast("Any", opened), mode="r"),
            buffer_size=1 << 20,
            pre_buffer=False,
            thrift_string_size_limit=16 * 2**20,
            thrift_container_size_limit=1_000_000,
            **options,
        )
    except _BROKEN as error:
        raise DecodeError(f"it is not Parquet: {_first_line(error)}", where=where, hint="is it complete?") from error
    names = file.schema_arrow.names
    if len(set(names)) < len(names):
        doubled = next(each for each in names if names.count(each) > 1)
        raise SchemaError(f"column '{doubled}' stands twice", where=where, hint="rename one")
    return file


def _batches(opened: BinaryIO, file: Any, number: int, names: list[str], where: str) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a row group, so many at once as memory is sure to hold."""
    count = file.metadata.row_group(number).num_rows
    if not names:
        nothing: Any = pa.nulls(count)
        yield pa.RecordBatch.from_arrays([nothing], names=[""])
        return
    try:
        size = _rows_at_once(opened, file, number, names, where)
        rows = file.iter_batches(batch_size=size, row_groups=[number], columns=names)
        while (batch := next(rows, None)) is not None:
            yield batch.select(names)
    except _BROKEN as error:
        raise DecodeError(
            f"row group {number} is broken: {_first_line(error)}", where=where, hint="is the file complete?"
        ) from error


def _rows_at_once(opened: BinaryIO, file: Any, number: int, names: list[str], where: str) -> int:
    """Returns how many rows of a group are decoded together.

    A dictionary may hold few long texts that stand in very many rows: its longest ones are looked at first.
    """
    group = file.metadata.row_group(number)
    honest: int = GROUP_BYTES * max(group.num_rows, 1) // max(group.total_byte_size, 1)
    rows = max(1, min(BATCH_ROWS, honest))
    if min(rows, group.num_rows) * group.total_byte_size <= GROUP_BYTES:
        return rows
    texts = _texts(file.schema, names)
    if not texts:
        return rows
    probe = _open(opened, where, metadata=file.metadata, read_dictionary=texts)
    columns = list(dict.fromkeys(each.partition(".")[0] for each in texts))
    first = next(probe.iter_batches(batch_size=1, row_groups=[number], columns=columns), None)
    longest = 0 if first is None else sum(_longest(each) for each in first.columns)
    return max(1, min(rows, LARGEST_BATCH // max(longest, 1)))


def _texts(schema: Any, names: list[str]) -> list[str]:
    """Returns the paths of text and bytes outside of lists."""
    leaves = [schema.column(each) for each in range(len(schema))]
    found = [each for each in leaves if each.physical_type == "BYTE_ARRAY" and each.max_repetition_level == 0]
    return [each.path for each in found if each.path in names or each.path.partition(".")[0] in names]


def _longest(column: Any) -> int:
    """Returns the bytes of the longest value of each dictionary in a column, added up."""
    if pa.types.is_struct(column.type):
        return sum(_longest(each) for each in column.flatten())
    if not pa.types.is_dictionary(column.type):
        return 0
    return int(pc.max(pc.binary_length(column.dictionary)).as_py() or 0)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _check_group(group: Any, size: int, limits: Limits, where: str) -> None:
    """Refuses a row group that is larger than the bytes of its file can honestly become.

    Facts of single columns are not asked for: where they are damaged, pyarrow ends the process.
    """
    large = group.total_byte_size
    if group.num_rows < 0 or (large > FREE_BYTES and large > limits.ratio * size):
        raise DecodeError(
            f"a row group becomes more than {limits.ratio} times the size of the file: refused as a decompression bomb",
            where=where,
            hint="raise `limits.ratio` if the file is meant",
        )


def _check_lists(opened: BinaryIO, schema: Any, names: list[str], size: int, limits: Limits, where: str) -> None:
    """Refuses lists that unfold into more values than the bytes of their file can honestly become: one row may hold billions."""
    leaves = [schema.column(each) for each in range(len(schema))]
    lists = {each.path for each in leaves if each.max_repetition_level and each.path.partition(".")[0] in names}
    if not lists:
        return
    try:
        groups = values_of(opened)
    except FooterError as error:
        raise DecodeError(f"its footer is broken: {error}", where=where, hint="is the file complete?") from error
    claimed = max((values for group in groups for path, values in group if path in lists), default=0)
    if claimed < 0 or (claimed * VALUE_BYTES > FREE_BYTES and claimed * VALUE_BYTES > limits.ratio * size):
        raise DecodeError(
            f"a list column holds {claimed} values in a row group of a file of {size} bytes: refused as a decompression bomb",
            where=where,
            hint="raise `limits.ratio` if the file is meant",
        )


class ParquetEncoder:
    """Writes batches as Parquet, a row group at a time; memory holds one row group.

    Args:
        sink: Takes the bytes; stays open.
        schema: The columns.
        options: Codec and size of row groups.
    """

    def __init__(self, sink: IO[bytes], schema: pa.Schema, options: ParquetOptions) -> None:
        self._sink, self._schema, self._options = sink, schema, options
        self._held: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self._writer: Any = None

    def write(self, rows: pa.RecordBatch) -> None:
        """Adds rows."""
        self._held.append(rows)
        self._rows += rows.num_rows
        self._bytes += rows.nbytes
        if self._rows >= self._options.row_group_rows or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Ends the file; the sink stays open."""
        self._flush()
        if self._writer is None:
            self._writer = self._started(pa.Table.from_batches([], self._schema))
        self._writer.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        table = pa.Table.from_batches(self._held, self._schema)
        self._held, self._rows, self._bytes = [], 0, 0
        if self._writer is None:
            self._writer = self._started(table)
        self._writer.write_table(table, row_group_size=max(self._options.row_group_rows, table.num_rows))

    def _started(self, sample: pa.Table) -> Any:
        import pyarrow.parquet as pq

        codec: Any = self._options.codec
        return pq.ParquetWriter(
            pa.PythonFile(cast("Any", self._sink), mode="w"),
            self._schema,
            compression=codec,
            compression_level=1 if codec == "zstd" else None,
            use_dictionary=self._dictionaries(sample),
            write_statistics=True,
        )

    def _dictionaries(self, sample: pa.Table) -> Any:
        if self._options.dictionaries is Dictionaries.AUTO:
            return _repeated_columns(sample.slice(0, SAMPLE_ROWS)) or False
        return self._options.dictionaries is Dictionaries.ALWAYS


def _repeated_columns(sample: pa.Table) -> list[str]:
    """Returns the columns whose values repeat: a dictionary pays for them, and doubles the cost of all others."""
    found: list[str] = []
    for name in sample.column_names:
        column: Any = sample.column(name).combine_chunks()
        found += _repeated(name, column)
    return found


def _repeated(path: str, column: Any) -> list[str]:
    kind: Any = column.type
    if pa.types.is_struct(kind):
        names = [kind.field(each).name for each in range(kind.num_fields)]
        parts = zip(names, column.flatten(), strict=True)
        return [each for name, part in parts for each in _repeated(f"{path}.{name}", part)]
    if pa.types.is_nested(kind) or pa.types.is_boolean(kind) or not len(column):
        return []
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    try:
        distinct = pc.count_distinct(column).as_py()
    except pa.ArrowNotImplementedError:
        return []
    return [path] if distinct <= 1 or distinct <= REPEATED * len(column) else []
