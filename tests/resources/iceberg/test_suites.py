"""Iceberg tables of a SQL catalog in SQLite, under the suite of destinations."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.secret import Secret
from resources.iceberg.resource import IcebergConnection, IcebergDestination
from resources.testing import CANARY, DestinationSuite, DestinationTarget, sample


class Place:
    """One table of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.given: dict[str, Any] = {"uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/lake"}
        self.connection = IcebergConnection(**self.given, secrets={"s3.secret-access-key": Secret("${LAKE_SECRET}")})

    def destination(self, mode: WriteMode, **options: Any) -> IcebergDestination:
        key = ("id",) if mode is WriteMode.UPSERT else ()
        return IcebergDestination(
            **{"connection": self.connection, "table": "ns.t", "write_mode": mode, "primary_key": key, **options}
        )

    def rows(self) -> list[dict[str, Any]]:
        catalog = load_catalog("default", type="sql", **self.given)
        with contextlib.closing(catalog):
            try:
                found: Any = catalog.load_table("ns.t").scan().to_arrow()
            except NoSuchTableError:
                return []
            return list(found.select(sample(0, 0).schema.names).to_pylist())


class TestTable(DestinationSuite):
    @pytest.fixture
    def target(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DestinationTarget:
        monkeypatch.setenv("LAKE_SECRET", CANARY)
        return Place(tmp_path)
