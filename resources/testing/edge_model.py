"""The words of the catalogue of edge values: families of values, and how SQL systems write literals; holds no value itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

from resources.testing.meanings import Json, Meaning

POSTGRES: Final = "postgres"
MYSQL: Final = "mysql"
SQLITE: Final = "sqlite"
DUCKDB: Final = "duckdb"
SYSTEMS: Final = (POSTGRES, MYSQL, SQLITE, DUCKDB)

Writing: TypeAlias = Callable[[str, Meaning], str | None]
"""(system, meaning) -> a literal, or None where the system has no such value."""


@dataclass(frozen=True)
class Edge:
    """One value.

    Attributes:
        name: `family/value`, unlike any other.
        meaning: What it is.
        literals: System -> the SQL expression of it; a system that is absent has no such value.
    """

    name: str
    meaning: Meaning
    literals: Mapping[str, str]


@dataclass(frozen=True)
class Family:
    """Values of one column.

    Attributes:
        name: The column.
        types: System -> the column's declared type; a system that is absent has no such type.
        edges: The values, NULL among them.
    """

    name: str
    types: Mapping[str, str]
    edges: tuple[Edge, ...]


def family(
    name: str,
    types: Mapping[str, str],
    values: Mapping[str, Meaning],
    write: Writing,
    own: Mapping[str, tuple[Meaning, Mapping[str, str]]] | None = None,
) -> Family:
    """Builds a family.

    Args:
        name: The column.
        types: System -> its type.
        values: Value -> what it means, in every system that has the type and can write it.
        write: How it is written.
        own: Value -> what it means, and the literals of the systems that have it.
    """
    edges = [Edge(f"{name}/null", None, dict.fromkeys(types, "NULL"))]
    for label, meaning in values.items():
        found = {system: write(system, meaning) for system in types}
        edges.append(Edge(f"{name}/{label}", meaning, {at: said for at, said in found.items() if said is not None}))
    edges += [Edge(f"{name}/{label}", *both) for label, both in (own or {}).items()]
    return Family(name, types, tuple(edges))


def number(system: str, meaning: Meaning) -> str | None:
    """Writes a whole or a decimal number, exactly."""
    text = f"{meaning:f}" if isinstance(meaning, Decimal) else str(meaning)
    return f"'{text}'" if isinstance(meaning, Decimal) or system == POSTGRES else text


def floating(system: str, meaning: Meaning) -> str | None:
    """Writes a floating-point number by the digits that tell it from every other one."""
    text = repr(meaning)
    named = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text)
    if system in {POSTGRES, DUCKDB}:
        return f"'{named or text}'"
    if named is None and text != "-0.0":  # MariaDB and SQLite store it as 0.0
        return text if "e" in text else f"{text}e0"
    return {"inf": "9e999", "-inf": "-9e999"}.get(text) if system == SQLITE else None


def words(system: str, meaning: Meaning) -> str | None:
    """Writes a text by its bytes; PostgreSQL has none with NUL."""
    raw = str(meaning).encode()
    if system == POSTGRES:
        return None if b"\0" in raw else f"convert_from('\\x{raw.hex()}', 'UTF8')"
    if system == MYSQL:
        return f"CONVERT(x'{raw.hex()}' USING utf8mb4)"
    return f"CAST(x'{raw.hex()}' AS TEXT)" if system == SQLITE else f"decode(from_hex('{raw.hex()}'))"


def octets(system: str, meaning: Meaning) -> str | None:
    """Writes bytes."""
    assert isinstance(meaning, bytes)
    digits = meaning.hex()
    return {POSTGRES: f"'\\x{digits}'", DUCKDB: f"from_hex('{digits}')"}.get(system, f"x'{digits}'")


def quoted(system: str, meaning: Meaning) -> str | None:
    """Writes the text of a UUID or of a JSON document."""
    text = meaning.text if isinstance(meaning, Json) else str(meaning)
    escaped = text.replace("'", "''")
    return f"'{escaped}'" if system != MYSQL else "'" + escaped.replace("\\", "\\\\") + "'"


def truth(system: str, meaning: Meaning) -> str | None:
    """Writes a boolean."""
    return str(meaning).lower() if system in {POSTGRES, DUCKDB} else str(int(bool(meaning)))


def same_everywhere(text: str, *systems: str) -> dict[str, str]:
    """Returns one literal for some systems."""
    return dict.fromkeys(systems, text)


def uuid_of(text: str) -> uuid.UUID:
    """Returns a UUID."""
    return uuid.UUID(text)
