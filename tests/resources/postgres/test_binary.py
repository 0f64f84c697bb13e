"""COPY's binary form: what the compiled half reads and writes is what the server meant, and no bytes make it read beyond them."""

from __future__ import annotations

import datetime as dt
import random
import struct
from decimal import Decimal, localcontext
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsl.contracts.connectors import Token
from dsl.contracts.errors import RetryableError
from dsl.contracts.rows import Batch
from resources.postgres import copying, writer
from resources.postgres.binary import HEADER, TRAILER, Kind, Outcome, Rows, Wire, encode, library
from resources.postgres.resource import PostgresConnection, PostgresDestination, PostgresSource
from resources.postgres.texts import text_of_value
from tests.kit.postgres import PostgresDatabase
from tests.resources.sql_suite import read_all, write_epoch

pytestmark = pytest.mark.skipif(library() is None, reason="this machine has no C compiler: text is read and written")

WIRES = (
    Wire(Kind.BOOL, pa.bool_()),
    Wire(Kind.INT2, pa.int16()),
    Wire(Kind.INT4, pa.int32()),
    Wire(Kind.INT8, pa.int64()),
    Wire(Kind.FLOAT4, pa.float32()),
    Wire(Kind.FLOAT8, pa.float64()),
    Wire(Kind.NUMERIC, pa.decimal128(38, 10)),
    Wire(Kind.TEXT, pa.string()),
    Wire(Kind.JSONB, pa.string()),
    Wire(Kind.UUID, pa.string()),
    Wire(Kind.BYTES, pa.binary()),
    Wire(Kind.DATE, pa.date32()),
    Wire(Kind.TIME, pa.time64("us")),
    Wire(Kind.TIMESTAMP, pa.timestamp("us", "UTC")),
)
NAMES = [each.kind.name for each in WIRES]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "BOOL": st.booleans(),
    "INT2": st.integers(-(2**15), 2**15 - 1),
    "INT4": st.integers(-(2**31), 2**31 - 1),
    "INT8": st.integers(-(2**63), 2**63 - 1),
    "FLOAT4": st.floats(width=32, allow_nan=False),
    "FLOAT8": st.floats(allow_nan=False),
    "NUMERIC": st.integers(-(10**38) + 1, 10**38 - 1).map(lambda each: _decimal(each, 10)),
    "TEXT": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    "JSONB": st.sampled_from(['{"a": [1, 2]}', "1", "null", '"ü"']),
    "UUID": st.uuids().map(str),
    "BYTES": st.binary(),
    "DATE": st.dates(),
    "TIME": st.times(),
    "TIMESTAMP": st.datetimes(timezones=st.just(dt.UTC)),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | VALUES[name] for name in NAMES}), max_size=20)


def _decimal(value: int, scale: int) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        return Decimal(value).scaleb(-scale)


def _batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    schema = pa.schema([pa.field(each.kind.name, each.type) for each in WIRES])
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def _read(wires: tuple[Wire, ...], message: bytes) -> tuple[Outcome, Rows]:
    rows = Rows(wires, 1000, 2**30, began=False)
    return rows.read(message), rows


