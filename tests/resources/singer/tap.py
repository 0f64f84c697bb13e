"""A tap for tests: says what its configuration scripts, keeps the protocol or breaks it on purpose; needs only the standard library."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def say(message: Any) -> None:
    print(message if isinstance(message, str) else json.dumps(message), flush=True)  # noqa: T201 - how a tap speaks


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    parser.add_argument("--catalog", type=Path)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--discover", action="store_true")
    given = parser.parse_args()
    config = json.loads(given.config.read_text())
    if "seen" in config:
        seen = {
            "mode": f"{given.config.stat().st_mode & 0o777:o}",
            "folder": str(given.config.parent),
            "config": config,
            "environment": dict(os.environ),
            "pid": os.getpid(),
        }
        Path(config["seen"]).write_text(json.dumps(seen))
    if given.discover:
        discover(config)
    elif given.catalog is None or _selected(json.loads(given.catalog.read_text())) == [config["stream"]]:
        sync(config, json.loads(given.state.read_text()) if given.state else None)
    if "complain" in config:
        print(json.dumps(config), file=sys.stderr)  # noqa: T201 - how a tap complains
    sys.exit(config.get("exit", 0))


def discover(config: dict[str, Any]) -> None:
    stream = config["stream"]
    say(
        {"streams": [{"tap_stream_id": stream, "stream": stream, "key_properties": ["id"], "schema": config["schema"]}]}
    )


def _selected(catalog: dict[str, Any]) -> list[str]:
    return [
        each["stream"]
        for each in catalog["streams"]
        if any(not entry["breadcrumb"] and entry["metadata"].get("selected") for entry in each["metadata"])
    ]


def sync(config: dict[str, Any], state: dict[str, Any] | None) -> None:
    """Says the script, or the rows of a file from the bookmark on, with a STATE after every third."""
    stream = config["stream"]
    say({"type": "SCHEMA", "stream": stream, "schema": config["schema"], "key_properties": ["id"]})
    for each in config.get("script", []):
        if each == "sleep":
            time.sleep(3600)
        say(each)
    if "rows" not in config:
        return
    first = state["bookmarks"][stream] if state else 0
    lines = Path(config["rows"]).read_text().splitlines()
    for at in range(first, len(lines)):
        say({"type": "RECORD", "stream": stream, "record": json.loads(lines[at])})
        if (at + 1) % config.get("every", 3) == 0:
            say({"type": "STATE", "value": {"bookmarks": {stream: at + 1}}})


if __name__ == "__main__":
    main()
