"""The rows of the benchmarks, made in PostgreSQL from the row's number alone, and sums that tell whether two places hold the same rows."""

from __future__ import annotations

from pathlib import Path

import psycopg

COLUMNS = "id, qty, score, amount, name, email, note, active, birthday, updated_at, attrs"
MADE = """
CREATE TABLE {table} AS SELECT
  g::bigint AS id,
  CASE WHEN g % 100 <> 7 THEN hashint8(g) & 65535 END AS qty,
  ((hashint8(g * 3) & 1048575) / 1000.0)::float8 AS score,
  ((hashint8(g * 7) & 99999999) / 100.0)::numeric(12, 2) AS amount,
  'name ' || md5(g::text) AS name,
  'user' || g || '@example.com' AS email,
  CASE WHEN g % 33 = 5 THEN NULL
       WHEN g % 50 = 3 THEN E'a "quoted", text\\nwith\\ttabs\\\\ and more ' || g
       ELSE repeat(md5((g * 13)::text), 3) END AS note,
  g % 2 = 0 AS active,
  date '1970-01-01' + (hashint8(g * 11) & 16383) AS birthday,
  timestamptz '2020-01-01 00:00+00' + g * interval '1 second' AS updated_at,
  jsonb_build_object('a', g, 'tags', jsonb_build_array('x', 'y', g % 10), 'n', jsonb_build_object('k', md5(g::text))) AS attrs
FROM generate_series(1::bigint, {rows}) AS g
"""
POSTGRES_SUMS = """
SELECT count(*), sum(id::bigint), sum(qty::bigint), round(sum(score::float8)::numeric), sum(amount::numeric)::numeric(20, 2),
  count(note), sum(('x' || substr(md5(name || email || coalesce(note, '')), 1, 8))::bit(32)::bigint),
  count(*) FILTER (WHERE active::boolean), sum(birthday::date - date '1970-01-01'),
  sum(extract(epoch FROM updated_at::timestamptz)::bigint), sum((attrs::jsonb ->> 'a')::bigint)
FROM {table}
"""
DUCKDB_SUMS = """
SELECT count(*), sum(id), sum(qty), round(sum(score)), sum(amount)::DECIMAL(20, 2), count(note),
  sum(('0x' || substr(md5(name || email || coalesce(note, '')), 1, 8))::UBIGINT),
  count(*) FILTER (WHERE active), sum(birthday - DATE '1970-01-01'), sum(epoch(updated_at)::BIGINT),
  sum((attrs::JSON ->> 'a')::BIGINT)
FROM {table}
"""


def make_table(address: str, table: str, rows: int) -> None:
    """Makes a table of so many rows with a primary key, and settles it."""
    with psycopg.connect(address, autocommit=True) as opened:
        opened.execute("SET max_parallel_workers_per_gather = 0")
        opened.execute(MADE.format(table=table, rows=rows).encode())
        opened.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (id)".encode())
        opened.execute(f"VACUUM ANALYZE {table}".encode())


def sums_of_table(address: str, table: str) -> tuple[str, ...]:
    """Returns what tells the rows of a table of PostgreSQL, whatever types a tool gave its columns."""
    with psycopg.connect(address) as opened:
        row = opened.execute(POSTGRES_SUMS.format(table=table).encode()).fetchone()
    return tuple(str(each) for each in row or ())


def sums_of_parquet(pattern: Path) -> tuple[str, ...]:
    """Returns the same of Parquet files."""
    import duckdb

    with duckdb.connect() as opened:
        row = opened.execute(DUCKDB_SUMS.format(table=f"read_parquet('{pattern}')")).fetchone()
    return tuple(_plain(each) for each in row or ())


def _plain(value: object) -> str:
    return str(int(value)) if isinstance(value, float) else str(value)
