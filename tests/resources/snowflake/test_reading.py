"""What Snowflake's source promises, on the emulator or the account in SNOWFLAKE_TEST_ACCOUNT: the suites, and its values."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.connectors import Source
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.spec import OptionError
from resources.snowflake.incoming import decoded, is_exact, selected
from resources.snowflake.resource import SnowflakeSource
from resources.snowflake.types import Described, field_of
from resources.testing import GrowingTable, IncrementalSuite, SourceOrigin, SourceSuite
from resources.testing.incremental import TABLE, Run
from resources.testing.samples import FIELDS
from tests.resources.snowflake.conftest import Place
from tests.resources.sql_suite import SqlSourceSuite, drain, read_all

ORIGIN = '("id" NUMBER(10, 0) NOT NULL, "name" VARCHAR, "changed" TIMESTAMP_NTZ(6))'
_WORDS = re.compile(r"\b(events|id|changed|note|gone)\b(?![^']*'(?:[^']*'[^']*')*[^']*$)")


def insert(place: Place, table: str, kinds: str, rows: Sequence[tuple[Any, ...]]) -> None:
    place.execute(f"CREATE TABLE IF NOT EXISTS {place.named(table)} {kinds}")
    with place.database.connect() as opened, opened.cursor() as cursor:
        for start in range(0, len(rows), 50):
            some = rows[start : start + 50]
            places = ", ".join(f"({', '.join(['%s'] * len(row))})" for row in some)
            cursor.execute(f"INSERT INTO {place.named(table)} VALUES {places}", [each for row in some for each in row])


class TestSqlSource(SqlSourceSuite):
    @pytest.fixture(autouse=True)
    def _place(self, place: Place) -> None:
        self.place = place

    def source(self, **options: Any) -> Source:
        if "incremental_column" in options:
            options = {"lag": timedelta(seconds=1), **options}
        return SnowflakeSource(
            **{"connection": self.place.connection, "table": "origin", "primary_key": ("id",), **options}
        )

    def fill(self, rows: Sequence[tuple[int, str, dt.datetime | None]]) -> None:
        insert(self.place, "origin", ORIGIN, rows)


class Origin:
    """One table, for the suite of all connectors."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        kinds = '("id" NUMBER(18, 0), "name" VARCHAR, "score" FLOAT, "at" TIMESTAMP_NTZ(6))'
        insert(
            self._place,
            "rows",
            kinds,
            [tuple(row[name] for name in FIELDS) for each in rows for row in each.to_pylist()],
        )

    def source(self) -> Source:
        return SnowflakeSource(connection=self._place.connection, table="rows", primary_key=("id",))


class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, place: Place) -> SourceOrigin:
        return Origin(place)


class Growing:
    """The table of the suite of incremental reads; its names keep their case."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.execute(TABLE.format(int="NUMBER(18, 0)", time="TIMESTAMP_NTZ(6)"))

    def source(self, **options: Any) -> Source:
        given = {
            "table": "events",
            "primary_key": ("id",),
            "incremental_column": "changed",
            "lag": timedelta(seconds=1),
        }
        return SnowflakeSource(**{"connection": self._place.connection, **given, **options})

    def execute(self, *statements: str) -> None:
        self._place.execute(*(_WORDS.sub(r'"\1"', each) for each in statements))

    def late(self) -> AbstractContextManager[Run] | None:
        """None: what commits within `lag` is a matter of time, which tests do not depend on."""
        return None

    def now(self) -> str:
        return "SYSDATE()"

    def settle(self) -> None:
        """Nothing: the suite's rows are years old."""


@pytest.mark.slow
class TestIncremental(IncrementalSuite):
    @pytest.fixture
    def growing(self, place: Place) -> GrowingTable:
        return Growing(place)


COPY = """("n" NUMBER(18, 0), "big" NUMBER(38, 0), "d" NUMBER(38, 10), "f" FLOAT, "s" VARCHAR, "x" BINARY, "day" DATE,
"t" TIME(6), "ts" TIMESTAMP_NTZ(6), "at" TIMESTAMP_TZ(6), "l" TIMESTAMP_LTZ(3), "b" BOOLEAN, "v" VARIANT)"""
LITERALS = [
    """999999999999999999, 999999999999999999, -9999999999.0000000001, '-inf'::FLOAT, 'a''"\n%s,ü🎉', 'x'::VARCHAR::BINARY, '0001-01-01',
    '23:59:59.999999', '9999-12-31 23:59:59.999999', '2024-06-01 12:00:00.000001', '2024-06-01 12:00:00.123', TRUE,
    PARSE_JSON('{"a": [1.5, null]}')""",
    ", ".join(["NULL"] * 13),
    """-999999999999999999, -1, 0, 'NaN'::FLOAT, '', ''::BINARY, '9999-12-31', '00:00:00', '1583-01-01 00:00:00',
    '1969-12-31 23:59:59.999999', '1970-01-01', FALSE, PARSE_JSON('[]')""",
]


