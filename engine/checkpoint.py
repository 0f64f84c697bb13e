"""Where a stage goes on: the token beside the data against its copy, and the copy after each commit; decides, commits nothing."""

from __future__ import annotations

from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import RegressionError
from dsl.contracts.state import State
from dsl.contracts.stores import Checkpoint
from engine.context import OnRegression, RunContext


def reconcile(token: Token, copy: Checkpoint | None, committed: Committed | None, context: RunContext) -> None:
    """Compares the destination's token with the checkpoint, and mends the copy where the destination is ahead.

    The copy is the one from before the fence. A later one may be of a run that has taken the stream over since: this one
    would hear that the destination lost rows, where it is only fenced.

    Equal: go on. Ahead: the run before died between its commit and the copy. Behind or gone: the destination was
    restored, truncated or replaced, and going on would lose rows.

    Raises:
        RegressionError: The destination is behind, and the context does not say to rewind.
    """
    known = 0 if copy is None else copy.epoch
    here = 0 if committed is None else committed.epoch
    if here < known and context.on_regression is not OnRegression.REWIND:
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
        hint="it was restored, truncated or replaced; read again from its token with `on_regression: rewind`",
    )
