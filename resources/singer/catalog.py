"""What a tap says it has, and the choice of one stream of it; starts the tap once for that, and reads no records."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsl.contracts.connectors import Stream
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.redaction import remember
from resources.singer.process import TapFolder, TapProcess
from resources.singer.schemas import columns_of
from resources.sql import suggestion
from resources.stores.secrets import reveal

if TYPE_CHECKING:
    from resources.singer.resource import SingerConnection


def configured(connection: SingerConnection) -> dict[str, Any]:
    """Returns the tap's configuration with its secrets; they are in no error or log from now on."""
    found: dict[str, Any] = copy.deepcopy(connection.config)
    for path, secret in connection.secrets.items():
        value = reveal(secret)
        # As it stands in a JSON text, which taps like to print.
        remember(json.dumps(value)[1:-1])
        *outer, last = path.split(".")
        held = found
        for name in outer:
            held = held.setdefault(name, {})
            if not isinstance(held, dict):
                raise FatalError(f"`config` has no object at '{path}'", where=connection.place, hint="check `secrets`")
        held[last] = value
    return found


def start(connection: SingerConnection, folder: TapFolder, *arguments: str) -> TapProcess:
    """Starts the tap with its configuration; the folder must stay until it has ended."""
    config = folder.put("config.json", configured(connection))
    environment = {name: reveal(secret) for name, secret in connection.environment.items()}
    command = [*connection.command, "--config", config, *arguments]
    return TapProcess(command, connection.place, environment, connection.silence.total_seconds())


def catalog_of(connection: SingerConnection) -> dict[str, Any]:
    """Returns the tap's catalog: the file that is named, or what `--discover` says.

    Raises:
        RetryableError: The tap failed.
        FatalError: What it says is no catalog.
    """
    text = _discovered(connection) if connection.catalog is None else _read(connection.catalog, connection.place)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FatalError(f"its catalog is no JSON: {error}", where=connection.place) from error
    streams = found.get("streams") if isinstance(found, dict) else None
    if not isinstance(streams, list) or not all(isinstance(each, dict) for each in streams):
        raise FatalError(
            "its catalog has no list of streams", where=connection.place, hint="has it no --discover? discover: false"
        )
    return {"streams": streams}


def _discovered(connection: SingerConnection) -> bytes:
    folder = TapFolder()
    try:
        process = start(connection, folder, "--discover")
        try:
            return b"\n".join(process.lines())
        finally:
            process.stop()
    finally:
        folder.close()


def _read(path: str, where: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FatalError(f"catalog '{path}' cannot be read: {error.strerror}", where=where) from error


def name_of(entry: dict[str, Any]) -> str:
    """Returns a stream's name in messages."""
    return str(entry.get("stream") or entry.get("tap_stream_id") or "")


def chosen(catalog: dict[str, Any], stream: str, where: str) -> dict[str, Any]:
    """Returns the entry of a stream.

    Raises:
        SchemaError: There is no such stream.
    """
    for each in catalog["streams"]:
        if stream in {each.get("stream"), each.get("tap_stream_id")}:
            return dict(each)
    names = [name_of(each) for each in catalog["streams"]]
    raise SchemaError(f"there is no stream '{stream}'", where=where, hint=suggestion(stream, names))


def selecting(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns a catalog with only this stream, selected both ways that taps know: in metadata, and in the schema."""
    metadata = [copy.deepcopy(each) for each in entry.get("metadata") or [] if isinstance(each, dict)]
    whole = next((each for each in metadata if each.get("breadcrumb") == []), None)
    if whole is None:
        whole = {"breadcrumb": [], "metadata": {}}
        metadata.append(whole)
    whole.setdefault("metadata", {})["selected"] = True
    schema = {**schema_in(entry), "selected": True}
    return {"streams": [{**entry, "schema": schema, "metadata": metadata, "selected": True}]}


def schema_in(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns the JSON Schema of a catalog's entry, or of a SCHEMA message."""
    found = entry.get("schema")
    return found if isinstance(found, dict) else {}


def streams_of(connection: SingerConnection) -> list[Stream]:
    """Lists the streams of a tap; [] where they cannot be told."""
    if not connection.discover_streams:
        return []
    found = []
    for each in catalog_of(connection)["streams"]:
        try:
            schema = columns_of(schema_in(each), connection.place)
        except SchemaError:
            schema = None
        key = each.get("key_properties") or ()
        found.append(Stream(name_of(each), schema, tuple(map(str, key))))
    return found


def first_schema(connection: SingerConnection, stream: str) -> dict[str, Any]:
    """Starts a tap that has no catalog, and returns the first schema of a stream that it says.

    Raises:
        SchemaError: It ends without one.
        RetryableError: It failed.
    """
    folder = TapFolder()
    try:
        process = start(connection, folder)
        try:
            for line in process.lines():
                message = _message(line)
                if message.get("type") == "SCHEMA" and message.get("stream") == stream:
                    return schema_in(message)
        finally:
            process.stop()
    finally:
        folder.close()
    raise SchemaError(f"it has no stream '{stream}'", where=connection.place)


def _message(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
