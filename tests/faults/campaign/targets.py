"""Where loads are written, and how a judge outside of the process reads them; no code of the writers is used for reading."""

from __future__ import annotations

import csv
import io
import shutil
import sqlite3
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from tests.faults.campaign.load import LETTERS_TABLE, Row
from tests.kit.elasticsearch import ElasticsearchServer
from tests.kit.mariadb import MariaDBDatabase
from tests.kit.postgres import PostgresDatabase
from tests.kit.s3 import Bucket

_COLUMNS = "id, name, amount, triple"


class Target(ABC):
    """A kind of destination.

    Attributes:
        name: What the command calls it.
        modes: The write modes to try.
        prefixes: Of the failpoints that must be reached in it.
        never: Those of them that cannot be: only MariaDB owes a swap, the others do it inside of the transaction.
        locked: Whether one process at a time may open it: then a second run is refused, not fenced.
    """

    name: str
    modes: tuple[str, ...] = ("append", "overwrite", "upsert")
    prefixes: tuple[str, ...] = ("sql.", "letters.discarded")
    never: tuple[str, ...] = ("sql.swapped",)
    locked = False

    def reaches(self, place: str, everywhere: tuple[str, ...]) -> bool:
        """Tells whether loads into it must reach a failpoint."""
        return place.startswith((*everywhere, *self.prefixes)) and place not in self.never

    @abstractmethod
    def destination(self, load: str, mode: str, home: Path) -> dict[str, Any]:
        """Returns the node of a workflow that writes a load."""

    @abstractmethod
    def rows(self, load: str, home: Path) -> Counter[Row]:
        """Returns what a load has made visible."""

    def clear(self, load: str) -> None:
        """Forgets a load that is judged; its folder is forgotten by itself."""
        del load

    def letters(self) -> dict[str, Any] | None:
        """Returns the connection that keeps dead letters beside the rows; None where the deployment's store is used."""
        return None


def counted(rows: Iterable[Sequence[Any]]) -> Counter[Row]:
    """Counts rows."""
    return Counter((int(one), str(name), int(amount), int(triple)) for one, name, amount, triple in rows)


class Postgres(Target):
    """PostgreSQL, over a proxy if a port is given."""

    name = "postgres"

    def __init__(self, database: PostgresDatabase, port: int | None = None) -> None:
        self.database, self._port = database, port or database.port

    def connection(self) -> dict[str, Any]:
        """Returns the options of the connection; plain where a proxy has to see what passes."""
        held = self.database
        plain = {"tls": "disable"} if self._port != held.port else {}
        login = {"username": held.user, "password": held.password, "database": held.database}
        return {"host": held.host, "port": self._port, **login, **plain}

    def destination(self, load: str, mode: str, home: Path) -> dict[str, Any]:
        return {"type": "postgres", "config": {**self.connection(), "table": load, **_mode(mode)}}

    def rows(self, load: str, home: Path) -> Counter[Row]:
        if self.database.rows("SELECT to_regclass(%s)", load)[0][0] is None:
            return Counter()
        return counted(self.database.rows(f"SELECT {_COLUMNS} FROM {load}"))

    def clear(self, load: str) -> None:
        self.database.execute(f"DROP TABLE IF EXISTS {load}")


class PostgresWithLetters(Postgres):
    """PostgreSQL that keeps the dead letters too."""

    name = "postgres+letters"
    modes = ("append",)
    prefixes = ("sql.", "letters.committed")

    def letters(self) -> dict[str, Any] | None:
        return {"type": "postgres", "config": self.connection()}

    def refused(self, load: str) -> Counter[int]:
        """Returns the ids of the rows that are dead letters of a load."""
        text = "SELECT (row::json ->> 'id')::int FROM " + LETTERS_TABLE + " WHERE workflow = %s"
        return Counter(int(each) for (each,) in self.database.rows(text, load))


class MariaDB(Target):
    """MariaDB, over a proxy if a port is given."""

    name = "mysql"
    never = ()

    def __init__(self, database: MariaDBDatabase, port: int | None = None) -> None:
        self.database, self._port = database, port or database.port

    def destination(self, load: str, mode: str, home: Path) -> dict[str, Any]:
        held = self.database
        plain = {"tls": "disable"} if self._port != held.port else {}
        login = {"username": held.user, "password": held.password, "database": held.database}
        where = {"host": held.host, "port": self._port, **login, **plain}
        return {"type": "mysql", "config": {**where, "table": load, **_mode(mode)}}

    def rows(self, load: str, home: Path) -> Counter[Row]:
        if not self.database.rows("SHOW TABLES LIKE %s", load):
            return Counter()
        return counted(self.database.rows(f"SELECT {_COLUMNS} FROM {load}"))

    def clear(self, load: str) -> None:
        self.database.execute(f"DROP TABLE IF EXISTS {load}")


