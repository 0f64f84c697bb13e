"""What every SQL connector shares: names and their quoting, the options of tables, transport security; opens nothing."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.spec import OptionError

TOKEN_TABLE = "_headrace_tokens"  # noqa: S105 - a table's name
STAGE_PREFIX = "_headrace_stage_"
ROW_NUMBER = "_headrace_row"


class Tls(StrEnum):
    """How the transport is protected.

    `auto` verifies certificate and host name, except on the loopback address or a socket file, where nobody else
    listens and plaintext is allowed. A server elsewhere that has no certificate needs `disable` written out.
    """

    AUTO = "auto"
    VERIFY_FULL = "verify-full"
    REQUIRE = "require"
    DISABLE = "disable"


class SchemaEvolution(StrEnum):
    """What happens when rows bring columns or types that the table has not."""

    EVOLVE = "evolve"
    FREEZE = "freeze"


class NullCursor(StrEnum):
    """What happens to rows whose incremental column is NULL."""

    REFUSE = "refuse"
    INCLUDE_ONCE = "include_once"


@dataclass(frozen=True)
class TableName:
    """A table's name, with its schema where the system has schemas.

    Attributes:
        schema: The schema (in MySQL the database); "" for the connection's own.
        name: The table.
    """

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str, schema: str = "") -> TableName:
        """Reads `schema.table` or `table`; a table's own name may not hold a dot.

        Raises:
            OptionError: There are more than two parts, or an empty one.
        """
        parts = text.split(".")
        if len(parts) > 2 or not all(parts):
            raise OptionError("table", f"'{text}' is not a table name", "write table or schema.table")
        return cls(schema if len(parts) == 1 else parts[0], parts[-1])

    def beside(self, name: str) -> TableName:
        """Returns the name of another table of the same schema."""
        return TableName(self.schema, name)

    def quoted(self, mark: str = '"') -> str:
        """Returns it as it stands in a statement."""
        return ".".join(quoted(each, mark) for each in (self.schema, self.name) if each)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


def quoted(name: str, mark: str = '"') -> str:
    """Returns an identifier as it stands in a statement, whatever characters it holds.

    Raises:
        OptionError: It is empty or holds a NUL character, which no system can quote.
    """
    if not name or "\0" in name:
        raise OptionError("table", f"{name!r} cannot be a name in SQL", "give it a name without NUL characters")
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"


def listed(names: Iterable[str], mark: str = '"') -> str:
    """Returns quoted names with commas between."""
    return ", ".join(quoted(each, mark) for each in names)


def loopback(host: str) -> bool:
    """Tells whether a host is this machine: a loopback address, `localhost` or a socket's folder."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def verifies(tls: Tls, host: str) -> bool:
    """Tells whether the server's certificate and name are checked."""
    return tls is Tls.VERIFY_FULL or (tls is Tls.AUTO and not loopback(host))


def stage_name(key: str, table: TableName, epoch: int) -> str:
    """Returns the name of the table that gathers an overwrite begun at an epoch; unique to stream, table and epoch."""
    digest = hashlib.sha256(f"{key}\0{table}".encode()).hexdigest()[:16]
    return f"{STAGE_PREFIX}{digest}_{epoch}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns a hint that names the nearest of the known names, or lists a few of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"there are: {', '.join(names[:10])}" if names else ""


def check_writing(mode: WriteMode, key: tuple[str, ...], modes: Iterable[WriteMode]) -> None:
    """Refuses write options that do not fit together.

    Raises:
        OptionError: Names the option at fault.
    """
    if mode not in set(modes):
        raise OptionError("write_mode", f"'{mode}' is not supported here", f"use {', '.join(sorted(modes))}")
    by_key = mode in {WriteMode.UPSERT, WriteMode.MERGE}
    if by_key and not key:
        raise OptionError("primary_key", f"{mode} needs the columns that identify a row", "add primary_key: [id]")
    if key and not by_key:
        hint = "add write_mode: upsert, or remove primary_key"
        raise OptionError("primary_key", f"a key has no meaning in {mode} mode", hint)
    if len(set(key)) != len(key):
        raise OptionError("primary_key", "a column stands twice in the key", "name each column once")


def check_reading(table: str | None, query: str | None) -> None:
    """Refuses a source that names neither or both of a table and a query.

    Raises:
        OptionError: Names the option at fault.
    """
    if table is None and query is None:
        raise OptionError("table", "there is nothing to read", "add table: schema.name, or query: SELECT ...")
    if table is not None and query is not None:
        raise OptionError("query", "both table and query are given", "keep one of them")
    if query is not None and not query.lstrip(" \t\r\n(").lower().startswith(("select", "with", "values")):
        raise OptionError("query", "it is not a SELECT", "write one SELECT statement without a semicolon")
    if query is not None and query.rstrip().endswith(";"):
        raise OptionError("query", "it ends with a semicolon", "remove the semicolon")


def check_incremental(column: str | None, only: Mapping[str, object]) -> None:
    """Refuses options that say something of an incremental read where there is none.

    Args:
        column: The incremental column, or None.
        only: Those options, by name; None where one is not given.

    Raises:
        OptionError: Names the option at fault.
    """
    for name, value in only.items():
        if column is None and value is not None:
            raise OptionError(name, "it has no meaning without incremental_column", "add incremental_column")


def query_name(query: str | None) -> str:
    """Returns what a query is called where a table would have its name."""
    return f"query_{hashlib.sha256((query or '').encode()).hexdigest()[:8]}"
