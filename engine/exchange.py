"""The exchange between two stages, as a source and a destination like any connector: durable Arrow segments in a local folder.

A commit is one manifest, created once and atomically; it holds the token, so rows and token move in one act. A full
refresh opens a new generation; a reader finishes the generation it is in and then takes the next. Guarantee: exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from dsl.contracts.capabilities import DestinationCapabilities, Guarantee, Proof, SourceCapabilities, SyncMode
from dsl.contracts.connectors import (
    Batch,
    BatchReader,
    BatchWriter,
    CheckResult,
    Committed,
    Connection,
    Destination,
    ReadRequest,
    Source,
    Token,
)
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State, advance, is_complete
from dsl.contracts.stores import CheckpointStore
from engine.exchange_files import ExchangeFolder, HashingFile, Manifest, disk_faults, schema_text
from engine.flow import part

FOLDER = "exchanges"


@dataclass(frozen=True, kw_only=True)
class ExchangeConnection(Connection):
    """Where exchanges are kept.

    Attributes:
        home: The run's home folder.
    """

    home: Path

    def check(self) -> CheckResult:
        """Looks whether the folder is there."""
        return CheckResult(self.home.is_dir(), f"exchanges under {self.home}")

    def folder(self, workflow: str, stage: str) -> ExchangeFolder:
        """The folder of a stage's exchange."""
        return ExchangeFolder(self.home / FOLDER / workflow / stage)


@dataclass(frozen=True, kw_only=True)
class ExchangeSource(Source):
    """What another stage wrote.

    Attributes:
        workflow: The workflow.
        stage: The stage that wrote it.
    """

    capabilities: ClassVar[SourceCapabilities] = SourceCapabilities(
        sync_modes=frozenset({SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL})
    )

    connection: ExchangeConnection
    workflow: str
    stage: str

    @classmethod
    def at(cls, home: Path, workflow: str, stage: str) -> ExchangeSource:
        """The exchange of a stage."""
        return cls(connection=ExchangeConnection(home=home), workflow=workflow, stage=stage)

    @property
    def folder(self) -> ExchangeFolder:
        """Its folder."""
        return self.connection.folder(self.workflow, self.stage)

    @property
    def physical_name(self) -> tuple[str, ...]:
        """The exchange's name."""
        return ("exchange", self.workflow, self.stage)

    def discover_schema(self) -> pa.Schema:
        """The schema of the newest segment."""
        last = self.folder.last()
        if last is None:
            raise SchemaError("the exchange is empty", where=self.stage, hint=f"run the stage {self.stage!r} first")
        return last.arrow_schema()

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        """Opens a reader after `{generation, segment, batch}`."""
        return ExchangeReader(self, state)

    def waiting(self, state: State | None) -> bool:
        """Whether there is something to read after a state."""
        return next(iter(_ahead(self.folder.manifests(), state)), None) is not None


