"""Sends rows to an endpoint: each request noted before it goes, none that was answered sent again; one stream, one owner."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, Committed, Token
from dsl.contracts.errors import HeadraceError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.rows import Rejection, WriteStats
from dsl.contracts.state import State
from resources.http_client import HttpClient
from resources.rest.journal import Journal, Noted, digest_of
from resources.rest.sending import Refused, RefusedWhole, Sending

if TYPE_CHECKING:
    from resources.rest.resource import RestDestination

_NOTED = Failpoint("rest.noted", "A request is in the journal; it is not sent.")
_SENT = Failpoint("rest.sent", "The API has answered a request; the journal does not know the answer.")
_ANSWERED = Failpoint("rest.answered", "The answer is in the journal; the epoch is not committed.")


def open_writer(destination: RestDestination, schema: pa.Schema, token: Token) -> BatchWriter:
    """Opens a writer; raises as `Destination.open_writer` says."""
    target = "/".join(destination.physical_name)
    client = HttpClient(destination.connection, f"rest {'/'.join(destination.physical_name[1:])}")
    try:
        sending = Sending(destination, schema, client)
        return RestWriter(destination, sending, client, Journal(destination.journal, token, target), token)
    except BaseException:
        client.close()
        raise


class RestWriter(BatchWriter):
    """One open stream to one endpoint.

    Args:
        destination: What the options say.
        sending: Makes requests of rows.
        client: The server; the writer closes it.
        journal: What was sent; the writer closes it.
        token: The stream.
    """

    def __init__(
        self, destination: RestDestination, sending: Sending, client: HttpClient, journal: Journal, token: Token
    ) -> None:
        self._to, self._sending, self._client, self._journal, self._token = (
            destination, sending, client, journal, token,
        )  # fmt: skip
        self._left = journal.left()
        self._at = 0
        self._seen = self._written = self._bytes = 0

    def get_state(self) -> Committed | None:
        return self._journal.committed

    def write(self, rows: pa.RecordBatch) -> Sequence[Rejection]:
        self._journal.check()
        texts, urls = self._sending.texts(rows), self._sending.urls(rows)
        digests = [digest_of(each) for each in texts]
        refused: Refused = {}
        for row, url in enumerate(urls):
            if isinstance(url, HeadraceError):
                refused[row] = ("path", url.message)
        good = [row for row in range(rows.num_rows) if row not in refused]
        known = self._repeated([digests[row] for row in good])
        refused |= {good[at]: each for at, each in known.items() if each is not None}
        fresh = good[len(known) :]
        size = self._to.batch_rows
        for start in range(0, len(fresh), size):
            part = fresh[start : start + size]
            said = self._send([texts[row] for row in part], [digests[row] for row in part], str(urls[part[0]]))
            refused |= {part[at]: each for at, each in said.items()}
        self._written += rows.num_rows - len(refused)
        stage = self._token.stage
        return [Rejection(rows.slice(row, 1), refused[row][1], refused[row][0], stage) for row in sorted(refused)]

    def commit(self, epoch: int, state: State, *, final: bool = False) -> WriteStats:
        self._journal.commit(epoch, state)
        stats = WriteStats(self._written, self._bytes)
        self._left, self._at, self._seen, self._written, self._bytes = [], 0, 0, 0, 0
        return stats

    def close(self) -> None:
        self._client.close()
        self._journal.close()

    def _repeated(self, digests: Sequence[bytes]) -> dict[int, tuple[str, str] | None]:
        """Takes the rows that an epoch cut off has sent already, as long as they come in the same order; what became of each."""
        found: dict[int, tuple[str, str] | None] = {}
        for at, digest in enumerate(digests):
            if not self._left:
                break
            request = self._left[0]
            if request.digest(self._at) != digest:
                # Other rows than before: what was sent of them stays, what comes now is sent.
                self._journal.cut(request, self._at)
                self._left, self._at = [], 0
                break
            if request.body is not None:
                answered = self._finished(request)
                if answered is None:
                    break
                request = self._left[0] = answered
            found[at] = request.refused.get(self._at)
            self._bytes += len(digest)
            self._at += 1
            if self._at == request.count:
                self._left.pop(0)
                self._at = 0
        self._seen += len(found)
        return found

    def _finished(self, request: Noted) -> Noted | None:
        """Sends the request that was under way once more; None if it was refused as a whole: its rows are then sent anew."""
        try:
            return self._journal.answer(request, self._sending.send(request))
        except RefusedWhole:
            self._journal.cut(request, 0)
            self._left, self._at = [], 0
            return None

    def _send(self, texts: Sequence[str], digests: Sequence[bytes], url: str) -> Refused:
        body = self._sending.body(texts)
        request = self._journal.note(Noted(b"".join(digests), url, self._key(len(texts), url, body), body))
        _NOTED.reach()
        try:
            refused = self._sending.send(request)
        except RefusedWhole as error:
            self._journal.cut(request, 0)
            if not self._to.split:
                return self._all(request, error)
            half = len(texts) // 2
            before = self._send(texts[:half], digests[:half], url)
            after = self._send(texts[half:], digests[half:], url)
            return {**before, **{half + row: each for row, each in after.items()}}
        _SENT.reach()
        self._journal.answer(request, refused)
        _ANSWERED.reach()
        self._seen += len(texts)
        self._bytes += len(body)
        return refused

    def _all(self, request: Noted, error: RefusedWhole) -> Refused:
        refused = dict.fromkeys(range(request.count), (error.code, error.reason))
        self._journal.answer(self._journal.note(request), refused)
        self._seen += request.count
        return refused

    def _key(self, count: int, url: str, body: bytes) -> str:
        """Returns what a repetition of a request has as well, and no other request: even of the same rows in a later epoch."""
        epoch = 1 if self._journal.committed is None else self._journal.committed.epoch + 1
        content = hashlib.sha256(body).hexdigest()
        return hashlib.sha256(
            f"{self._token.key}\0{epoch}\0{self._seen}\0{count}\0{url}\0{content}".encode()
        ).hexdigest()
