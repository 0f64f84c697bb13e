"""Connections to the scripted tap; starts nothing itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from resources.singer.resource import SingerConnection, SingerSource

TAP = str(Path(__file__).with_name("tap.py"))
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": ["null", "string"]},
        "score": {"type": ["null", "number"]},
        "at": {"type": ["null", "string"], "format": "date-time"},
    },
}


def tap(config: dict[str, Any], **options: Any) -> SingerConnection:
    """Returns a connection to the scripted tap."""
    return SingerConnection(
        command=(sys.executable, "-IS", TAP), config={"stream": "rows", "schema": SCHEMA, **config}, **options
    )


def scripted(*messages: Any, schema: Any = SCHEMA, **config: Any) -> SingerSource:
    """Returns a source whose tap says these messages; a dictionary without a type is a record."""
    script = [
        {"type": "RECORD", "stream": "rows", "record": each} if isinstance(each, dict) and "type" not in each else each
        for each in messages
    ]
    return SingerSource(connection=tap({"script": script, "schema": schema, **config}), stream="rows")
