"""Dead letters: names refused rows so that a replay names them alike, keeps them before their epoch commits, and watches the budget."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from dsl.contracts.connectors import BatchWriter, Clock, Destination, Token
from dsl.contracts.errors import BudgetExceededError, ErrorType, FatalError, HeadraceError, UnavailableError
from dsl.contracts.policies import DeadLetterPolicy, OnError, Policies
from dsl.contracts.redaction import scrub
from dsl.contracts.rows import Rejection
from dsl.contracts.state import VERSION, Json
from dsl.contracts.stores import DeadLetter, DeadLetterStore
from engine.flow import Ledger, Rejected

FLUSH_ROWS = 1_000
RATIO_ROWS = 1_000
_TEXTS = ("id", "workflow", "stage", "node", "code", "reason", "row", "run_id")
SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in _TEXTS]
    + [
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("rejected_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""What a dead letter looks like at a destination; `row` is JSON."""


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
        clean = Rejection(own_copy(rejection.row), scrub(rejection.reason), rejection.code, rejection.node)
        return Rejected(hashlib.sha256(name.encode()).hexdigest(), clean, self._policies.on_error)


def own_copy(row: pa.RecordBatch) -> pa.RecordBatch:
    """Copies a slice, so that keeping one row does not keep its whole batch."""
    return row.take(pa.array(range(row.num_rows), pa.int64()))


def _bytes_of(row: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema.remove_metadata()) as writer:
        writer.write_batch(own_copy(row).replace_schema_metadata(None))
    return sink.getvalue().to_pybytes()


def _fatal(rejection: Rejection) -> FatalError:
    return FatalError(
        f"a row was refused: {rejection.reason}",
        where=rejection.node,
        hint="mend the row, or say `on_error: dlq` (keep it aside) or `on_error: drop` at this node",
        error_type=ErrorType.POISON,
    )


class Letters(Protocol):
    """Where the dead letters of one stage go."""

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps them durably; the same id twice counts once."""

    def forget(self) -> None:
        """Their epoch is committed: a replay will not bring them again."""

    def close(self) -> None:
        """Releases everything."""


class StoredLetters:
    """Keeps dead letters in the deployment's store.

    Args:
        store: The store.
    """

    def __init__(self, store: DeadLetterStore) -> None:
        self._store = store

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps them; the store drops ids that it knows."""
        self._store.add(letters)

    def forget(self) -> None:
        """The store knows its ids by itself."""

    def close(self) -> None:
        """The store belongs to the run."""


class WrittenLetters:
    """Writes dead letters to a destination as rows of `SCHEMA`, each id once.

    The destination's token remembers the ids whose epoch has not been committed yet: what a replay may bring again.

    Args:
        destination: Where to.
        token: The stream whose rows are refused.
    """

    def __init__(self, destination: Destination, token: Token) -> None:
        own = Token(token.workflow, f"{token.stage}.dead_letters", token.split, token.run_id, token.retain)
        self._token = token
        self._writer: BatchWriter = destination.open_writer(SCHEMA, own)
        committed = self._writer.get_state()
        self._epoch = 0 if committed is None else committed.epoch
        open_ids = None if committed is None else committed.state.get("open_ids")
        self._open = {str(each) for each in open_ids} if isinstance(open_ids, list) else set[str]()

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Writes and commits those that are new.

        Raises:
            FatalError: The destination refused a dead letter.
        """
        fresh = [each for each in letters if each.id[:32] not in self._open]
        if not fresh:
            return
        refused = self._writer.write(_rows_of(fresh, self._token))
        if refused:
            raise FatalError(f"the dead-letter destination refused a row: {refused[0].reason}", where="dead_letter")
        self._open |= {each.id[:32] for each in fresh}
        ids: list[Json] = [*sorted(self._open)]
        self._epoch += 1
        self._writer.commit(self._epoch, {"v": VERSION, "open_ids": ids})

    def forget(self) -> None:
        """Forgets the ids; the next commit writes that down."""
        self._open.clear()

    def close(self) -> None:
        """Closes the writer."""
        self._writer.close()


def letters_for(store: DeadLetterStore, destination: Destination | None, token: Token) -> Letters:
    """Opens where the dead letters of a stage go."""
    return StoredLetters(store) if destination is None else WrittenLetters(destination, token)


class LetterBox:
    """The refused rows of the open epoch, handed on in parts, so that memory stays bounded.

    Args:
        letters: Where they go.
        token: The stream.
        clock: Tells the time.
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
            self._send(self._waiting[:FLUSH_ROWS], epoch)
            del self._waiting[:FLUSH_ROWS]

    def flush(self, epoch: int) -> None:
        """Hands on the rest; after it the epoch may commit."""
        self._send(self._waiting, epoch)
        self._waiting.clear()

    def committed(self) -> None:
        """The epoch is committed."""
        self.pending = 0
        self._letters.forget()

    def _send(self, refused: Sequence[Rejected], epoch: int) -> None:
        if not refused:
            return
        now = self._clock.now()
        try:
            self._letters.add([self._letter(each, epoch, now) for each in refused])
        except HeadraceError:
            raise
        except OSError as error:
            raise UnavailableError(
                f"dead letters could not be kept: {error}",
                where="dead letters",
                hint="nothing of the epoch was committed",
            ) from error

    def _letter(self, refused: Rejected, epoch: int, now: datetime) -> DeadLetter:
        return DeadLetter(refused.id, self._token.key, epoch, refused.rejection, now, self._token.run_id)


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
        }
        for each in letters
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def row_as_json(row: pa.RecordBatch) -> str:
    """One row as JSON: bytes as base64, what JSON lacks (dates, decimals) as text."""
    return json.dumps(row.to_pylist()[0], default=_plain, ensure_ascii=False)


def _plain(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
