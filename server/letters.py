"""Dead letters as people see them: a workflow's desk, what may be shown of a row and its reason, and a row with a value mended."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from dsl.contracts.redaction import MASK, scrub
from dsl.contracts.state import Json
from dsl.plan.logical import LogicalPlan, Process, Read
from etl_defs.kept_code import KeptCode, find
from etl_defs.library import Library, LoadError
from etl_defs.naming import dagster_name
from etl_defs.runner import local_letters
from etl_defs.settings import Settings, read_settings
from resources.formats.json_values import from_rows, to_rows
from resources.stores.dead_letters import ANY, Held, LocalDeadLetters
from resources.stores.letter_choice import Choice
from resources.stores.letter_file import pattern_of
from server.cli.deployment import YAML, compile_one, neighbours
from server.home import prepare_home
from server.previews import veiled_rows

SHORTEST_ID = 6


@dataclass
class Desk:
    """The dead letters of one workflow, and the code that they belong to.

    Attributes:
        library: Holds the workflow, if it is still there.
        title: The workflow's own name.
        letters: The deployment's store.
    """

    library: Library
    title: str
    letters: LocalDeadLetters
    _plans: dict[str, tuple[LogicalPlan, ...]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the dead letters."""
        return self.letters.path.parent

    def code_of(self, fingerprint: str) -> KeptCode | None:
        """Returns the code that refused a letter, or None where it is gone."""
        return find(self.folder, fingerprint)

    def one(self, letter_id: str) -> Held:
        """Returns the one letter whose id begins so.

        Raises:
            click.UsageError: There is none, or more than one.
        """
        if len(letter_id) < SHORTEST_ID:
            raise click.UsageError(f"{letter_id!r} is too short for an id; give {SHORTEST_ID} characters or more")
        found = self.letters.page(Choice(workflow=self.title, ids=(letter_id,), statuses=ANY), limit=2)
        if len(found) != 1:
            said = "no dead letter" if not found else "more than one dead letter"
            raise click.UsageError(f"{said} of {self.title} has an id that begins with {letter_id!r}")
        return found[0]

    def plans(self, fingerprint: str) -> tuple[LogicalPlan, ...]:
        """Returns what is known of where a letter's columns go: by the code that refused it, then by today's; () if that is gone."""
        if fingerprint not in self._plans:
            code = self.code_of(fingerprint)
            self._plans[fingerprint] = () if code is None else tuple(self._compiled(code))
        return self._plans[fingerprint]

    def _compiled(self, code: KeptCode) -> Iterator[LogicalPlan]:
        name = dagster_name(self.title)
        entries = [code.entry, *([self.library.entry(name)] if self.library.has(name) else [])]
        for number, entry in enumerate(entries):
            try:
                yield self.library.compiled_as(entry, code.schemas).logical
            except LoadError:
                if number == 0:
                    return


def deployment() -> tuple[Settings, LocalDeadLetters]:
    """Returns the settings that a run would have, and the store of dead letters that it would use."""
    prepare_home()
    settings = read_settings()
    return settings, LocalDeadLetters(local_letters(settings))


def desk_of(workflow: str) -> Desk:
    """Returns the desk of a workflow.

    Args:
        workflow: Its name, or the file that holds it and nothing else.
    """
    settings, letters = deployment()
    path = Path(workflow)
    if path.suffix in YAML:
        title = compile_one(workflow, None).compiled.workflow.name
        return Desk(_library_of(path, settings), title, letters)
    library = Library(settings)
    name = dagster_name(workflow)
    if library.has(name):
        return Desk(library, library.entry(name).title, letters)
    found = letters.page(Choice(workflow=workflow, statuses=ANY), limit=1)
    code = find(letters.path.parent, found[0].letter.fingerprint) if found else None
    if code is not None and code.entry.path.is_file():
        library = _library_of(code.entry.path, settings)
    elif not found:
        raise click.UsageError(
            f"there is no workflow {workflow!r} in {settings.workflows}, and no dead letter of one; name it, or its file"
        )
    return Desk(library, workflow, letters)


def _library_of(path: Path, settings: Settings) -> Library:
    return Library(dataclasses.replace(settings, workflows=path), beside=neighbours(path))


# ---- what may be shown ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A dead letter as it may be shown.

    Attributes:
        row: Its values.
        reason: Why it was refused.
        before: Its values before each edit, the earliest first.
        hidden: The columns whose values are hidden.
    """

    row: Mapping[str, Json]
    reason: str
    before: tuple[Mapping[str, Json], ...]
    hidden: tuple[str, ...]


def shown(desk: Desk, held: Held, *, unmasked: bool = False) -> Shown:
    """Returns a letter without the values that a `mask` hides anywhere in its workflow, in its row as in its reason."""
    letter = held.letter
    rows = [letter.rejection.row, *(each.row for each in held.changes if each.row is not None)]
    reason = letter.rejection.reason
    if unmasked:
        values = [_values(each) for each in rows]
        return Shown(values[0], reason, tuple(values[1:]), ())
    plans = desk.plans(letter.fingerprint)
    veiled = [_veiled(each, plans, letter.entry) for each in rows]
    hidden = tuple(
        dict.fromkeys(name for one, other in zip(rows, veiled, strict=True) for name in _differing(one, other))
    )
    if hidden:
        reason = pattern_of(reason)
        for text in _texts(rows, hidden):
            reason = reason.replace(text, MASK)
    values = [_values(each) for each in veiled]
    return Shown(values[0], reason, tuple(values[1:]), hidden)


def _values(row: pa.RecordBatch) -> Mapping[str, Json]:
    found: dict[str, Json] = to_rows(row)[0]
    return found


def _veiled(row: pa.RecordBatch, plans: tuple[LogicalPlan, ...], entry: str) -> pa.RecordBatch:
    """Hides what the plans hide; everything where none is known, or where the row is not one of the node's columns."""
    if not plans:
        return _all_hidden(row, row.schema.names)
    for plan in plans:
        node = _feeder(plan, entry)
        if node is None:
            continue
        known = plan.node(node).schema
        strange = [each for each in row.schema.names if known is None or each not in known.names]
        row = _all_hidden(row, strange) if _masks(plan) else row
        row = veiled_rows(pa.Table.from_batches([row]), plan, node).combine_chunks().to_batches()[0]
    return row