@given(ROWS, st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_again(rows: list[dict[str, Any]], cut: int) -> None:
    batch = _batch(rows).slice(cut)
    tuples = encode(WIRES, batch)
    assert tuples is not None
    outcome, found = _read(WIRES, HEADER + tuples + TRAILER)
    assert outcome is Outcome.ENDED
    assert pa.RecordBatch.from_arrays(found.arrays(), schema=batch.schema).equals(batch)


@given(st.integers(-(10**38) + 1, 10**38 - 1), st.integers(0, 38), st.integers(0, 38), st.integers(1, 38))
@settings(max_examples=500, deadline=None)
def test_a_number_is_read_exactly_or_refused(digits: int, scale: int, places: int, precision: int) -> None:
    value = _decimal(digits, scale)
    sent = encode(
        (Wire(Kind.NUMERIC, pa.decimal128(38, scale)),),
        pa.RecordBatch.from_pylist([{"v": value}], schema=pa.schema([pa.field("v", pa.decimal128(38, scale))])),
    )
    assert sent is not None
    wanted = pa.decimal128(max(precision, places), places)
    _, rows = _read((Wire(Kind.NUMERIC, wanted),), HEADER + sent)
    moved = digits * 10 ** max(places - scale, 0)
    exact = digits % 10 ** max(scale - places, 0) == 0
    moved = moved if places >= scale else digits // 10 ** (scale - places)
    if exact and abs(moved) < 10**wanted.precision:
        assert rows.faults() == []
        assert rows.arrays()[0][0].as_py() == value
    else:
        assert rows.faults() == [(0, 0)]
        assert Decimal(text_of_value(Kind.NUMERIC, rows.raw()[0][4:])) == value


@given(ROWS.filter(bool), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_broken_bytes_are_refused(rows: list[dict[str, Any]], chance: random.Random) -> None:
    message = bytearray(HEADER + (encode(WIRES, _batch(rows)) or b"") + TRAILER)
    for _ in range(chance.randint(1, 8)):
        message[chance.randrange(len(message))] = chance.randrange(256)
    del message[chance.randint(len(message) // 2, len(message)) :]
    try:
        _, found = _read(WIRES, bytes(message))
    except RetryableError:
        return
    for each in found.arrays():
        each.validate()


def test_every_cut_of_a_message_is_refused() -> None:
    message = HEADER + (encode(WIRES, _batch([{"INT8": 1, "TEXT": "a text", "BYTES": b"\0"}])) or b"")
    for length in range(len(HEADER) + 1, len(message)):
        with pytest.raises(RetryableError):
            _read(WIRES, message[:length])


def test_a_uuid_in_another_spelling_is_left_to_the_server() -> None:
    wire = (Wire(Kind.UUID, pa.string()),)
    for text in ("{6f9619ff-8b86-d011-b42d-00cf4fc964ff}", "6f9619ff8b86d011b42d00cf4fc964ff", "x" * 36, ""):
        assert encode(wire, pa.RecordBatch.from_pylist([{"v": text}])) is None
    assert encode(wire, pa.RecordBatch.from_pylist([{"v": "6F9619FF-8b86-d011-b42d-00cf4fc964ff"}])) is not None


@pytest.mark.parametrize(
    ("kind", "raw", "text"),
    [
        (Kind.DATE, struct.pack(">i", 2**31 - 1), "infinity"),
        (Kind.DATE, struct.pack(">i", -(2**31)), "-infinity"),
        (Kind.DATE, struct.pack(">i", -730_120), "0001-12-31 BC"),
        (Kind.DATE, struct.pack(">i", 2_921_940), "10000-01-01"),
        (Kind.TIMESTAMP, struct.pack(">q", -(2**63)), "-infinity"),
        (Kind.TIME, struct.pack(">q", 86_400_000_000), "24:00:00"),
        (Kind.NUMERIC, struct.pack(">hhHh", 0, 0, 0xC000, 0), "NaN"),
    ],
)
def test_refused_values_keep_their_text(kind: Kind, raw: bytes, text: str) -> None:
    assert text_of_value(kind, raw) == text


def test_the_server_says_the_same_of_refused_values(database: PostgresDatabase) -> None:
    """The texts of dead letters are those of the server, not of the arithmetic above."""
    days = [-2_451_545, -730_500, -730_121, -730_120, 2_921_940, 2_921_999, 2_922_400, 2_145_031_948]
    query = "SELECT (date '2000-01-01' + %s)::text, date_send(date '2000-01-01' + %s)"
    for each in days:
        ((text, raw),) = database.rows(query, each, each)
        assert text_of_value(Kind.DATE, raw) == text
    for moment in ["294276-12-31 23:59:59.999999", "4713-11-24 00:00:00.5 BC", "10000-01-01 12:30:00", "infinity"]:
        ((text, raw),) = database.rows(f"SELECT '{moment}'::timestamp::text, timestamp_send('{moment}'::timestamp)")
        assert text_of_value(Kind.TIMESTAMP, raw) == text
    numbers = ["0.000", "-12.50", "1e40", "-1e-20", "123456789.000000001", "10000", "-0.0001", "99990000.5"]
    for number in numbers:
        ((text, raw),) = database.rows(f"SELECT '{number}'::numeric::text, numeric_send('{number}'::numeric)")
        assert text_of_value(Kind.NUMERIC, raw) == text


def test_both_forms_read_and_write_the_same(
    database: PostgresDatabase, connection: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(
        'CREATE TABLE mixed (id bigint PRIMARY KEY, "per%cent" numeric(12, 2), note text, at timestamptz, doc jsonb, '
        "who uuid, raw bytea, day date, clock time, ok boolean, small smallint, f real, address inet, many int[], odd numeric)",
        "INSERT INTO mixed SELECT g, g / 7.0, CASE WHEN g % 5 > 0 THEN repeat(E'a\"b,\\n\\\\', g % 9) END, "
        "timestamptz '2024-01-01' + g * interval '1 hour 1 microsecond', jsonb_build_object('g', g), md5(g::text)::uuid, "
        "decode(md5(g::text), 'hex'), date '1999-12-30' + g, time '00:00' + g * interval '1 minute', g % 2 = 0, -g, "
        "g / 3.0, ('10.0.0.' || g % 256)::inet, ARRAY[g, NULL, -g], 1::numeric / g FROM generate_series(1, 700) g",
        "CREATE TABLE copied (LIKE mixed)",
        "CREATE TABLE again (LIKE mixed)",
    )
    source = PostgresSource(connection=connection, table="mixed")
    binary, refused = read_all(source, batch_rows=100)
    _write(connection, "copied", [each.rows for each in binary])
    monkeypatch.setattr(copying, "_calls", lambda: None)
    monkeypatch.setattr(writer, "library", lambda: None)
    text, refused_too = read_all(source, batch_rows=100)
    assert [each.rows for each in binary] == [each.rows for each in text]
    assert [_place(each) for each in binary] == [_place(each) for each in text]
    assert [each.row for each in refused] == [each.row for each in refused_too]
    assert len(refused) > 600  # a third has more digits than Arrow keeps
    _write(connection, "again", [each.rows for each in text])
    assert database.rows("SELECT * FROM copied EXCEPT ALL SELECT * FROM again") == []
    assert database.rows("SELECT * FROM copied EXCEPT ALL SELECT * FROM mixed") == []
    assert database.rows("SELECT count(*) FROM copied") == [(700 - len(refused),)]


def _place(batch: Batch) -> dict[str, Any]:
    """A state without the bytes that its rows took, which depend on their form."""
    return {name: value for name, value in (batch.state or {}).items() if name != "bytes_read"}


def _write(connection: PostgresConnection, table: str, batches: list[pa.RecordBatch]) -> None:
    destination = PostgresDestination(connection=connection, table=table)
    with destination.open_writer(batches[0].schema, Token("w", table, 1)) as opened:
        opened.get_state()
        write_epoch(opened, 1, *batches, final=True)
