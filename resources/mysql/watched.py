"""A table as the binary log can show it: its columns, their types, its key; refuses what the log shows otherwise, reads no row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import resources.mysql.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import pyarrow as pa
import pymysql

from dsl.contracts.errors import SchemaError
from resources.mysql.client import MARK, no_such_table, place_of, query, table_key
from resources.mysql.reader import describe
from resources.mysql.types import field_of
from resources.sql import TableName, suggestion

if TYPE_CHECKING:
    from resources.mysql.resource import MysqlSource

_COLUMNS = "SELECT column_name, data_type, column_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
_READABLE = {
    *("tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double"),
    *("year", "date", "datetime", "timestamp", "time", "char", "varchar", "enum"),
    *("tinytext", "text", "mediumtext", "longtext"),
    *("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"),
}


@dataclass(frozen=True)
class Watched:
    """The table.

    Attributes:
        name: Its name.
        where: How errors name it.
        packets: All its columns, as the server describes them.
        declared: Each column's type in the server's words.
        key: The columns that identify a row.
        schema: The columns to read.
    """

    name: TableName
    where: str
    packets: Mapping[str, Any]
    declared: Mapping[str, str]
    key: tuple[str, ...]
    schema: pa.Schema


def watched(opened: pymysql.connections.Connection[Any], source: MysqlSource, columns: Sequence[str] | None) -> Watched:
    """Looks at the table that a source reads.

    Raises:
        SchemaError: A table or column is not there, or cannot be read from the log.
    """
    name = source.connection.table_name(source.table or "")
    where = f"{place_of(source.connection)}: table {name}"
    found = columns_now(opened, name)
    if not found:
        raise no_such_table(opened, name, place_of(source.connection))
    packets = {each.name: each for each in describe(opened, name.quoted(MARK))}
    key = source.primary_key or table_key(opened, name)
    wanted = columns if columns is not None else source.columns or tuple(packets)
    for each in (*wanted, *key):
        if each not in packets:
            raise SchemaError(f"there is no column '{each}'", where=where, hint=suggestion(each, packets))
    for each in wanted:
        if found[each][0] not in _READABLE:
            hint = f"leave '{each}' out with columns, or read the table without cdc"
            raise SchemaError(f"the log cannot be read where '{each}' is {found[each][1]}", where=where, hint=hint)
    schema = pa.schema([field_of(each, packets[each]) for each in wanted])
    return Watched(name, where, packets, {column: kind[1] for column, kind in found.items()}, key, schema)


def columns_now(opened: pymysql.connections.Connection[Any], name: TableName) -> dict[str, tuple[str, str]]:
    """Returns the type of each column that a table has now, in a word and whole."""
    rows = query(opened, _COLUMNS, (name.schema, name.name))
    return {str(column): (str(kind).lower(), str(whole)) for column, kind, whole in rows}
