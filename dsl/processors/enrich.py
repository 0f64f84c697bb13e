"""`enrich`: adds what an HTTP API says of each row; says what becomes of a schema, while the engine's operator makes the calls."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Literal

import pyarrow as pa

from dsl.codes import Code
from dsl.contracts.policies import OnError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from dsl.expressions import ExpressionError, compile_template, parse_type
from dsl.expressions.types import show
from dsl.plan.logical import Lineage
from dsl.processors.columns import Field, Path, field_at, of_columns, split, type_of, with_paths
from dsl.processors.fallback import EnrichFallback, fallback_fits
from dsl.processors.kind import ProcessorKind
from dsl.processors.step import NOTHING, Planned, Step

_RESPONSE = re.compile(r"response(\.[^.\s]+)*")


class EnrichType(StrEnum):
    """What is asked."""

    HTTP = "http"


class Method(StrEnum):
    """The methods of HTTP (RFC 9110) that a step may use."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"


class EnrichError(StrEnum):
    """What becomes of a row whose request fails for good."""

    FAIL = "fail"
    DROP = "drop"
    DLQ = "dlq"
    KEEP = "keep"


@dataclass(frozen=True, kw_only=True)
class ResultMapping:
    """Where one value of the answer goes.

    The type is `json` unless it is given: the value as it was answered, of any type, which destinations of documents write as the
    value itself (a number stays a number) and the others as text.
    """

    source: str = option(
        doc="A path into the answer: `response`, names, and numbers for items.", example="response.score"
    )
    destination: str = option(doc="The field that it goes to; a path sets a field of a struct.", example="user.score")
    type: str = option(default="json", doc="The type that the value must have.", example="double")
    required: bool = option(default=False, doc="Whether a row without it is rejected; else it is NULL.")

    def __post_init__(self) -> None:
        """Checks path and type.

        Raises:
            OptionError: One of them is none.
        """
        if not _RESPONSE.fullmatch(self.source):
            raise OptionError(
                "source", f"{self.source!r} is no path into the answer", "begin with response, as in response.score"
            )
        if not all(split(self.destination)):
            raise OptionError("destination", f"{self.destination!r} is no path", "write names with dots between them")
        try:
            parse_type(self.type)
        except ValueError as error:
            raise OptionError("type", str(error), getattr(error, "hint", "")) from error

    @property
    def steps(self) -> Path:
        """The path below `response`."""
        return split(self.source)[1:]

    @property
    def field(self) -> Field:
        """The field of the result, by its last name."""
        return type_of(self.type).with_name(split(self.destination)[-1])


