"""DuckDB's own scanner of PostgreSQL, as its documentation shows it: a table to one Parquet file. Arguments: address, table, file."""

import sys

import duckdb
import duckdb_extension_postgres_scanner  # noqa: F401 - brings the extension

address, table, file = sys.argv[1:]
opened = duckdb.connect(config={"allow_unsigned_extensions": "true"})
opened.execute("LOAD postgres_scanner")
opened.execute(f"ATTACH '{address}' AS source (TYPE postgres, READ_ONLY)")
opened.execute(f"COPY (SELECT * FROM source.public.{table}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