class SQLite(Target):
    """A SQLite file of each load's own."""

    name = "sqlite"

    def destination(self, load: str, mode: str, home: Path) -> dict[str, Any]:
        config = {"path": str(home / "out.db"), "table": "rows", "busy_timeout": "2s", **_mode(mode)}
        return {"type": "sqlite", "config": config}

    def rows(self, load: str, home: Path) -> Counter[Row]:
        with sqlite3.connect(home / "out.db") as held:
            if not held.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchall():
                return Counter()
            found = counted(held.execute(f"SELECT {_COLUMNS} FROM rows"))
        held.close()
        return found


class DuckDB(Target):
    """A DuckDB file of each load's own."""

    name = "duckdb"
    locked = True

    def destination(self, load: str, mode: str, home: Path) -> dict[str, Any]:
        return {"type": "duckdb", "config": {"path": str(home / "out.duckdb"), "table": "rows", **_mode(mode)}}

    def rows(self, load: str, home: Path) -> Counter[Row]:
        with duckdb.connect(str(home / "out.duckdb")) as held:
            if not held.sql("SELECT 1 FROM duckdb_tables() WHERE table_name = 'rows'").fetchall():
                return Counter()
            return counted(held.sql(f"SELECT {_COLUMNS} FROM rows").fetchall())


class Files(Target):
    """A folder of each load's own, with files of one format."""

    modes = ("append", "overwrite")
    prefixes = ("file.", "letters.discarded")

    def __init__(self, form: str) -> None:
        self.name, self._form = f"file-{form}", form

    def destination(self, load: str, mode: str, home: Path) -> dict[str, Any]:
        return {
            "type": "file",
            "config": {"root": str(home / "lake"), "path": "out", "format": self._form, **_mode(mode)},
        }

    def rows(self, load: str, home: Path) -> Counter[Row]:
        found = sorted((home / "lake" / "out").glob(f"part-*.{self._form}"))
        return _of_files(self._form, [each.read_bytes() for each in found])


class S3(Target):
    """A prefix of each load's own, with Parquet files."""

    name = "s3"
    modes = ("append", "overwrite")
    prefixes = ("file.", "letters.discarded")

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def destination(self, load: str, mode: str, home: Path) -> dict[str, Any]:
        held = self._bucket
        login = {"access_key_id": held.access_key, "secret_access_key": held.secret_key, "region": held.region}
        where = {"bucket": held.bucket, "endpoint": held.endpoint, **login}
        return {"type": "s3", "config": {**where, "path": load, **_mode(mode)}}

    def rows(self, load: str, home: Path) -> Counter[Row]:
        return _of_files("parquet", [self._bucket.get(each) for each in self._bucket.keys(f"{load}/part-")])


class Elasticsearch(Target):
    """An index of each load's own."""

    name = "elasticsearch"
    prefixes = ("elasticsearch.", "letters.discarded")

    def __init__(self, server: ElasticsearchServer) -> None:
        self._server = server

    def destination(self, load: str, mode: str, home: Path) -> dict[str, Any]:
        how = {"write_mode": mode, **({"id_field": "id"} if mode == "upsert" else {})}
        where = {"host": self._server.host, "port": self._server.port}
        return {"type": "elasticsearch", "config": {**where, "index": load, **how}}

    def rows(self, load: str, home: Path) -> Counter[Row]:
        found = self._server.documents(load).values()
        return counted([(each["id"], each["name"], each["amount"], each["triple"]) for each in found])

    def clear(self, load: str) -> None:
        for each in self._server.request("GET", "_cat/indices?format=json"):
            if each["index"].startswith(load):
                self._server.request("DELETE", each["index"])


def clear_folder(home: Path) -> None:
    """Forgets a load's folder."""
    shutil.rmtree(home, ignore_errors=True)


def _mode(mode: str) -> dict[str, Any]:
    return {"write_mode": mode, **({"primary_key": ["id"]} if mode == "upsert" else {})}


def _of_files(form: str, files: Sequence[bytes]) -> Counter[Row]:
    found: Counter[Row] = Counter()
    for each in files:
        if form == "parquet":
            table = pq.read_table(io.BytesIO(each))
            found += counted(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
        else:
            found += counted(list(csv.reader(io.StringIO(each.decode(), newline="")))[1:])
    return found
