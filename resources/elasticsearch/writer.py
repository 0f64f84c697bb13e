"""Writes epochs of documents: notes their ids in the token, sends them, takes back what a dead run left; one stream, one owner.

The order of an epoch: note which ids may be written (which also makes sure that the stream is still ours), send the
documents, and at the commit refresh the index and move the token. A run that dies in between leaves documents whose ids the
token's document lists; the next run deletes them (they have no key) or writes newer versions of them (they have one).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import BatchWriter, Committed, Token
from dsl.contracts.errors import FatalError, FencedError, HeadraceError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from resources.elasticsearch.bulk import Bulk, Operation, Refusal, Sent
from resources.elasticsearch.client import Client
from resources.elasticsearch.documents import DocumentEncoder, Documents
from resources.elasticsearch.indices import Index, Target
from resources.elasticsearch.resource import Refresh
from resources.elasticsearch.token import MOST_ROWS, ORDER_BITS, Block, TokenDocument, moved

if TYPE_CHECKING:
    from resources.elasticsearch.resource import ElasticsearchDestination

CHUNK_ROWS = 32_768
UNDO_ROWS = 10_000
_FENCED = Failpoint("elasticsearch.fenced", "The stream belongs to this writer; what the one before left still stands.")
_NOTED = Failpoint("elasticsearch.noted", "The ids that some rows will get are noted; no document is sent.")
_SENT = Failpoint("elasticsearch.sent", "The documents of a batch are in the index; the epoch is not committed.")
_SETTLED = Failpoint("elasticsearch.settled", "The epoch's documents are durable; the token is not moved.")
_MOVED = Failpoint("elasticsearch.moved", "The token is moved: the epoch is committed; an owed swap is not done.")
_SWAPPED = Failpoint(
    "elasticsearch.swapped", "The alias names the new index; the token still says that the swap is owed."
)
_TAKEN_BACK = Failpoint("elasticsearch.taken_back", "A dead run's documents are deleted; the token still lists them.")


def open_writer(destination: ElasticsearchDestination, schema: pa.Schema, token: Token) -> BatchWriter:
    """Opens a writer; raises as `Destination.open_writer` says."""
    client = Client(destination.connection)
    try:
        return ElasticsearchWriter(client, destination, schema, token)
    except BaseException:
        client.close()
        raise


class ElasticsearchWriter(BatchWriter):
    """One open stream into one index.

    Args:
        client: The cluster; the writer closes it.
        destination: Where and how to write.
        schema: The schema of the rows to come.
        token: The stream.
    """

    def __init__(self, client: Client, destination: ElasticsearchDestination, schema: pa.Schema, token: Token) -> None:
        self._client, self._to, self._stage = client, destination, token.stage
        self._overwrites = destination.write_mode is WriteMode.OVERWRITE
        self._target = Target(
            client,
            destination.index,
            schema,
            destination.properties,
            destination.settings,
            destination.schema_evolution,
        )
        self._where = self._target.where
        self._encoder = DocumentEncoder(schema, destination.id_field, self._where)
        self._tokens = TokenDocument(client, destination.token_index, destination.index, token)
        self._held = self._tokens.fence()
        _FENCED.reach()
        self._sent, self._written = Sent(), 0
        self._finish_swap()
        self._take_back()
        self._into: Index | None = self._ready()

    def get_state(self) -> Committed | None:
        return self._held.committed

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        rejected: list[Rejection] = []
        for at in range(0, rows.num_rows, CHUNK_ROWS):
            rejected += self._write(rows.slice(at, CHUNK_ROWS))
        return rejected

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        if epoch != self._held.epoch + 1:
            raise FatalError(
                f"epoch {epoch} cannot follow epoch {self._held.epoch}", where=self._where, hint="this is a defect"
            )
        swaps = final and self._overwrites
        if swaps or self._written:
            self._settle_documents(self._place())
            _SETTLED.reach()
        staging = self._into.name if self._overwrites and self._into is not None else ""
        self._move(epoch, state, staging, owed=swaps)
        _MOVED.reach()
        if swaps:
            self._finish_swap()
            self._into = None
        sent, written = self._sent, self._written
        self._sent, self._written = Sent(), 0
        known = not sent.unknown
        return WriteStats(written, sent.bytes, sent.created if known else -1, sent.updated if known else -1)

    def _move(self, epoch: int, state: State, staging: str, *, owed: bool) -> None:
        held = self._held
        # The move may arrive unheard: then only who reads the token may take the documents back, and not `close`.
        self._held = replace(held, open=(), open_in="")
        try:
            self._held = self._tokens.put(moved(held, epoch, state, staging=staging, owed=owed))
        except FencedError:
            self._held = held
            raise

    def close(self) -> None:
        # The next run has done or will do the same; a cluster that does not answer must not keep this one from ending.
        with suppress(HeadraceError):
            self._take_back()
        self._client.close()

    # ---- writing ----------------------------------------------------------------------------------------------------

    def _write(self, rows: pa.RecordBatch) -> list[Rejection]:
        documents = self._encoder.encode(rows)
        good = [row for row in range(rows.num_rows) if row not in documents.faults]
        refused = [Refusal(row, fault.code, fault.reason) for row, fault in sorted(documents.faults.items())]
        if good:
            into = self._place()
            first = self._reserve(into, len(good))
            _NOTED.reach()
            sent = Bulk(self._client, into.name, self._to.request_bytes, self._where).send(
                self._operations(documents, good, first)
            )
            _SENT.reach()
            refused += sent.refused + self._overtaken(sent.overtaken)
            self._add(sent)
        self._written += rows.num_rows - len(refused)
        return [Rejection(rows.slice(each.row, 1), each.reason, each.code, self._stage) for each in refused]

    def _operations(self, documents: Documents, rows: Sequence[int], first: int) -> list[Operation]:
        found = []
        for version, row in enumerate(rows, first):
            name = self._tokens.id_of(version) if documents.ids is None else documents.ids[row]
            action = {"index": {"_id": name, "version": version, "version_type": "external"}}
            line = json.dumps(action, ensure_ascii=False, separators=(",", ":"))
            found.append(Operation(row, f"{line}\n{documents.texts[row]}\n".encode()))
        return found

    def _reserve(self, into: Index, count: int) -> int:
        """Notes the ids of some more rows, which also proves that the stream is ours; returns the first version.

        Raises:
            FencedError: Another run owns the stream.
        """
        held = self._held
        if self._to.id_field is not None:
            # A key's document need not be taken back; a new number lets the newest of several streams win.
            self._held = self._tokens.put(replace(held, last=held.drawn()))
            return self._held.last << ORDER_BITS
        blocks = held.open
        if not blocks or blocks[-1].rows + count > MOST_ROWS:
            held = replace(held, last=held.drawn())
            blocks = (*blocks, Block(held.last, 0))
        last = blocks[-1]
        longer = (*blocks[:-1], Block(last.number, last.rows + count))
        self._held = self._tokens.put(replace(held, open=longer, open_in=into.name))
        return last.number << ORDER_BITS | last.rows

    def _overtaken(self, rows: Sequence[int]) -> list[Refusal]:
        """Returns the refusals of rows whose document is newer than this write.

        Raises:
            FencedError: It is newer because another run of this stream has taken over.
        """
        if rows:
            self._tokens.check(self._held)
        said = "the document has a newer version, given by another stream or program; its own stays"
        return [Refusal(each, "version_conflict", said) for each in rows]

    def _add(self, sent: Sent) -> None:
        self._sent.created += sent.created
        self._sent.updated += sent.updated
        self._sent.unknown += sent.unknown
        self._sent.bytes += sent.bytes

    # ---- the index --------------------------------------------------------------------------------------------------

    def _ready(self) -> Index | None:
        """Returns the index to write; None for a gathering index that is still to be made."""
        held = self._held
        if not self._overwrites:
            if held.staging:
                self._target.drop(held.staging)
                self._held = self._tokens.put(replace(held, staging=""))
            return self._target.ready()
        self._target.only()
        found = self._target.find(held.staging) if held.staging else ()
        if held.staging and not found:
            raise FatalError(
                f"'{held.staging}', which gathers an overwrite under way, is gone",
                where=self._where,
                hint=f"delete the token '{self._tokens.key}' in '{self._to.token_index}' to begin again",
            )
        return replace(self._target, name=held.staging).ready() if found else None

    def _place(self) -> Index:
        """Returns the index to write, which is noted before it is made."""
        if self._into is None:
            number = self._held.drawn()
            name = f"{self._target.name}-{number:x}"
            self._held = self._tokens.put(replace(self._held, last=number, open_in=name))
            self._into = self._target.make(name, self._target.only())
        return self._into

    def _settle_documents(self, index: Index) -> None:
        """Makes the epoch's documents durable, and found by searches.

        Raises:
            FatalError: The index they went to is gone.
        """
        self._target.check_kept(index)
        if not index.durable:
            self._client.ask("POST", index.name, "_flush", where=self._where, force="true", wait_if_ongoing="true")
        if self._to.refresh is Refresh.COMMIT or self._overwrites:
            self._client.ask("POST", index.name, "_refresh", where=self._where)

    def _finish_swap(self) -> None:
        """Does the swap that the token says is owed; safe to repeat after a crash."""
        if self._held.owed:
            self._target.take_place(self._held.staging)
            _SWAPPED.reach()
            self._held = self._tokens.put(replace(self._held, staging="", owed=False))

    def _take_back(self) -> None:
        """Deletes the documents that an epoch left without committing, and the index that it only began."""
        held = replace(self._held, last=self._held.drawn())
        if not held.open_in:
            return
        if self._overwrites and held.open_in != held.staging:
            self._target.drop(held.open_in)
        elif self._target.find(held.open_in):
            bulk = Bulk(self._client, held.open_in, self._to.request_bytes, self._where)
            versions = [version for block in held.open for version in block.versions()]
            for at in range(0, len(versions), UNDO_ROWS):
                bulk.send([self._deletion(each, held.last) for each in versions[at : at + UNDO_ROWS]])
        _TAKEN_BACK.reach()
        self._held = self._tokens.put(replace(held, open=(), open_in=""))

    def _deletion(self, version: int, number: int) -> Operation:
        """Returns the deletion of a document, with a version that leaves a tombstone above the document's own."""
        newer = number << ORDER_BITS | version & (MOST_ROWS - 1)
        action = {"delete": {"_id": self._tokens.id_of(version), "version": newer, "version_type": "external"}}
        return Operation(0, json.dumps(action, separators=(",", ":")).encode() + b"\n")
