"""A table as its log of changes shows it: publication, slot, replica identity, looked at before anything is read; reads no row.

The publication says which tables the log tells of, the slot how far it has been read. Both are made when they are not there; a slot
keeps the server's log from being removed until it is read or dropped.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import resources.postgres.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import psycopg
import pyarrow as pa

from dsl.contracts.errors import ErrorType, FatalError, RegressionError, SchemaError
from resources.postgres.client import no_such_table, place_of, table_fields, table_id, table_key
from resources.postgres.replication import number_of
from resources.postgres.types import expression
from resources.sql import TableName, quoted, suggestion

if TYPE_CHECKING:
    from resources.postgres.resource import PostgresSource

_FACTS = """
SELECT c.relkind::text, c.relreplident::text, current_setting('wal_level'),
       ARRAY(SELECT a.attname::text FROM pg_index i, unnest(i.indkey) AS k(attnum) JOIN pg_attribute a USING (attnum)
             WHERE i.indrelid = c.oid AND a.attrelid = c.oid
               AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END)
FROM pg_class c WHERE c.oid = %s::oid
"""
_TYPES = "SELECT attname::text, atttypid::int8 FROM pg_attribute WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped"
_PUBLICATION = """
SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot OR (SELECT relkind FROM pg_class WHERE oid = %s::oid) <> 'p'
FROM pg_publication WHERE pubname = %s
"""
_PUBLISHES = "SELECT to_jsonb(p) -> 'attnames' FROM pg_publication_tables p WHERE pubname = %s AND schemaname = %s AND tablename = %s"
_SLOT = """
SELECT plugin, database, active_pid, confirmed_flush_lsn::text, to_jsonb(s) ->> 'wal_status',
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8
FROM pg_replication_slots s WHERE slot_name = %s
"""


@dataclass(frozen=True)
class Watched:
    """The table.

    Attributes:
        id: Its object id.
        name: Its name.
        where: How errors name it.
        fields: All its columns, each with the server's words for its type.
        types: The object id of each column's type.
        key: The columns that identify a row; () where nothing does.
        schema: The columns to read.
    """

    id: int
    name: TableName
    where: str
    fields: Mapping[str, tuple[pa.Field[Any], str]]
    types: Mapping[str, int]
    key: tuple[str, ...]
    schema: pa.Schema


def watched(opened: psycopg.Connection[Any], source: PostgresSource, columns: Sequence[str] | None) -> Watched:
    """Looks at the table that a source reads.

    Raises:
        SchemaError: A table or column is not there, or cannot be read from the log.
    """
    name = TableName.parse(source.table or "", "public")
    found = table_id(opened, name)
    if found is None:
        raise no_such_table(opened, name, place_of(source.connection))
    where = f"{place_of(source.connection)}: table {name}"
    fields = {field.name: (field, declared) for field, declared in table_fields(opened, found)}
    key = source.primary_key or table_key(opened, found)
    wanted = columns if columns is not None else source.columns or tuple(fields)
    for each in (*wanted, *key):
        if each not in fields:
            raise SchemaError(f"there is no column '{each}'", where=where, hint=suggestion(each, fields))
    for each in wanted:
        field, declared = fields[each]
        if expression(field, each, declared).startswith("to_json("):
            hint = f"leave '{each}' out with columns, or read the table without cdc"
            raise SchemaError(f"the log has no JSON of '{each}', which is {declared}", where=where, hint=hint)
    return Watched(
        found, name, where, fields, types_now(opened, found), key, pa.schema([fields[each][0] for each in wanted])
    )


def types_now(opened: psycopg.Connection[Any], table: int) -> dict[str, int]:
    """Returns the object id of the type of each column that a table has now."""
    return {str(row[0]): int(row[1]) for row in opened.execute(_TYPES, (table,)).fetchall()}


def check_identity(opened: psycopg.Connection[Any], table: Watched) -> None:
    """Looks whether the log tells which rows were changed and deleted; without that, publishing the table would break its programs.

    Raises:
        FatalError: The server writes no such log, or it does not name the rows.
    """
    row = opened.execute(_FACTS, (table.id,)).fetchone()
    kind, identity, level, columns = row or ("r", "n", "", [])
    if level != "logical":
        hint = "set wal_level = logical and restart it; on a managed server, its parameter for logical replication"
        raise FatalError(
            f"the server's wal_level is {level}, so it keeps no log of changes", where=table.where, hint=hint
        )
    if kind not in {"r", "p"}:
        raise FatalError("only tables have a log of changes", where=table.where, hint="name a table")
    if identity == "f":
        return
    full = f"ALTER TABLE {table.name.quoted()} REPLICA IDENTITY FULL"
    if not columns:
        raise FatalError(
            "the log would not say which rows were changed or deleted, and the server would refuse to change any",
            where=table.where,
            hint=f"give the table a primary key, or {full}",
        )
    missing = [each for each in table.key if each not in columns]
    if missing:
        raise FatalError(
            f"the log names rows by {', '.join(columns)} and not by '{missing[0]}'",
            where=table.where,
            hint=f"leave primary_key out, or {full}",
        )


def publish(opened: psycopg.Connection[Any], source: PostgresSource, table: Watched) -> str:
    """Returns the name of the publication, made unless it is there.

    Raises:
        FatalError: It may not be made, or the one that is there does not tell all that happens to the table.
    """
    name = source.publication or default_name(table.name)
    found = opened.execute(_PUBLICATION, (table.id, name)).fetchone()
    if found is None:
        statement = f"CREATE PUBLICATION {quoted(name)} FOR TABLE {table.name.quoted()} WITH (publish_via_partition_root = true)"
        try:
            opened.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise FatalError(
                f"the role may not publish the table: {error.diag.message_primary}",
                where=table.where,
                hint=f"let its owner run: {statement}",
                error_type=ErrorType.AUTH,
            ) from error
        return name
    listed = opened.execute(_PUBLISHES, (name, table.name.schema, table.name.name)).fetchone()
    add = f"ALTER PUBLICATION {quoted(name)} ADD TABLE {table.name.quoted()}"
    if listed is None:
        raise FatalError(f"publication '{name}' does not hold the table", where=table.where, hint=add)
    if not all(found):
        settings = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
        hint = f"ALTER PUBLICATION {quoted(name)} SET ({settings})"
        raise FatalError(f"publication '{name}' leaves some changes out", where=table.where, hint=hint)
    gone = [each for each in table.schema.names if listed[0] is not None and each not in listed[0]]
    if gone:
        hint = "publish all columns, or leave it out with columns"
        raise FatalError(f"publication '{name}' leaves column '{gone[0]}' out", where=table.where, hint=hint)
    return name


def default_name(table: TableName) -> str:
    """Returns what a table's slot and publication are called unless somebody says otherwise."""
    plain = re.sub(r"[^a-z0-9_]", "_", f"headrace_{table.schema}_{table.name}".lower())
    if plain == f"headrace_{table.schema}_{table.name}" and len(plain) <= 63:
        return plain
    return f"{plain[:46]}_{hashlib.sha256(str(table).encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Slot:
    """A slot as the server shows it.

    Attributes:
        confirmed: Up to where its reader has said that it keeps everything.
        retained: Bytes of the log that the server keeps for it.
        active: The session that reads it, or None.
    """

    confirmed: str
    retained: int
    active: int | None