def test_values_are_read_as_they_are(place: Place) -> None:
    place.execute(f"CREATE TABLE {place.named('copy')} {COPY}")
    place.execute(*(f"INSERT INTO {place.named('copy')} SELECT {each}" for each in LITERALS))
    rows, _ = drain(SnowflakeSource(connection=place.connection, query=f"SELECT * FROM {place.named('copy')}"))
    first, last, nothing = sorted(rows, key=lambda row: -(row["n"] or 0) if row["n"] is not None else math.inf)
    assert set(nothing.values()) == {None}, "no NULL becomes a value"
    utc = dt.UTC
    assert first == {
        "n": 10**18 - 1, "big": Decimal(10**18 - 1), "d": Decimal("-9999999999.0000000001"), "f": -math.inf,
        "s": "a'\"\n%s,ü🎉", "x": first["x"], "day": dt.date(1, 1, 1), "t": dt.time(23, 59, 59, 999999),
        "ts": dt.datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001 - no zone
        "at": dt.datetime(2024, 6, 1, 12, 0, 0, 1, tzinfo=utc), "l": dt.datetime(2024, 6, 1, 12, 0, 0, 123000, tzinfo=utc),
        "b": True, "v": '{"a":[1.5,null]}',
    }  # fmt: skip
    assert math.isnan(last["f"])
    assert (last["s"], last["x"], last["d"], last["b"], last["v"]) == ("", b"", Decimal(0), False, "[]")
    assert last["at"] == dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=utc)
    assert last["ts"] == dt.datetime(1583, 1, 1)  # noqa: DTZ001 - no zone


def test_what_arrow_cannot_hold_is_rejected_by_row() -> None:
    columns = [Described("at", "TIMESTAMP_NTZ(9)"), Described("t", "TIME(9)"), Described("v", "VARIANT")]
    assert len(selected(columns)) == 4, "one more says whether a value has nanoseconds"
    arrays = [
        pa.array([1, 2, None, 4], pa.int64()),
        pa.array([1000, 2000, None, 4001], pa.time64("ns")),
        pa.array(["1", "[undefined]", None, "{}"]),
        pa.array([False, True, None, True]),
    ]
    values, failed = decoded(arrays, columns, pa.schema([field_of(each) for each in columns]))
    assert sorted(failed) == [0, 1, 3]
    assert [failed[each].split("'")[1] for each in (0, 1, 3)] == ["at", "v", "t"]
    assert [each.is_valid().to_pylist()[2] for each in values] == [False] * 3


def test_a_type_that_cannot_be_read_is_refused_by_name() -> None:
    assert not is_exact(Described("g", "GEOGRAPHY"))
    assert not is_exact(Described("g", "VECTOR(FLOAT, 3)"))


def test_names_are_found_whatever_their_case(place: Place) -> None:
    place.execute(f"CREATE TABLE {place.database.schema}.upper_case (id NUMBER(5, 0), name VARCHAR)",
                  f"INSERT INTO {place.database.schema}.upper_case VALUES (1, 'x'), (2, 'y')")  # fmt: skip
    source = SnowflakeSource(connection=place.connection, table="upper_case", columns=("id",), primary_key=("id",))
    assert drain(source)[0] == [{"ID": 1}, {"ID": 2}]


def test_a_key_of_several_columns_resumes_after_every_batch(place: Place) -> None:
    rows = [(number // 4, f"k{number % 4}") for number in range(20)]
    insert(place, "pairs", '("a" NUMBER(9, 0), "b" VARCHAR)', rows)
    source = SnowflakeSource(connection=place.connection, table="pairs", primary_key=("a", "b"))
    batches, _ = read_all(source, batch_rows=3)
    for at, each in enumerate(batches[:-1]):
        before = [(row["a"], row["b"]) for some in batches[: at + 1] for row in some.rows.to_pylist()]
        after = [(row["a"], row["b"]) for row in drain(source, each.state)[0]]
        assert before + after == rows


def test_a_key_with_nulls_is_refused(place: Place) -> None:
    insert(place, "holes", '("id" NUMBER(9, 0))', [(1,), (None,)])
    with pytest.raises(FatalError, match=r"1 rows have no value in the key \(id\)"):
        drain(SnowflakeSource(connection=place.connection, table="holes", primary_key=("id",)))


def test_only_a_column_of_time_and_a_lag_bound_what_is_new(place: Place) -> None:
    given: dict[str, Any] = {"connection": place.connection, "table": "origin"}
    with pytest.raises(OptionError, match="transactions are open"):
        SnowflakeSource(**given, incremental_column="changed")
    insert(place, "origin", ORIGIN, [(1, "a", None)])
    with pytest.raises(SchemaError, match="only a column of time"):
        drain(SnowflakeSource(**given, incremental_column="id", lag=timedelta(hours=1)))


def test_a_tie_that_comes_between_two_runs_is_read_once(place: Place) -> None:
    moment = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - no zone
    given: dict[str, Any] = {"connection": place.connection, "table": "origin", "primary_key": ("id",)}
    source = SnowflakeSource(**given, incremental_column="changed", lag=timedelta(days=1))
    insert(place, "origin", ORIGIN, [(5, "a", moment)])
    rows, state = drain(source)
    insert(place, "origin", ORIGIN, [(3, "b", moment)])
    more, state = drain(source, state)
    assert [row["id"] for row in rows + more] == [5, 3]
    assert drain(source, state)[0] == []


def test_what_is_younger_than_the_lag_waits(place: Place) -> None:
    insert(place, "origin", ORIGIN, [(1, "old", dt.datetime(2024, 1, 1)), (2, "new", dt.datetime(2999, 1, 1))])  # noqa: DTZ001
    source = SnowflakeSource(
        connection=place.connection, table="origin", incremental_column="changed", lag=timedelta(days=1)
    )
    rows, state = drain(source)
    assert [row["id"] for row in rows] == [1]
    assert drain(source, state)[0] == []
