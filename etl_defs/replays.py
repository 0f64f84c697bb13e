"""Replays the dead letters of one workflow: finds the way of each kind of them, claims them, runs it; decides nothing about rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from dsl.compile import CompiledWorkflow
from dsl.contracts.connectors import Source
from dsl.contracts.errors import FatalError
from dsl.contracts.stores import EventSink
from dsl.replay import FEED, Refused, Rest, name_of, rest_of, warnings
from dsl.workflow import Role
from engine.control import Control
from engine.flow import part
from engine.replay import LetterConnection, LetterSource, ReplayedLetters
from engine.report import StageOutcome, StageReport
from engine.run import run_plan
from etl_defs.kept_code import KeptCode, find, keep
from etl_defs.letters_elsewhere import take_over
from etl_defs.library import Library, LoadError
from etl_defs.naming import dagster_name
from etl_defs.runner import Stores, local_letters, run_context
from resources.stores.dead_letters import LocalDeadLetters
from resources.stores.deliveries import LocalDeliveries, Shape
from resources.stores.letter_choice import Choice

MAY_OVERWRITE = "say --may-overwrite (may_overwrite in the UI) if that is what you want"


@dataclass(frozen=True)
class Group:
    """Dead letters that take the same way.

    Attributes:
        shape: What they have in common.
        choice: Which of that shape are meant.
        rests: The way to each target; none where they cannot be replayed.
        refusal: Why they cannot be replayed, or None.
        waiting: How many of them the run that refused them has not committed yet: these are left where they are.
        unedited: How many of them a reader could not read and nobody has edited: these too.
        code: What `rests` was compiled from.
    """

    shape: Shape
    choice: Choice
    rests: tuple[Rest, ...] = ()
    refusal: FatalError | None = None
    waiting: int = 0
    unedited: int = 0
    code: KeptCode | None = None

    @property
    def ready(self) -> int:
        """How many of them can be replayed now."""
        return 0 if self.refusal else max(0, self.shape.letters - self.waiting - self.unedited)

    @property
    def warnings(self) -> list[str]:
        """What a person should know before."""
        return warnings(self.rests)


@dataclass(frozen=True)
class Arrived:
    """What a replay did at one target.

    Attributes:
        rest: The way it took.
        runs: The runs whose letters they were: id -> how many.
        report: What the stage did.
    """

    rest: Rest
    runs: Mapping[str, int]
    report: StageReport


@dataclass(frozen=True)
class Replayed:
    """What came of a replay.

    Attributes:
        groups: What was asked for, refused groups included.
        arrived: What it did, target by target.
        letters: How many letters are replayed by it.
        refused_again: How many rows of them were refused again, each as a letter of its own.
        finished: Whether it came to its end; one that was stopped is gone on with by the next replay.
    """

    groups: tuple[Group, ...]
    arrived: tuple[Arrived, ...]
    letters: int
    refused_again: int
    finished: bool

    @property
    def runs(self) -> dict[str, int]:
        """The runs that refused the letters: id -> how many letters of it were chosen."""
        found: Counter[str] = Counter()
        for each in self.groups:
            if each.rests:
                found.update(each.shape.runs)
        return dict(found)


class Replay:
    """The dead letters of one workflow, and the code that can take them up.

    Args:
        library: Holds the workflow as it is now.
        workflow: Its own name, or its name in Dagster.
        stores: Where the letters and the checkpoints are.
        pinned: Whether each letter takes the code that refused it, instead of today's.
        may_overwrite: Whether old rows may take the place of newer ones with the same key.
    """

    def __init__(
        self, library: Library, workflow: str, stores: Stores, *, pinned: bool = False, may_overwrite: bool = False
    ) -> None:
        self._library, self._stores = library, stores
        self._pinned, self._may_overwrite = pinned, may_overwrite
        self._name = dagster_name(workflow)
        self._title = library.entry(self._name).title if library.has(self._name) else workflow
        self._folder = local_letters(library.settings)
        self.letters = LocalDeadLetters(self._folder)
        self.deliveries = LocalDeliveries(self.letters)
        self._compiled: dict[str, CompiledWorkflow] = {}

    @property
    def title(self) -> str:
        """The workflow's own name."""
        return self._title

    def take_over(self) -> int:
        """Adds what the document keeps at a connection to the deployment's store; tells how many letters were new."""
        place = self._now.bound.dead_letters if self._library.has(self._name) else None
        return 0 if place is None else take_over(place, self._title, self.letters)

    def groups(self, choice: Choice, run_id: str = "") -> tuple[Group, ...]:
        """Returns the chosen letters, by the way that they would take. Changes nothing."""
        chosen = replace(choice, workflow=self._title)
        return tuple(self._group(each, chosen, run_id) for each in self.deliveries.shapes(chosen))

    def run(
        self, choice: Choice, *, run_id: str, logical_time: datetime, events: EventSink, control: Control | None = None
    ) -> Replayed:
        """Replays the chosen letters, and those that a replay before was to replay and did not come to.

        Raises:
            HeadraceError: A target failed: what it has committed is settled; the next replay goes on from there.
        """
        control = control or Control()
        groups = self.groups(choice, run_id)
        for each in groups:
            if each.rests:
                streams = [rest.stream for rest in each.rests]
                self.deliveries.claim(each.choice, each.shape, streams, self._committed(each.shape.key))
        arrived = []
        for group, rest in ((each, rest) for each in groups for rest in each.rests):
            report = self._one(group, rest, run_id, logical_time, events, control)
            arrived.append(Arrived(rest, group.shape.runs, report))
            if report.outcome is not StageOutcome.FINISHED:
                break
        letters, again = self.deliveries.of_run(run_id)
        finished = all(each.report.outcome is StageOutcome.FINISHED for each in arrived)
        return Replayed(groups, tuple(arrived), letters, again, finished)

    def _one(
        self,
        group: Group,
        rest: Rest,
        run_id: str,
        logical_time: datetime,
        events: EventSink,
        control: Control,
    ) -> StageReport:
        if group.code is not None:
            keep(self._folder, rest.physical.fingerprint, group.code)
        context = run_context(
            self._library.settings,
            replace(self._stores, dead_letters=ReplayedLetters(self.letters, _origins_of(rest))),
            workflow=self._title,
            run_id=run_id,
            logical_time=logical_time,
            events=events,
            control=control,
        )
        [report] = run_plan(rest.physical, context).stages
        at = part(report.state, "inputs", FEED)
        number = None if at is None else at.get("number")
        if isinstance(number, int):
            self.deliveries.settle(rest.stream, number, run_id)
        return report

    def _group(self, shape: Shape, choice: Choice, run_id: str) -> Group:
        try:
            compiled, code = self._code(shape)
            is_source = any(each.name == shape.entry and each.role is Role.SOURCE for each in compiled.bound.nodes)
            chosen = replace(choice, edited=True) if is_source else choice
            unedited = shape.letters - shape.edited if is_source else 0
            if unedited == shape.letters:
                raise _unread(shape)
            rests = self._rests(compiled, shape, run_id)
            self._refuse_overwriting(rests, shape)
        except (FatalError, LoadError) as error:
            refusal = error if isinstance(error, FatalError) else FatalError(error.message, where=_where(shape))
            return Group(shape, choice, refusal=refusal)
        waiting = self.deliveries.waiting(chosen, shape, self._committed(shape.key))
        return Group(shape, chosen, rests, None, waiting, unedited, code)

    def _rests(self, compiled: CompiledWorkflow, shape: Shape, run_id: str) -> tuple[Rest, ...]:
        origins: dict[str, str] = {}

        def feed(stream: str) -> Source:
            connection = LetterConnection(deliveries=self.deliveries, run_id=run_id, origins=origins)
            return LetterSource(connection=connection, workflow=self._title, stream=stream, columns=shape.schema)

        def nothing(schema: pa.Schema) -> Source:
            connection = LetterConnection(deliveries=self.deliveries, run_id=run_id)
            return LetterSource(connection=connection, workflow=self._title, stream="", columns=schema)

        stage = shape.key.removeprefix(f"{self._title}/").rpartition("/")[0]
        name = name_of(shape.key, shape.entry, shape.fingerprint, shape.schema_id)
        return rest_of(compiled, Refused(stage, shape.entry, shape.schema, name), feed, nothing)

    def _refuse_overwriting(self, rests: Iterable[Rest], shape: Shape) -> None:
        said = [] if self._may_overwrite else warnings(rests)
        if said:
            raise FatalError(said[0], where=_where(shape), hint=MAY_OVERWRITE)

    def _code(self, shape: Shape) -> tuple[CompiledWorkflow, KeptCode]:
        """The code that takes a shape up, and what it is compiled from."""
        kept = find(self._folder, shape.fingerprint)
        if self._pinned:
            if kept is None:
                said = "the code that refused them is not kept any more" if shape.fingerprint else "they name no code"
                raise FatalError(said, where=_where(shape), hint="replay with today's code: leave --pinned out")
            return self._cached(shape.fingerprint, lambda: self._library.compiled_as(kept.entry, kept.schemas)), kept
        entry = self._library.entry(self._name) if self._library.has(self._name) else None
        if entry is None:
            hint = "replay with the code that refused them (--pinned), or name the file that holds it now"
            raise FatalError(f"there is no workflow {self._title!r} any more", where=_where(shape), hint=hint)
        code = KeptCode(entry, {} if kept is None else kept.schemas)
        return self._cached(f"now {shape.fingerprint}", lambda: self._typed(code)), code

    def _typed(self, code: KeptCode) -> CompiledWorkflow:
        """Today's code, with the columns that the sources had where they still fit; what matters is checked behind the node."""
        try:
            return self._library.compiled_as(code.entry, code.schemas)
        except LoadError:
            return self._now

    @property
    def _now(self) -> CompiledWorkflow:
        return self._library.compiled(self._name)

    def _cached(self, key: str, make: Callable[[], CompiledWorkflow]) -> CompiledWorkflow:
        if key not in self._compiled:
            self._compiled[key] = make()
        return self._compiled[key]

    def _committed(self, key: str) -> int:
        checkpoint = self._stores.checkpoints.get(key)
        return 0 if checkpoint is None else checkpoint.epoch


def _origins_of(rest: Rest) -> dict[str, str]:
    source = next(each for each in _sources(rest))
    connection = source.connection
    return connection.origins if isinstance(connection, LetterConnection) else {}


def _sources(rest: Rest) -> Iterator[Source]:
    for each in rest.logical.nodes:
        source = getattr(each, "source", None)
        if isinstance(source, Source):
            yield source


def _where(shape: Shape) -> str:
    return f"dead letters of {shape.entry or shape.key!r}"


def _unread(shape: Shape) -> FatalError:
    return FatalError(
        "the reader could not read them, so there is no row to go on with",
        where=_where(shape),
        hint="mend the source and run the workflow again, or give each a row of the source's columns: `headrace dlq edit`",
    )
