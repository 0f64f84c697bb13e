"""Files with something wrong in them: every good row is read, every bad one is named with its line, and nothing crashes."""

from __future__ import annotations

import io
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsl.contracts.errors import HeadraceError, SchemaError
from resources.formats.codecs import decode, infer
from resources.formats.columns import Wanted
from resources.formats.options import CsvOptions, FileOptions, Format
from resources.formats.streams import DecodeError
from tests.resources.formats.test_round_trips import decoded, encoded, rows_of

COLUMNS: dict[str, pa.DataType] = {"id": pa.int64(), "name": pa.string(), "price": pa.decimal128(10, 2)}
SCHEMA = pa.schema(COLUMNS)


def read(text: str | bytes, kind: Format, schema: pa.Schema = SCHEMA, **csv: Any) -> tuple[list[Any], list[Any]]:
    """Returns the ids of the good rows, and (line, reason) of the bad ones."""
    options = FileOptions(format=kind, csv=CsvOptions(**csv))
    data = text.encode() if isinstance(text, str) else text
    wanted = Wanted(schema, tuple(schema.names))
    chunks = list(decode(io.BytesIO(data), wanted, options, "f"))
    bad = [(each.line, each.reason) for chunk in chunks for each in chunk.malformed if each.reason]
    return [row[schema.names[0]] for row in rows_of(chunks)], bad


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x,a,1.00", "column 'id': 'x' is not int64"),
        ("9223372036854775808,a,1", "is not int64"),
        ("1.5,a,1", "is not int64"),
        ("2,a,1.005", "column 'price'"),
        ("2,a,123456789.00", "column 'price'"),
        ("2,a", "it has 2 values, not 3"),
        ("2,a,1,1", "it has 4 values, not 3"),
        ("2,a,abc", "column 'price': 'abc' is not"),
    ],
)
def test_a_bad_line_of_csv_costs_one_row(line: str, reason: str) -> None:
    text = f'id,name,price\n1,"two\nlines",1.00\n{line}\n3,c,\n'
    good, bad = read(text, Format.CSV)
    assert good == [1, 3]
    assert len(bad) == 1
    assert bad[0][0] == 4, "a value may hold line breaks"
    assert reason in bad[0][1]


def test_bytes_that_are_not_utf8_cost_one_row() -> None:
    good, bad = read(b"id,name,price\n1,a,1\n2,\xff\xfe,1\n3,\xc3\xa9,1\n", Format.CSV)
    assert good == [1, 3]
    assert bad == [(3, "column 'name': it is not UTF-8")]


def test_a_quote_that_is_never_closed_is_said() -> None:
    good, bad = read('id,name,price\n1,a,1\n2,b,"1\n3,c,1\n', Format.CSV)
    assert good == [1]
    assert len(bad) == 1
    assert "quote" in bad[0][1] or "not" in bad[0][1]


def test_a_row_longer_than_allowed_ends_the_file() -> None:
    with pytest.raises(DecodeError, match="longer than 1000 bytes"):
        read("id,name,price\n" + "1,a,1\n" * 20_000 + f'2,"{"x" * 5000}",1\n', Format.CSV, largest_row=1000)


def test_a_line_behind_blank_ones_is_not_guessed() -> None:
    assert read("id,name,price\n1,a,1\n\n2,b\n", Format.CSV) == ([1], [(0, "it has 2 values, not 3")])


def test_bytes_that_are_not_utf8_in_a_short_line_cost_one_row() -> None:
    good, bad = read(b"id,name,price\n1,a,1\n2,\xff\n3,\xef\x9e\x80,1\n", Format.CSV)
    assert bad[0] == (3, "it has 2 values, not 3")
    assert good + [reason for _, reason in bad[1:]] == [1, "column 'name': it is not UTF-8"], (
        "where a file holds foreign bytes, a private character that looks like one is refused, not changed"
    )


def test_blank_lines_are_nobodys_rows() -> None:
    good, bad = read("id,name,price\n\n1,a,1\n\n\n2,b,2\n\n", Format.CSV)
    assert (good, bad) == ([1, 2], [])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"])
def test_encodings_and_byte_order_marks(encoding: str) -> None:
    text = "id,name,price\r\n1,é€,1.00\r\n".replace("€", "" if encoding == "latin-1" else "€")
    csv = CsvOptions() if encoding in {"utf-8-sig", "utf-16"} else CsvOptions(encoding=encoding)
    options = FileOptions(format=Format.CSV, csv=csv)
    [row] = rows_of(decoded(text.encode(encoding), SCHEMA, options))
    assert row["name"] == text.split(",")[3]


def test_an_encoding_that_does_not_exist_is_said() -> None:
    with pytest.raises(DecodeError, match="no encoding 'klingon'"):
        read("id\n1\n", Format.CSV, encoding="klingon")


@pytest.mark.parametrize(
    ("header", "fault"),
    [("id,name", "'price' is missing"), ("id,name,price,x", "'x' is not in the first file"), ("id,id,price", "twice")],
)
def test_another_header_is_another_schema(header: str, fault: str) -> None:
    with pytest.raises(SchemaError, match=fault):
        read(f"{header}\n1,a,1\n", Format.CSV)


