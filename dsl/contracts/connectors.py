"""The seed's verbs, on the objects that can keep their promise: configured (frozen), then open (a `with`); no connector lives here.

Configured: `Connection`, `Source`, `Destination`, `Processor` are frozen dataclasses of options: building one is the seed's
`configure`, and a half-configured one cannot exist. They open nothing until asked.
Open: `BatchReader`, `BatchWriter`, `Operator` own sockets, files and buffers, and are closed by leaving their `with`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import ClassVar, Protocol, Self

import pyarrow as pa

from dsl.contracts.capabilities import DestinationCapabilities, SourceCapabilities, WriteMode
from dsl.contracts.changes import Deletes
from dsl.contracts.rows import Batch as Batch  # noqa: PLC0414 - readers yield it: part of this contract
from dsl.contracts.rows import Outcome, Rejection, WriteStats
from dsl.contracts.spec import option
from dsl.contracts.state import Json, State


@dataclass(frozen=True)
class CheckResult:
    """The health of a connection or a node.

    Attributes:
        healthy: Whether a run could start now.
        details: The server's version, or what is wrong and what to do about it.
    """

    healthy: bool
    details: str


@dataclass(frozen=True)
class Stream:
    """One thing a connection offers for reading.

    Attributes:
        name: As it would be written in the document (`public.users`, `orders/*.csv`).
        schema: Its Arrow schema, or None where finding out would read the data.
        primary_key: Names of its key columns, if it has one.
    """

    name: str
    schema: pa.Schema | None = None
    primary_key: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """What the plan wants of a source beyond its own configuration.

    Attributes:
        columns: The columns to read, in this order; None for all.
        predicate: A condition in DuckDB's SQL over those columns, only for sources whose
            capabilities say `filters`.
        limit: Rows to read at most, only for sources whose capabilities say `limits`.
        batch_rows: Rows in a batch, at most.
        batch_bytes: Bytes in a batch, about.
        logical_time: The run's time, for `now()` and for bounds.
        follow: Whether the reader goes on for ever, only for sources that can `stream`. At least once a second it yields
            something: where nothing has come, a batch without rows and the state as it was. So it hears that it should end,
            and may send what `acknowledge` left.
        dry: Whether somebody only looks: nothing may be made or moved at the system (slots, offsets, acknowledgements).
    """

    columns: tuple[str, ...] | None = None
    predicate: str | None = None
    limit: int | None = None
    batch_rows: int = 65_536
    batch_bytes: int = 16 * 2**20
    logical_time: datetime | None = None
    follow: bool = False
    dry: bool = False


@dataclass(frozen=True)
class Token:
    """Names the stream that a writer commits, beside the data it writes.

    Attributes:
        workflow: The workflow's name.
        stage: The stage's id within it.
        split: Which part of a divided stage.
        run_id: The run that asks, for the record.
        retain: Free facts about the run worth keeping with the token.
    """

    workflow: str
    stage: str
    split: int = 0
    run_id: str = ""
    retain: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The stream's key: the same for every run of the same stage."""
        return f"{self.workflow}/{self.stage}/{self.split}"


@dataclass(frozen=True)
class Committed:
    """What a destination remembers of its last commit.

    Attributes:
        epoch: Its number, counted from 1 over the stream's whole life.
        state: The stage's state after it.
    """

    epoch: int
    state: State


class _Open(ABC):
    """Something that is closed by leaving its `with`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Releases everything; safe to call twice; discards what was not committed."""


class BatchReader(_Open):
    """An open source: iterate once, from the state it was opened with."""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """The schema of every batch."""

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]:
        """Yields batches in order. A full refresh ends with a batch whose state says `complete: true`.

        Raises:
            RetryableError: The reader may be opened again from the last state.
            SchemaError: A column that was asked for is gone.
            FatalError: Anything that trying again cannot cure.
        """

    def acknowledge(self, state: State) -> None:
        """Tells the system that everything up to `state` is committed (queues, replication slots)."""

    def rejections(self) -> Sequence[Rejection]:
        """Hands over the rows that could not be decoded since the last call (malformed lines)."""
        return ()


class BatchWriter(_Open):
    """An open destination with one uncommitted epoch; leaving without `commit` discards it."""

    @abstractmethod
    def get_state(self) -> Committed | None:
        """Returns the token beside the data as it stood when this writer fenced it, or None at the first load."""

    @abstractmethod
    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        """Adds rows to the open epoch; returns those it refused, with reasons.

        Raises:
            RejectedRows: Nothing of this batch was added, and the system did not say which row is at fault.
            RetryableError: The epoch is lost; open a new writer and replay from its state.
            FencedError: A newer run owns the stream.
        """

    @abstractmethod
    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        """Makes the epoch's rows visible and moves the token to (epoch, state), in one act where the system can.

        Args:
            epoch: One more than the last committed epoch.
            state: The stage's state after these rows.
            final: The input has ended: an overwrite swaps its staged rows in now.

        Raises:
            RetryableError: Unknown whether it was committed: open a new writer, whose `get_state` tells.
            FencedError: A newer run owns the stream; nothing was committed.
        """