def slot_of(opened: psycopg.Connection[Any], name: str, where: str) -> Slot | None:
    """Returns a slot, or None if there is none.

    Raises:
        FatalError: It is there for something else.
        RegressionError: The server has removed what it was to keep.
    """
    row = opened.execute(_SLOT, (name,)).fetchone()
    if row is None:
        return None
    plugin, database, active, confirmed, status, retained = row
    if plugin != "pgoutput" or database != opened.info.dbname:
        raise FatalError(
            f"slot '{name}' belongs to {plugin or 'physical replication'} of {database or 'the whole server'}",
            where=where,
            hint="give the source a slot of its own: slot: …",
        )
    if status == "lost":
        raise RegressionError(
            f"the server has removed the log that slot '{name}' was to keep: changes are lost",
            where=where,
            hint=f"raise max_slot_wal_keep_size; {drop_hint(name)}",
        )
    return Slot(str(confirmed), int(retained or 0), active)


def check_place(slot: Slot | None, name: str, lsn: str, where: str) -> None:
    """Looks whether what follows a place can still be read from a slot.

    Raises:
        RegressionError: It cannot: the slot is gone, or somebody else has read on.
    """
    if slot is None:
        raise RegressionError(
            f"slot '{name}' is gone, and with it the changes since {lsn}", where=where, hint=drop_hint(name)
        )
    if number_of(slot.confirmed) > number_of(lsn):
        raise RegressionError(
            f"slot '{name}' has been read up to {slot.confirmed} by somebody else, this stream only up to {lsn}: changes are lost",
            where=where,
            hint=f"give each workflow a slot of its own: slot: …; {drop_hint(name)}",
        )


def drop_hint(name: str) -> str:
    """Returns what to do once changes are lost."""
    return (
        f"to read the whole table again: SELECT pg_drop_replication_slot('{name}') if it is there, empty the target, and give the "
        "workflow another name"
    )
