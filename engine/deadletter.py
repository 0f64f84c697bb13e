"""Dead letters: names refused rows so that a replay names them alike, keeps them before their epoch commits, and watches the budget."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, Clock, Destination, Token
from dsl.contracts.errors import BudgetExceededError, ErrorType, FatalError, UnavailableError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.policies import DeadLetterPolicy, OnError, Policies
from dsl.contracts.redaction import scrub
from dsl.contracts.rows import Rejection
from dsl.contracts.state import VERSION, Json, State
from dsl.contracts.stores import DeadLetter, DeadLetterStore
from engine.flow import Ledger, Rejected
from engine.json_rows import row_as_json

FLUSH_ROWS = 1_000
RATIO_ROWS = 1_000
_SHORT = 32
_DISCARDED = Failpoint("letters.discarded", "What a dead run's open epoch refused is forgotten; nothing has been read.")
_ADDED = Failpoint("letters.added", "Q: some dead letters of the open epoch are kept; others may follow.")
_WRITTEN = Failpoint("letters.committed", "Q: the dead letters' own destination has committed them; the epoch is not.")
_TEXTS = ("id", "workflow", "stage", "node", "code", "reason", "row", "run_id")
SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in _TEXTS]
    + [
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("rejected_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
    + [pa.field(name, pa.string()) for name in ("entry", "fingerprint", "arrow")]
)
"""What a dead letter looks like at a destination; `row` is JSON for people, `arrow` the exact row for a replay: an IPC stream in base64."""


class Numbering:
    """Names the refused rows of one node: by stream, node, source state before them, content, and how many alike came before.

    Content instead of a row number, so that the name outlives other batch sizes and another order of a parallel query.

    Args:
        key: `Token.key` of the stream.
        node: The node that refuses.
        policies: What its document says about such rows.
    """

    def __init__(self, key: str, node: str, policies: Policies) -> None:
        self._key, self._node, self._policies = key, node, policies
        self._anchor = ""
        self._seen: Counter[str] = Counter()

    @property
    def node(self) -> str:
        """The node that refuses."""
        return self._node

    def refuse(self, ledger: Ledger, counted_at: str, anchor: str, rejections: Sequence[Rejection]) -> None:
        """Notes refused rows in the books, or fails where the document says so.

        Raises:
            FatalError: `on_error` is `fail`.
        """
        if rejections and self._policies.on_error is OnError.FAIL:
            raise _fatal(rejections[0])
        if anchor != self._anchor:
            self._anchor = anchor
            self._seen.clear()
        ledger.refuse(counted_at, [self._named(each) for each in rejections])

    def _named(self, rejection: Rejection) -> Rejected:
        content = hashlib.sha256(_bytes_of(rejection.row)).hexdigest()
        nth = self._seen[content]
        self._seen[content] += 1
        name = "\0".join((self._key, self._node, self._anchor, content, str(nth)))
        # Connectors do not know what their node is called; of steps that were fused nobody knows which one it was.
        entry, _, _ = self._node.partition("+")
        clean = Rejection(own_copy(rejection.row), scrub(rejection.reason), rejection.code, self._refuser)
        return Rejected(hashlib.sha256(name.encode()).hexdigest(), clean, self._policies.on_error, entry, self._anchor)

    @property
    def _refuser(self) -> str:
        return self._node.rpartition("+")[2]


def own_copy(row: pa.RecordBatch) -> pa.RecordBatch:
    """Copies a slice, so that keeping one row does not keep its whole batch."""
    return row.take(pa.array(range(row.num_rows), pa.int64()))


def as_text(row: pa.RecordBatch) -> str:
    """A row with its schema as a text that `from_text` undoes: an Arrow IPC stream in base64."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_batch(row)
    return base64.b64encode(sink.getvalue().to_pybytes()).decode()


def from_text(text: str) -> pa.RecordBatch:
    """A row from what `as_text` made of it.

    Raises:
        ValueError: The text is something else.
    """
    with pa.ipc.open_stream(pa.py_buffer(base64.b64decode(text, validate=True))) as reader:
        return reader.read_next_batch()