class ExchangeReader(BatchReader):
    """Reads the rest of one generation.

    Args:
        source: The exchange.
        state: Where to resume.
    """

    def __init__(self, source: ExchangeSource, state: State | None) -> None:
        self._source, self._state = source, state
        self._manifests = _ahead(source.folder.manifests(), state)
        self._check_beginning()

    @property
    def schema(self) -> pa.Schema:
        return self._manifests[0].arrow_schema() if self._manifests else self._source.discover_schema()

    def __iter__(self) -> Iterator[Batch]:
        state = self._state
        for manifest in self._manifests:
            state = _entered(state, manifest)
            for rows, number in self._rows(manifest, _number(state, "batch")):
                state = advance(state, rows.num_rows, rows.nbytes, batch=number)
                yield Batch(rows, state if number < manifest.batches else _left(state, manifest))
            if not manifest.file:
                yield Batch(self._empty(manifest), _left(state, manifest))
            state = _left(state, manifest)

    def close(self) -> None:
        self._manifests = []

    def _rows(self, manifest: Manifest, after: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        if not manifest.file:
            return
        path = self._source.folder.verified(manifest)
        with pa.OSFile(str(path), mode="r") as file, pa.ipc.open_stream(file) as reader:
            # One batch at a time: reading a compressed segment whole would inflate it in memory.
            for number, rows in enumerate(reader, start=1):
                if number > after:
                    yield rows, number

    def _empty(self, manifest: Manifest) -> pa.RecordBatch:
        schema = manifest.arrow_schema()
        return pa.RecordBatch.from_arrays([pa.array([], each.type) for each in schema], schema=schema)

    def _check_beginning(self) -> None:
        if not self._manifests:
            return
        first = self._manifests[0]
        inside = self._state is not None and _number(self._state, "generation") == first.generation
        if first.segment == (_number(self._state, "segment") + 1 if inside else 1):
            return
        raise FatalError(
            "what comes next in the exchange was read by every other consumer and collected",
            where=f"{self._source.stage}, generation {first.generation}",
            hint="a consumer that is new or was set back must start with a full refresh: delete the workflow's checkpoints",
        )


def _ahead(manifests: list[Manifest], state: State | None) -> list[Manifest]:
    """What a reader has before it: the rest of its generation, or all of the next one."""
    if state is None:
        # A generation whose beginning was collected is over for a consumer that never read it, unless it is the only one.
        whole = [each.generation for each in manifests if each.segment == 1]
        first = next(iter(whole or [each.generation for each in manifests]), 0)
        return [each for each in manifests if each.generation == first]
    generation, segment = _number(state, "generation"), _number(state, "segment")
    if is_complete(state):
        following = next((each.generation for each in manifests if each.generation > generation), 0)
        return [each for each in manifests if each.generation == following]
    return [each for each in manifests if each.generation == generation and each.segment > segment]


def _entered(state: State | None, manifest: Manifest) -> State:
    same = state is not None and not is_complete(state) and _number(state, "generation") == manifest.generation
    if same and _number(state, "entered") == manifest.segment:
        return state or {}
    before = state if same else None
    return advance(
        before,
        0,
        0,
        generation=manifest.generation,
        segment=manifest.segment - 1,
        entered=manifest.segment,
        batch=0,
        complete=False,
    )


def _left(state: State, manifest: Manifest) -> State:
    return {**state, "segment": manifest.segment, "batch": 0, "complete": manifest.closes}


def _number(state: State | None, field_: str) -> int:
    value = None if state is None else state.get(field_)
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, kw_only=True)
class ExchangeDestination(Destination):
    """Where a stage writes for other stages.

    Attributes:
        workflow: The workflow.
        stage: The stage that writes it.
    """

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        guarantee=Guarantee.EXACTLY_ONCE, proof=Proof.REAL, nested=True
    )

    connection: ExchangeConnection
    workflow: str
    stage: str

    @classmethod
    def at(cls, home: Path, workflow: str, stage: str) -> ExchangeDestination:
        """The exchange of a stage."""
        return cls(connection=ExchangeConnection(home=home), workflow=workflow, stage=stage)

    @property
    def physical_name(self) -> tuple[str, ...]:
        """The exchange's name."""
        return ("exchange", self.workflow, self.stage)

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        """Takes the exchange over and opens its next epoch."""
        return ExchangeWriter(self.connection.folder(self.workflow, self.stage), schema, token)


@dataclass
class _Segment:
    """The open epoch's file."""

    file: HashingFile
    writer: pa.ipc.RecordBatchStreamWriter
    rows: int = 0
    batches: int = 0


