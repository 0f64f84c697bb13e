"""Where a stage goes on: the token beside the data against its copy, and the copy after each commit; decides, commits nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import RegressionError
from dsl.contracts.failpoints import Failpoint
from dsl.contracts.policies import OnRegression
from dsl.contracts.state import State
from dsl.contracts.stores import Checkpoint
from engine.context import RunContext
from engine.events import Teller

COPY_EVERY = timedelta(seconds=1)
_COPIED = Failpoint("loop.copied", "K: a copy of the token is written.")


class Copies:
    """Lets the checkpoint follow the token: at once after a pause, then once a second, and always in the end.

    Writing it takes longer than many a commit, and the token decides: whoever finds an older copy mends it.

    Args:
        token: The stream.
        context: The run.
        teller: Told when a copy cannot be written.
    """

    def __init__(self, token: Token, context: RunContext, teller: Teller) -> None:
        self._token, self._context, self._teller = token, context, teller
        self._pending: tuple[int, State] | None = None
        self._due: datetime | None = None

    def note(self, epoch: int, state: State) -> None:
        """Takes what has been committed, and writes it if it is time to."""
        self._pending = (epoch, state)
        self.keep_up()

    def keep_up(self) -> None:
        """Writes what is not written yet, if it is time to."""
        if self._pending is not None and (self._due is None or self._context.clock.now() >= self._due):
            self.write()

    def write(self) -> None:
        """Writes what is not written yet."""
        if self._pending is None:
            return
        (epoch, state), self._pending = self._pending, None
        try:
            put(self._token, epoch, state, self._context)
        except Exception as error:  # noqa: BLE001 - the token beside the data decides; the next start mends the copy
            self._teller.tell("checkpoint_late", epoch=epoch, reason=str(error))
        self._due = self._context.clock.now() + COPY_EVERY
        _COPIED.reach()


def reconcile(
    token: Token,
    copy: Checkpoint | None,
    committed: Committed | None,
    context: RunContext,
    on_regression: OnRegression = OnRegression.FAIL,
) -> None:
    """Compares the destination's token with the checkpoint, and mends the copy where the destination is ahead.

    The copy is the one from before the fence. A later one may be of a run that has taken the stream over since: this one
    would hear that the destination lost rows, where it is only fenced.

    Equal: go on. Ahead: the run before died between its commit and the copy. Behind or gone: the destination was
    restored, truncated or replaced, and going on would lose rows.

    Raises:
        RegressionError: The destination is behind, and the policy does not say to rewind.
    """
    known = 0 if copy is None else copy.epoch
    here = 0 if committed is None else committed.epoch
    if here < known and on_regression is not OnRegression.REWIND:
        raise _regression(token, here, known)
    if committed is None:
        if known:
            context.checkpoints.delete(token.key)
        return
    if copy is None or here != known or dict(copy.state) != dict(committed.state):
        put(token, committed.epoch, committed.state, context)


def put(token: Token, epoch: int, state: State, context: RunContext) -> None:
    """Replaces the checkpoint."""
    context.checkpoints.put(Checkpoint(token.key, epoch, state, token.run_id, context.clock.now()))


def _regression(token: Token, here: int, known: int) -> RegressionError:
    found = f"its token says epoch {here}" if here else "it has no token"
    return RegressionError(
        f"the destination is behind the checkpoint: {found}, the checkpoint says {known}",
        where=token.key,
        hint="it was restored, truncated or replaced; to go on from its token, say `on_regression: rewind` at the destination",
    )