@dataclass(frozen=True, kw_only=True)
class EnrichBatch:
    """Several rows in one request.

    The body is a JSON array of what `body_template` gives for each row; the answer holds an array of as many items, in the same order, and
    `response` is a row's item.
    """

    rows: int = option(default=100, doc="Rows in a request, at most.")
    items: str = option(default="response", doc="Where the array stands in the answer.", example="response.results")

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            OptionError: One is out of range.
        """
        if self.rows < 1:
            raise OptionError("rows", "a request holds at least one row")
        if not _RESPONSE.fullmatch(self.items):
            raise OptionError("items", f"{self.items!r} is no path into the answer", "begin with response")


@dataclass(frozen=True, kw_only=True)
class EnrichCache:
    """Answers that are kept within a run."""

    entries: int = option(default=10_000, doc="Answers that are kept, at most; 0 keeps none.")
    ttl: timedelta = option(default=timedelta(minutes=10), doc="How long an answer is good.")

    def __post_init__(self) -> None:
        """Checks the number.

        Raises:
            OptionError: It is negative.
        """
        if self.entries < 0:
            raise OptionError("entries", "entries is negative", "0 keeps none")


@dataclass(frozen=True, kw_only=True)
class EnrichOptions:
    """Adds what an HTTP API answers about each row.

    Rows that ask the same are asked once. Values in templates are escaped for their place. `retry`, `rate_limit` and `circuit_breaker`
    of the node apply to its requests.
    """

    type: EnrichType = option(default=EnrichType.HTTP, doc="What is asked.")
    url: str = option(
        doc="The address; values are escaped for URLs.",
        example="https://api.example.com/users/{{ id }}",
        template="url",
    )
    method: Method = option(default=Method.GET, doc="The method.")
    headers: dict[str, Secret] = option(
        default={}, doc="Headers to send; may refer to secrets.", example={"Authorization": "Bearer ${API_TOKEN}"}
    )
    body_template: str | None = option(
        default=None,
        doc="The body; values are escaped for JSON.",
        example='{"email": "{{ user.email }}"}',
        template="json",
    )
    result_mapping: tuple[ResultMapping, ...] = option(
        doc="Where the values of the answer go.", example=[{"source": "response.score", "destination": "user.score"}]
    )
    concurrency: int = option(default=8, doc="Requests under way at a time.")
    batch: EnrichBatch | None = option(default=None, doc="Several rows in one request; one row in each if absent.")
    cache: EnrichCache = option(default=EnrichCache(), doc="Answers that are kept within a run.")
    timeout: timedelta = option(default=timedelta(seconds=30), doc="How long one request may take.")
    total: timedelta | None = option(default=None, doc="How long a row may take, all tries together.", advanced=True)
    on_error: EnrichError | None = option(
        default=None,
        doc="What becomes of a row whose request fails for good: as the node's `on_error`, or `keep` it with NULL results.",
    )
    fallback: EnrichFallback | None = option(
        default=None,
        doc="What stands in for the answer of a request that fails for good.",
        example={"skip_field": True},
    )
    missing_status: tuple[int, ...] = option(
        default=(), doc="Statuses that mean there is nothing to add, such as 404: the results are NULL.", advanced=True
    )
    max_response_bytes: int = option(default=2**20, doc="An answer is no longer than this.", unit="size", advanced=True)
    allow_private_hosts: bool = option(
        default=False,
        doc="Whether addresses inside the own network may be called (else they are refused: SSRF).",
        advanced=True,
    )

    def __post_init__(self) -> None:
        """Checks that the options fit together.

        Raises:
            OptionError: They do not.
        """
        if self.concurrency < 1:
            raise OptionError("concurrency", "at least one request is under way", "write 1 or more")
        if self.timeout <= timedelta():
            raise OptionError("timeout", "a request takes longer than nothing", "write a duration such as 30s")
        if not self.url.startswith(("http://", "https://")):
            raise OptionError("url", "the address is not one of HTTP", "begin with https://")
        if self.method is Method.GET and self.body_template is not None:
            raise OptionError("body_template", "a GET has no body", "set method: POST")
        if self.batch is not None and (self.body_template is None or "{{" in self.url):
            raise OptionError("batch", "rows of one request share its address and need a body", "set body_template")
        if self.fallback is not None and self.on_error is EnrichError.KEEP:
            raise OptionError("on_error", "keep is a fallback of its own", "write skip_field: true in the fallback")
        if self.batch is not None and self.fallback is not None and "{{" in (self.fallback.url or ""):
            raise OptionError("fallback.url", "rows of one request share its address", "leave values out of it")
        if not self.result_mapping:
            raise OptionError("result_mapping", "nothing of the answer is used", "list {source, destination} pairs")

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Returns the schema that leaves, given the one that enters.

        Raises:
            ValueError: A destination leads through a column that is no struct.
        """
        stamp = {} if self.fallback is None else self.fallback.stamps
        return with_paths(schema, {split(each.destination): each.field for each in self.result_mapping} | stamp)