class Operator(_Open):
    """An open processor."""

    @abstractmethod
    def process(self, rows: pa.RecordBatch) -> Outcome:
        """Transforms one batch; every row that entered passes, fails or is filtered."""

    def get_state(self) -> State | None:
        """Returns what a stateful operator must remember between batches, or None."""
        return None

    def close(self) -> None:
        """Releases everything; most operators own nothing."""


@dataclass(frozen=True, kw_only=True)
class Connection(ABC):
    """How to reach one system; shown in the Dagster UI as a resource. Fields are `option`s; secrets are `Secret`s."""

    @abstractmethod
    def check(self) -> CheckResult:
        """Reaches the system and says what it found; never raises for an unreachable or unwilling system."""

    def discover(self) -> Sequence[Stream]:
        """Lists what could be read here."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """What to read, and how. Sub-classes add their options beside `connection`."""

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities()

    connection: Connection

    @property
    @abstractmethod
    def physical_name(self) -> tuple[str, ...]:
        """The asset key of what is read: system kind, place, name; equal for everyone who reads or writes it."""

    @property
    def tells(self) -> Deletes:
        """How it tells of deletions; unless `ignored`, its rows are changes: their last column is `changes.OPERATION`."""
        return Deletes.IGNORED

    def declaring(self, schema: pa.Schema) -> Source:
        """Returns the source with the columns that the document declares; one whose system knows its types is unchanged."""
        del schema
        return self

    @abstractmethod
    def discover_schema(self) -> pa.Schema:
        """Asks the system for the schema that `read` will yield.

        Raises:
            SchemaError: There is no such table or file.
            UnavailableError: The system cannot be reached.
        """

    @abstractmethod
    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        """Opens a reader that resumes after `state`, or starts at the beginning when it is None."""

    def splits(self, count: int) -> tuple[Json, ...]:
        """Divides a full refresh into at most `count` parts that together are the whole, only for sources that can `divide`.

        A part is small JSON that says which rows are in it, so that a run that died goes on with the very parts it began with.
        Nothing is returned where this source cannot be divided, as it is configured.

        Raises:
            UnavailableError: The system cannot be reached.
        """
        del count
        return ()

    def part(self, split: Json) -> Source:
        """Returns the source of one of the parts that `splits` gave, in this run or an earlier one."""
        del split
        return self

    def together(self) -> AbstractContextManager[Source]:
        """Opens what the parts share while they are read, such as a snapshot; yields the source whose `part`s see it.

        Raises:
            UnavailableError: The system cannot be reached.
        """
        return nullcontext(self)


@dataclass(frozen=True, kw_only=True)
class Destination(ABC):
    """Where to write, and how. Sub-classes add their options beside `connection`."""

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities()

    connection: Connection
    write_mode: WriteMode = option(default=WriteMode.APPEND, doc="How rows arrive.")

    @property
    @abstractmethod
    def physical_name(self) -> tuple[str, ...]:
        """The asset key of what is written; equal to the `physical_name` of a source that reads it."""

    @abstractmethod
    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        """Creates or evolves the target, fences the stream and opens its next epoch.

        Raises:
            SchemaError: The target cannot hold this schema under the declared policy.
            UnavailableError: The system cannot be reached.
        """

    def for_input(self, name: str) -> Destination:
        """Returns the destination for one of several inputs: its own prefix or table."""
        del name
        return self


@dataclass(frozen=True, kw_only=True)
class Processor(ABC):
    """A transformation that is not relational: it sees Arrow batches."""

    stateful: ClassVar[bool] = False

    @abstractmethod
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Returns the schema that leaves, given the one that enters."""

    @abstractmethod
    def open(self, schema: pa.Schema, state: State | None) -> Operator:
        """Opens it for batches of `schema`, with what it remembered."""


@dataclass(frozen=True)
class ConnectorKind:
    """One value of `type` in a document, and the classes behind it.

    Attributes:
        kind: The value, a noun of the system (`postgres`).
        title: The system's own name (`PostgreSQL`).
        connection: Spec of how to reach it.
        source: Spec of what can be read, or None.
        destination: Spec of what can be written, or None.
        extra: The optional dependency that brings its driver, or "".
        example: A YAML node that uses it, for the reference.
        runs_code: Whether a node of it runs code that the document names: refused unless the deployment allows `python` nodes.
    """

    kind: str
    title: str
    connection: type[Connection]
    source: type[Source] | None = None
    destination: type[Destination] | None = None
    extra: str = ""
    example: str = ""
    runs_code: bool = False


class Catalog(Protocol):
    """Every connector that is installed, loaded on demand."""

    def kinds(self) -> tuple[str, ...]:
        """All values of `type` for sources and destinations, sorted."""

    def get(self, kind: str) -> ConnectorKind | None:
        """The connector of that kind, or None."""


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""

    def sleep(self, pause: timedelta) -> None:
        """Waits."""