def _all_hidden(row: pa.RecordBatch, names: list[str]) -> pa.RecordBatch:
    for name in names:
        index = row.schema.names.index(name)
        row = row.set_column(index, name, pa.array([MASK if row.column(index)[0].is_valid else None], pa.string()))
    return row


def _feeder(plan: LogicalPlan, entry: str) -> str | None:
    """The node whose rows come to another one; a source's own."""
    for each in plan.nodes:
        if each.id == entry or getattr(each, "node", None) == entry:
            return each.id if isinstance(each, Read) else each.inputs[0]
    return None


def _masks(plan: LogicalPlan) -> bool:
    return any(isinstance(each, Process) and each.kind == "mask" for each in plan.nodes)


def _differing(one: pa.RecordBatch, other: pa.RecordBatch) -> list[str]:
    shown_values = _values(other)
    return [name for name, value in _values(one).items() if shown_values.get(name) != value]


def _texts(rows: list[pa.RecordBatch], names: tuple[str, ...]) -> list[str]:
    """The texts by which hidden values may stand in a sentence, the longest first."""
    found: set[str] = set()
    for row in rows:
        values = _values(row)
        for name in names:
            found.update(_leaves(values.get(name)))
    return sorted((each for each in found if each), key=len, reverse=True)


def _leaves(value: Json) -> Iterator[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


# ---- what may be changed --------------------------------------------------------------------------


def mended(desk: Desk, held: Held, sets: Mapping[str, str], whole: Mapping[str, Any] | None) -> pa.RecordBatch:
    """Returns a letter's row with some values, or all of them, exchanged; every value fits its column.

    A row that its reader could not read becomes one of the source's columns.

    Args:
        desk: The letter's.
        held: The letter.
        sets: Dotted path of a field -> its new value, as it was typed; `null` empties it.
        whole: The complete row instead, as JSON.

    Raises:
        click.UsageError: There is no such field, or a value does not fit.
    """
    row = held.letter.rejection.row
    schema = _schema_for(desk, held)
    values: dict[str, Any]
    if whole is not None:
        _refuse_unknown([*whole], schema)
        missing = [name for name in schema.names if name not in whole]
        if missing:
            raise click.UsageError(f"the row has no {missing[0]!r}; a row is given whole, with null for what is empty")
        values = dict(whole)
    else:
        values = {name: value for name, value in _values(row).items() if name in schema.names}
        for path, text in sets.items():
            _put(values, schema, path, text)
    try:
        built = from_rows([values], schema)
    except ValueError as error:
        raise click.UsageError(scrub(str(error))) from error
    empty = [each.name for each in schema if not each.nullable and values.get(each.name) is None]
    if empty:
        raise click.UsageError(f"column {empty[0]!r} may not be empty")
    return built


def _schema_for(desk: Desk, held: Held) -> pa.Schema:
    letter = held.letter
    code = desk.code_of(letter.fingerprint)
    if code is not None and letter.entry in code.schemas:
        return code.schemas[letter.entry].remove_metadata()
    return letter.rejection.row.schema


def _put(values: dict[str, Any], schema: pa.Schema, path: str, text: str) -> None:
    first, *rest = path.split(".") if path not in schema.names else [path]
    _refuse_unknown([first], schema)
    kind = schema.field(first).type
    held, at = values, first
    for name in rest:
        inner = held.get(at)
        if not pa.types.is_struct(kind):
            raise click.UsageError(f"{path!r}: {at!r} has no fields")
        names = [kind.field(index).name for index in range(kind.num_fields)]
        if name not in names:
            raise click.UsageError(f"{path!r}: {at!r} has no field {name!r}; it has: {', '.join(names)}")
        held[at] = dict(inner) if isinstance(inner, Mapping) else {}
        held, at, kind = held[at], name, kind.field(names.index(name)).type
    held[at] = _typed(text, kind, path)


def _typed(text: str, kind: pa.DataType, path: str) -> Any:
    """What was typed for a column: for a nested one JSON, else the text itself, which keeps every digit."""
    if text == "null":
        return None
    nested = pa.types.is_nested(kind)
    if not nested and not (len(text) > 1 and text[0] == text[-1] == '"'):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        if nested:
            raise click.UsageError(f"{path!r}: {text!r} is not JSON") from error
        return text


def _refuse_unknown(names: list[str], schema: pa.Schema) -> None:
    for each in names:
        if each not in schema.names:
            near = difflib.get_close_matches(each, schema.names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(schema.names)}"
            raise click.UsageError(f"the row has no field {each!r}; {hint}")