class ExchangeWriter(BatchWriter):
    """Writes epochs of an exchange.

    Args:
        folder: The exchange's folder.
        schema: Of the rows.
        token: The stream.
    """

    def __init__(self, folder: ExchangeFolder, schema: pa.Schema, token: Token) -> None:
        folder.prepare()
        self._folder, self._schema, self._token = folder, schema, token
        self._fence = folder.fence()
        folder.sweep()
        self._last = folder.last()
        self._open: _Segment | None = None

    def get_state(self) -> Committed | None:
        return None if self._last is None else Committed(self._last.epoch, self._last.state)

    def write(self, rows: pa.RecordBatch) -> list[Rejection]:
        if rows.num_rows:
            with disk_faults(self._folder.path):
                segment = self._open = self._open or self._begin()
                segment.writer.write_batch(rows)
                segment.rows += rows.num_rows
                segment.batches += 1
        return []

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        self._folder.check_fence(self._fence)
        segment, self._open = self._open, None
        try:
            with disk_faults(self._folder.path):
                if segment is not None:
                    segment.writer.close()
                manifest = self._manifest(epoch, state, segment)
            self._folder.publish(manifest, self._fence)
        except BaseException:
            # A segment that no manifest can name is removed at once: on a full disk its room is needed.
            if segment is not None and not self._folder.has(epoch):
                segment.file.discard()
            raise
        if segment is not None:
            segment.file.close()
        self._last = manifest
        return WriteStats(manifest.rows, manifest.bytes, inserted=manifest.rows, updated=0)

    def close(self) -> None:
        segment, self._open = self._open, None
        if segment is not None:
            segment.file.discard()

    def _begin(self) -> _Segment:
        number = 1 if self._last is None else self._last.epoch + 1
        file = HashingFile(self._folder.path / f"{number:012}-{self._fence}.arrow")
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        try:
            return _Segment(file, pa.ipc.new_stream(pa.PythonFile(file, mode="w"), self._schema, options=options))
        except BaseException:
            file.discard()
            raise

    def _manifest(self, epoch: int, state: State, segment: _Segment | None) -> Manifest:
        last = self._last
        begins = last is None or last.closes
        generation = (0 if last is None else last.generation) + (1 if begins else 0)
        digest = "" if segment is None else segment.file.finish()
        return Manifest(
            epoch=epoch,
            generation=generation,
            segment=1 if begins or last is None else last.segment + 1,
            closes=closes_generation(state),
            file="" if segment is None else segment.file.path.name,
            rows=0 if segment is None else segment.rows,
            bytes=0 if segment is None else segment.file.size,
            sha256=digest,
            batches=0 if segment is None else segment.batches,
            schema=schema_text(self._schema),
            state=state,
            run_id=self._token.run_id,
        )


def closes_generation(state: State) -> bool:
    """Whether a stage's state ends a full refresh: it is final, and every input is complete (so its next run starts over)."""
    inputs = state.get("inputs")
    if state.get("final") is not True or not isinstance(inputs, dict) or not inputs:
        return False
    return all(isinstance(each, dict) and is_complete(each) for each in inputs.values())


@dataclass(frozen=True)
class Consumer:
    """A stage that reads an exchange.

    Attributes:
        key: `Token.key` of its stream.
        node: The name under which its state is kept.
    """

    key: str
    node: str


@dataclass(frozen=True)
class Collection:
    """What was removed from an exchange.

    Attributes:
        segments: How many.
        bytes: Their bytes.
    """

    segments: int = 0
    bytes: int = 0


def collect(source: ExchangeSource, consumers: tuple[Consumer, ...], checkpoints: CheckpointStore) -> Collection:
    """Removes the segments that every consumer has committed; the newest manifest stays: it is the token.

    The checkpoints may lag behind the consumers' own tokens; then less is removed than could be.
    """
    read = [_committed(checkpoints, each) for each in consumers]
    manifests = source.folder.manifests()
    done = [each for each in manifests[:-1] if all(_passed(state, each) for state in read)]
    for each in done:
        source.folder.remove(each)
    return Collection(len(done), sum(each.bytes for each in done))


def _committed(checkpoints: CheckpointStore, consumer: Consumer) -> State | None:
    checkpoint = checkpoints.get(consumer.key)
    return None if checkpoint is None else part(checkpoint.state, "inputs", consumer.node)


def _passed(state: State | None, manifest: Manifest) -> bool:
    if state is None:
        return False
    generation = _number(state, "generation")
    if generation != manifest.generation:
        return generation > manifest.generation
    return is_complete(state) or _number(state, "segment") >= manifest.segment
