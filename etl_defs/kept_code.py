"""The documents behind refused rows, kept under the fingerprint of their plan, so that rows can be replayed by the very same code.

Beside the text stand the columns that the sources had, so that it compiles to the same plan without asking them. Files are created
once and whole, readable by their owner alone, and never changed; what is damaged counts as gone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from etl_defs.library import Entry

FOLDER = "code"
_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class KeptCode:
    """A workflow as a run compiled it.

    Attributes:
        entry: The workflow with the text of its file.
        schemas: Source node -> the columns that its system had.
    """

    entry: Entry
    schemas: Mapping[str, pa.Schema]


def keep(folder: Path, fingerprint: str, code: KeptCode) -> None:
    """Keeps a document durably; the first one under a fingerprint stays.

    Args:
        folder: The folder of the dead letters.
        fingerprint: Of the plan that the document gave.
        code: The document.
    """
    path = _path(folder, fingerprint)
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps(_as_json(code), ensure_ascii=False)
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(json.dumps({"sha256": _digest(text), "code": text}))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def find(folder: Path, fingerprint: str) -> KeptCode | None:
    """Returns the document under a fingerprint, or None where it is gone or damaged."""
    path = _path(folder, fingerprint)
    try:
        held = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        text = held.get("code", "")
        return _from_json(json.loads(text)) if held and held.get("sha256") == _digest(text) else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _path(folder: Path, fingerprint: str) -> Path | None:
    return folder / FOLDER / f"{fingerprint}.json" if _NAME.fullmatch(fingerprint) else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _as_json(code: KeptCode) -> dict[str, object]:
    schemas = {name: base64.b64encode(each.serialize()).decode() for name, each in code.schemas.items()}
    entry = code.entry
    facts = {"name": entry.name, "title": entry.title, "path": str(entry.path), "text": entry.text}
    return {**facts, "schemas": schemas}


def _from_json(held: Mapping[str, object]) -> KeptCode:
    schemas = held["schemas"]
    columns = schemas if isinstance(schemas, dict) else {}
    read = {name: pa.ipc.read_schema(pa.py_buffer(base64.b64decode(each))) for name, each in columns.items()}
    entry = Entry(str(held["name"]), str(held["title"]), Path(str(held["path"])), str(held["text"]))
    return KeptCode(entry, read)