def _bytes_of(row: pa.RecordBatch) -> bytes:
    columns = [_decoded(each) for each in own_copy(row).columns]
    plain = pa.RecordBatch.from_arrays(columns, names=row.schema.names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_batch(plain)
    return sink.getvalue().to_pybytes()


def _decoded(column: Any) -> Any:
    # A dictionary is that of the whole batch; what it stands for is the row's.
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def _fatal(rejection: Rejection) -> FatalError:
    return FatalError(
        f"a row was refused: {rejection.reason}",
        where=rejection.node,
        hint="mend the row, or say `on_error: dlq` (keep it aside) or `on_error: drop` at this node",
        error_type=ErrorType.POISON,
    )


class Letters(Protocol):
    """Where the dead letters of one stage go."""

    def resume(self, committed: int) -> None:
        """Forgets what a dead run left of its open epoch, once the stream is fenced and its last committed epoch is known."""

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Takes dead letters of the open epoch."""

    def keep(self, epoch: int) -> None:
        """Makes durable what was taken, before its epoch commits."""

    def forget(self) -> None:
        """The epoch is committed: a replay will not bring its dead letters again."""

    def close(self) -> None:
        """Releases everything; what was taken and not kept is discarded."""


class StoredLetters:
    """Keeps dead letters in the deployment's store.

    What a run that died kept of its open epoch is forgotten first: a replay in batches of another size would give the same
    rows other ids. Only what was there before the fence: a run that sleeps behind its fence may be overtaken, and must not
    forget what the other one keeps.

    Args:
        store: The store.
        token: The stream whose rows are refused.
    """

    def __init__(self, store: DeadLetterStore, token: Token) -> None:
        self._store, self._key = store, token.key
        self._before = store.known(token.key)

    def resume(self, committed: int) -> None:
        """Forgets what runs before the fence kept of the epoch that is open."""
        self._store.discard(self._key, committed + 1, self._before)
        _DISCARDED.reach()

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps them at once; the store drops ids that it knows."""
        self._store.add(letters)

    def keep(self, epoch: int) -> None:
        """They are kept already."""

    def forget(self) -> None:
        """The store knows its ids by itself."""

    def close(self) -> None:
        """The store belongs to the run."""


class WrittenLetters:
    """Writes dead letters to a destination as rows of `SCHEMA`, each once.

    They are committed just before their epoch. Whoever dies between the two commits leaves the ids in the token, with the
    epoch they belong to: what a replay brings again is known by them. Their stream is fenced before that of the rows, so
    that whoever owns the rows no longer cannot write dead letters either.

    Args:
        destination: Where to.
        token: The stream whose rows are refused.
    """

    def __init__(self, destination: Destination, token: Token) -> None:
        own = Token(token.workflow, f"{token.stage}.dead_letters", token.split, token.run_id, token.retain)
        self._token = token
        self._writer: BatchWriter = destination.open_writer(SCHEMA, own)
        last = self._writer.get_state()
        self._epoch = 0 if last is None else last.epoch
        self._state = None if last is None else last.state
        self._known: set[str] = set()
        self._added = False

    def resume(self, committed: int) -> None:
        """Recalls the ids that a dead run wrote of the epoch that is open."""
        self._known = _open_ids(self._state, committed)

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Writes those that are new.

        Raises:
            FatalError: The destination refused a dead letter.
        """
        fresh = [each for each in letters if each.id[:_SHORT] not in self._known]
        if not fresh:
            return
        refused = self._writer.write(_rows_of(fresh, self._token))
        if refused:
            raise FatalError(f"the dead-letter destination refused a row: {refused[0].reason}", where="dead_letter")
        self._known |= {each.id[:_SHORT] for each in fresh}
        self._added = True

    def keep(self, epoch: int) -> None:
        """Commits them, with their ids and the epoch they belong to."""
        if self._added:
            ids: list[Json] = [*sorted(self._known)]
            self._epoch += 1
            self._writer.commit(self._epoch, {"v": VERSION, "epoch": epoch, "open_ids": ids})
            _WRITTEN.reach()
            self._added = False

    def forget(self) -> None:
        """Forgets the ids."""
        self._known.clear()

    def close(self) -> None:
        """Closes the writer."""
        self._writer.close()


def _open_ids(state: State | None, committed: int) -> set[str]:
    epoch, ids = (state or {}).get("epoch"), (state or {}).get("open_ids")
    # Of an epoch that did commit nothing will come again; a later refresh may refuse the very same row anew.
    is_open = isinstance(epoch, int) and epoch > committed
    return {str(each) for each in ids} if is_open and isinstance(ids, list) else set()


def letters_for(store: DeadLetterStore, destination: Destination | None, token: Token) -> Letters:
    """Opens where the dead letters of a stage go, before the stage's own stream is fenced."""
    return StoredLetters(store, token) if destination is None else WrittenLetters(destination, token)


class LetterBox:
    """The refused rows of the open epoch, handed on in parts, so that memory stays bounded.

    Args:
        letters: Where they go.
        token: The stream.
        clock: Tells the time.

    Attributes:
        pending: Dead letters of the open epoch.
    """

    def __init__(self, letters: Letters, token: Token, clock: Clock) -> None:
        self._letters, self._token, self._clock = letters, token, clock
        self._waiting: list[Rejected] = []
        self.pending = 0

    def take(self, refused: Sequence[Rejected], epoch: int) -> None:
        """Takes refused rows of the open epoch.

        Raises:
            UnavailableError: They could not be kept; the epoch may not commit.
        """
        kept = [each for each in refused if each.on_error is OnError.DLQ]
        self._waiting.extend(kept)
        self.pending += len(kept)
        while len(self._waiting) >= FLUSH_ROWS:
            with self._sending():
                self._letters.add(self._written(self._waiting[:FLUSH_ROWS], epoch))
                _ADDED.reach()
            del self._waiting[:FLUSH_ROWS]

    def flush(self, epoch: int) -> None:
        """Hands on the rest and has all of them kept; after it the epoch may commit."""
        with self._sending():
            if self._waiting:
                self._letters.add(self._written(self._waiting, epoch))
                _ADDED.reach()
            self._letters.keep(epoch)
        self._waiting.clear()

    def committed(self) -> None:
        """The epoch is committed."""
        self.pending = 0
        self._letters.forget()

    @contextmanager
    def _sending(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                f"dead letters could not be kept: {error}",
                where="dead letters",
                hint="nothing of the epoch was committed",
            ) from error

    def _written(self, refused: Sequence[Rejected], epoch: int) -> list[DeadLetter]:
        now, token = self._clock.now(), self._token
        code = token.retain.get("fingerprint", "")
        return [
            DeadLetter(each.id, token.key, epoch, each.rejection, now, token.run_id, each.entry, code, each.anchor)
            for each in refused
        ]


def check_budget(policy: DeadLetterPolicy, rejected: int, read: int, *, ended: bool, where: str) -> None:
    """Fails when more rows were refused than the document allows.

    A share is judged from a thousand rows on, or at the end.

    Raises:
        BudgetExceededError: The budget is spent; nothing of the open epoch is committed.
    """
    hint = "see the reasons with `headrace dlq list`, or raise the budget under `dead_letter`"
    if policy.max_rows is not None and rejected > policy.max_rows:
        raise BudgetExceededError(
            f"{rejected} rows were refused; max_rows is {policy.max_rows}", where=where, hint=hint
        )
    judged = read > 0 and (ended or read >= RATIO_ROWS)
    if policy.max_ratio is not None and judged and rejected / read > policy.max_ratio:
        share = f"{rejected} of {read} rows were refused ({rejected / read:.2%})"
        raise BudgetExceededError(f"{share}; max_ratio is {policy.max_ratio:.2%}", where=where, hint=hint)


def _rows_of(letters: Sequence[DeadLetter], token: Token) -> pa.RecordBatch:
    rows = [
        {
            "id": each.id,
            "workflow": token.workflow,
            "stage": token.stage,
            "node": each.rejection.node,
            "code": each.rejection.code,
            "reason": each.rejection.reason,
            "row": row_as_json(each.rejection.row),
            "run_id": each.run_id,
            "epoch": each.epoch,
            "rejected_at": each.rejected_at,
            "entry": each.entry,
            "fingerprint": each.fingerprint,
            "arrow": as_text(each.rejection.row),
        }
        for each in letters
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
