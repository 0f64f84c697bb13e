"""Singer taps under the suite of sources, with a tap that reads a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import Source
from dsl.contracts.secret import Secret
from resources.formats.json_values import to_lines
from resources.singer.resource import SingerSource
from resources.testing import CANARY, SourceOrigin, SourceSuite, sample
from tests.resources.singer.taps import tap


class TapOfFile:
    """A tap over a file of JSON lines. Its schema has the columns of the suite; times without a zone have to be declared."""

    def __init__(self, folder: Path) -> None:
        self._rows = folder / "rows.jsonl"

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        self._rows.write_text("\n".join(line for each in rows for line in to_lines(each)))

    def source(self) -> Source:
        connection = tap({"rows": str(self._rows)}, secrets={"auth.token": Secret("${SINGER_TOKEN}")})
        source = SingerSource(connection=connection, stream="rows", sync_mode=SyncMode.FULL_REFRESH)
        return source.declaring(sample(0, 0).schema)


class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SourceOrigin:
        monkeypatch.setenv("SINGER_TOKEN", CANARY)
        return TapOfFile(tmp_path)