def test_the_order_of_a_header_does_not_matter() -> None:
    good, bad = read("price,id,name\n1,7,a\n", Format.CSV)
    assert (good, bad) == ([7], [])


def test_without_a_header_columns_are_named_by_their_order() -> None:
    assert read("7,a,1\n8,b,2\n", Format.CSV, header=False) == ([7, 8], [])
    options = FileOptions(format=Format.CSV, csv=CsvOptions(header=False))
    assert infer(io.BytesIO(b"7,a\n"), options, "f").names == ["column_1", "column_2"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", ""], pa.int64()),
        (["007", "1"], pa.string()),
        (["1.5", "2"], pa.float64()),
        (["1e400", "1"], pa.string()),
        (["12345678901234567890", "1"], pa.string()),
        (["0.1234567890123456789"], pa.string()),
        (["true", "false"], pa.bool_()),
        (["2026-01-01", "2026-02-30"], pa.string()),
        (["2026-01-01"], pa.date32()),
        (["2026-01-01 10:00:00.123456"], pa.timestamp("us")),
        (["2026-01-01T10:00:00Z", "2026-01-01T10:00:00+02:00"], pa.timestamp("us", "UTC")),
        (["2026-01-01T10:00:00Z", "2026-01-01T10:00:00"], pa.string()),
        (["", ""], pa.string()),
    ],
)
def test_types_are_guessed_only_where_no_text_is_changed(values: list[str], kind: pa.DataType) -> None:
    text = "a,b\n" + "".join(f"{each},x\n" for each in values)
    assert infer(io.BytesIO(text.encode()), FileOptions(format=Format.CSV), "f").field("a").type == kind


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": 2', "it is not JSON"),
        ("[1]", "it is not an object"),
        ("null", "it is not an object"),
        ('{"id": NaN}', "NaN is not JSON"),
        ('{"id": "x"}', "column 'id'"),
        ('{"id": 1.5}', "column 'id'"),
        ('{"id": true}', "column 'id'"),
        ('{"id": 2, "other": 1}', "'other' is not in the schema"),
        ('{"id": 2, "price": 1.005}', "column 'price'"),
        ('{"id": ' + "[" * 100_000 + "}", "nested too deeply"),
        ("\ufffd", "it is not JSON"),
    ],
)
def test_a_bad_line_of_json_costs_one_row(line: str, reason: str) -> None:
    good, bad = read(f'{{"id": 1, "name": "a", "price": 1.00}}\n\n{line}\n{{"id": 3}}', Format.JSONL)
    assert good == [1, 3]
    assert [number for number, _ in bad] == [3]
    assert reason in bad[0][1]


def test_an_array_names_the_element() -> None:
    good, bad = read('[{"id": 1}, {"id": "x"},\n 7, {"id": 4}]', Format.JSON)
    assert good == [1, 4]
    assert [reason for _, reason in bad] == [
        "column 'id': invalid literal for int() with base 10: 'x'",
        "it is not an object",
    ]


@pytest.mark.parametrize(
    "text", ['[{"id": 1}', '[{"id": 1} {"id": 2}]', '[{"id": 1}] x', '[{"id": 1},]', "{", "nonsense"]
)
def test_an_array_that_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        read(text, Format.JSON)


def test_numbers_keep_their_digits_where_text_or_decimals_are_wanted() -> None:
    columns: dict[str, pa.DataType] = {"a": pa.string(), "b": pa.decimal128(30, 20)}
    schema = pa.schema(columns)
    options = FileOptions(format=Format.JSONL)
    [row] = rows_of(decoded(b'{"a": 0.12345678901234567890, "b": 0.12345678901234567890}', schema, options))
    assert str(row["a"]) == str(row["b"]) == "0.12345678901234567890"


@pytest.mark.parametrize("kind", list(Format))
@settings(deadline=None, max_examples=60)
@given(noise=st.binary(max_size=200))
def test_noise_is_refused_or_read_but_never_crashes(kind: Format, noise: bytes) -> None:
    options = FileOptions(format=kind)
    for schema in (SCHEMA, None):
        try:
            found = schema or infer(io.BytesIO(noise), options, "f")
            decoded(noise, found, options)
        except HeadraceError as error:
            assert str(error).startswith(("f: ", "file: "))  # noqa: PT017 - noise may also be a file


@pytest.mark.parametrize("kind", list(Format))
def test_a_thousand_damaged_files_are_refused_or_read(kind: Format) -> None:
    rows = pa.record_batch(
        [
            pa.array(range(40)),
            pa.array([f"é{each}" for each in range(40)]),
            pa.array([None, "7.25"] * 20).cast(pa.decimal128(10, 2)),
        ],
        schema=SCHEMA,
    )
    options = FileOptions(format=kind)
    whole, dice, refused = encoded(options, rows), random.Random(7), 0
    for _ in range(1000):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        if dice.random() < 0.3:
            del damaged[dice.randrange(len(damaged)) :]
        try:
            chunks = decoded(bytes(damaged), SCHEMA, options)
        except HeadraceError:
            refused += 1
        else:
            assert sum(each.rows.num_rows + len(each.malformed) for each in chunks) <= 60
    assert refused < 1000
