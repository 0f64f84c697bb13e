"""Sources of dlt under the suite of sources: a resource that yields Arrow tables, and the same as dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import Source
from dsl.contracts.secret import Secret
from resources.dlt.resource import DltConnection, DltSource
from resources.testing import CANARY, SourceOrigin, SourceSuite, sample
from tests.resources.dlt.shop import GIVEN


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_ALLOW_PYTHON", "1")
    monkeypatch.setenv("SHOP_TOKEN", CANARY)


class Tables:
    """A folder of Arrow files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        for at, each in enumerate(rows):
            with pa.OSFile(str(self._folder / f"{at}.arrow"), "wb") as file, pa.ipc.new_file(file, each.schema) as out:
                out.write(each)

    def source(self) -> Source:
        connection = DltConnection(source="tests.resources.dlt.shop:of_file", arguments={"path": str(self._folder)})
        return DltSource(connection=connection, sync_mode=SyncMode.FULL_REFRESH)


class Dictionaries:
    """Rows that the resource yields one by one."""

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        GIVEN["items"] = [row for each in rows for row in each.to_pylist()]

    def source(self) -> Source:
        connection = DltConnection(
            source="tests.resources.dlt.shop:anything", secrets={"token": Secret("${SHOP_TOKEN}")}
        )
        source = DltSource(connection=connection, sync_mode=SyncMode.FULL_REFRESH)
        return source.declaring(sample(0, 0).schema)


class TestTables(SourceSuite):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> SourceOrigin:
        return Tables(tmp_path)


class TestDictionaries(SourceSuite):
    @pytest.fixture
    def origin(self) -> SourceOrigin:
        return Dictionaries()