def plan(step: Step) -> Planned:
    """Plans an enrichment."""
    options = step.node.options
    assert isinstance(options, EnrichOptions)  # noqa: S101 - the table of kinds says so
    read = _columns_read(step, options)
    if not (_destinations_fit(step, options) and _fallback_fits(step, options)) or read is None:
        return NOTHING
    schema = step.input.schema
    policies = step.node.policies
    if options.on_error not in {None, EnrichError.KEEP}:
        policies = replace(policies, on_error=OnError(str(options.on_error)))
    written = frozenset(split(each.destination)[0] for each in options.result_mapping)
    return Planned(
        schema=None if schema is None else options.output_schema(schema),
        lineage=_lineage(options, step.input.lineage, read),
        reads=(read | (written & frozenset(step.input.names)),),
        processor=options,
        policies=policies,
    )


def _columns_read(step: Step, options: EnrichOptions) -> frozenset[str] | None:
    read: frozenset[str] | None = frozenset()
    templates: list[tuple[str, str | None, Literal["url", "json"]]] = [
        ("url", options.url, "url"),
        ("body_template", options.body_template, "json"),
    ]
    if options.fallback is not None:
        templates.append(("fallback.url", options.fallback.url, "url"))
    for name, text, context in templates:
        if text is None:
            continue
        try:
            compiled = compile_template(text, step.input.schema, context)
            read = None if read is None else read | compiled.columns
        except ExpressionError as error:
            step.fault(error.code, error.message, error.hint, *name.split("."), index=error.index)
            read = None
    return read


def _fallback_fits(step: Step, options: EnrichOptions) -> bool:
    if options.fallback is None:
        return True
    results = {each.destination: each.field for each in options.result_mapping}
    return fallback_fits(step, options.fallback, results, options.cache.ttl if options.cache.entries else timedelta())


def _destinations_fit(step: Step, options: EnrichOptions) -> bool:
    seen: dict[Path, str] = {}
    clean = True
    for index, each in enumerate(options.result_mapping):
        place = ("result_mapping", index, "destination")
        path = split(each.destination.lower())
        if path in seen:
            step.fault(Code.DUPLICATE_COLUMN, f"{each.destination!r} is assigned twice", "rename one of them", *place)
            clean = False
        elif any(known[: len(path)] == path[: len(known)] for known in seen):
            step.fault(Code.PATH_CONFLICT, f"{each.destination!r} and its parent are both assigned", "", *place)
            clean = False
        seen[path] = each.destination
        clean &= _leads_through_structs(step, each, place)
    return clean


def _leads_through_structs(step: Step, mapping: ResultMapping, place: tuple[str | int, ...]) -> bool:
    schema, path = step.input.schema, split(mapping.destination)
    if schema is None:
        return True
    column = next((each for each in schema.names if each != path[0] and each.lower() == path[0].lower()), "")
    if column:
        told = f"{path[0]!r} and the column {column!r} differ only in case"
        step.fault(Code.DUPLICATE_COLUMN, told, "rename it", *place)
        return False
    for length in range(1, len(path)):
        parent = field_at(schema, path[:length])
        if parent is not None and not (pa.types.is_struct(parent.type) or pa.types.is_null(parent.type)):
            told = f"{mapping.destination!r} leads into {'.'.join(path[:length])!r}, which is {show(parent.type)}"
            step.fault(Code.COLUMN_TYPE, told, "only a struct has fields", *place)
            return False
    return True


def _lineage(options: EnrichOptions, before: Lineage, read: frozenset[str]) -> Lineage:
    """What is added comes from the columns that the request was made of."""
    lineage = {name: tuple(pairs) for name, pairs in before.items()}
    asked = of_columns(before, read)
    for each in options.result_mapping:
        path = split(each.destination)
        kept = lineage.get(path[0], ()) if len(path) > 1 else ()
        lineage[path[0]] = tuple(sorted({*kept, *asked}))
    return lineage


KIND = ProcessorKind(
    kind="enrich",
    title="Add what an HTTP API answers",
    options=EnrichOptions,
    min_inputs=1,
    max_inputs=1,
    plan=plan,
    relational=False,
    example="""type: enrich
config:
  type: http
  url: https://api.example.com/enrich
  method: POST
  body_template: '{"email": "{{ user.email }}"}'
  result_mapping:
    - {source: response.score, destination: user.score, type: double}
""",
)
