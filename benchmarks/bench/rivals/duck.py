"""DuckDB's own scanner of PostgreSQL, as its documentation shows it: a table to one Parquet file. Arguments: address, table, file."""

import sys
from pathlib import Path

import duckdb
import duckdb_extension_postgres_scanner as scanner

address, table, file = sys.argv[1:]
(extension,) = Path(scanner.__path__[0]).rglob("*.duckdb_extension")
opened = duckdb.connect(config={"allow_unsigned_extensions": "true"})
opened.execute(f"LOAD '{extension}'")
opened.execute(f"ATTACH '{address}' AS source (TYPE postgres, READ_ONLY)")
opened.execute(f"COPY (SELECT * FROM source.public.{table}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
