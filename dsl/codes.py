"""Every code a diagnostic can have, with what it means; closed, and the source of its reference page."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Code(StrEnum):
    """Stable codes: E1 document, E2 variables, E3 workflow, E4 binding, E5 expressions, E6 schemas, E7 plan."""

    explanation: str

    def __new__(cls, value: str, explanation: str) -> Self:
        """Makes a member of its code and the sentence that explains it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.explanation = explanation
        return member

    SYNTAX = "E101", "The text is not YAML."
    DUPLICATE_KEY = "E102", "A mapping has the same key twice; YAML would silently keep the last."
    TAG = "E103", "YAML tags are not part of the language."
    TOO_DEEP = "E104", "The document is nested too deeply."
    ALIAS = "E105", "Too many YAML aliases: the document would grow without bound."
    TOO_LARGE = "E106", "The document is larger than the language allows."
    EMPTY = "E107", "The file holds no document."
    KEY_TYPE = "E108", "A key is not a text."

    VARIABLE_MISSING = "E201", "A variable has no value and no default."
    VARIABLE_SYNTAX = "E202", "A reference is not written as the language wants it."
    SECRET_PLACE = "E203", "A secret stands in a field that would show it."
    SECRET_LITERAL = "E204", "A secret is written into the document."

    ROOT = "E301", "The document has no known root key."
    UNKNOWN_KEY = "E302", "The key is not known here."
    MISSING_KEY = "E303", "A required key is missing."
    WRONG_TYPE = "E304", "The value has another type than the key wants."
    BAD_VALUE = "E305", "The value is not allowed here."
    NAME = "E306", "A name does not follow the grammar of names."
    DUPLICATE_NAME = "E307", "Two things have the same name."
    UNKNOWN_INPUT = "E308", "An input names no source or transformation."
    CYCLE = "E309", "The transformations feed each other in a circle."
    UNUSED = "E310", "A node feeds nothing."
    INPUT_COUNT = "E311", "The node takes another number of inputs."
    FORM = "E312", "The linear form and the DAG form are mixed."
    SCHEDULE = "E313", "The schedule is not a cron expression or a known time zone."
    EMPTY_VALUE = "E314", "The value must not be empty."

    UNKNOWN_KIND = "E401", "No connector or processor has this type."
    NO_SOURCE = "E402", "The connector cannot be read."
    NO_DESTINATION = "E403", "The connector cannot be written."
    UNKNOWN_CONNECTION = "E404", "No connection has this name."
    CONNECTION_KIND = "E405", "The connection belongs to another kind of system."
    OPTIONS = "E406", "The options do not fit together."
    CAPABILITY = "E407", "The connector cannot do what is asked of it."
    DISABLED = "E408", "The deployment does not allow this processor."

    EXPRESSION_SYNTAX = "E501", "The expression cannot be parsed."
    EXPRESSION_FORBIDDEN = "E502", "The expression uses something that the language leaves out."
    UNKNOWN_FIELD = "E503", "The expression names a field that the input does not have."
    UNKNOWN_FUNCTION = "E504", "The expression calls a function that the language does not have."
    EXPRESSION_TYPE = "E505", "The expression combines types that do not fit."
    ARGUMENTS = "E506", "The function takes other arguments."
    TEMPLATE = "E507", "The template cannot be parsed."

    UNKNOWN_COLUMN = "E601", "An option names a column that the input does not have."
    DUPLICATE_COLUMN = "E602", "Two columns of the result have the same name."
    PATH_CONFLICT = "E603", "A path and its parent are both assigned."
    COLLISION = "E604", "The joined inputs share a column that is not a key."
    SCHEMAS_DIFFER = "E605", "Inputs that must have equal schemas differ."
    KEY_TYPES = "E606", "The join keys cannot be compared."
    COLUMN_TYPE = "E607", "The column has a type that the node cannot use."
    SQL = "E608", "The SQL of a `sql` node is not allowed or cannot be planned."
    UNSUPPORTED_TYPE = "E609", "The destination cannot hold a column of this type."

    COLLIDING_WORKFLOWS = "E701", "Two workflows have the same Dagster name."
    COLLIDING_TARGETS = "E702", "Two destinations of a workflow write the same place."
    CHANGES = "E703", "The deletions that a source tells of cannot be carried through, or cannot be done."
    STREAM = "E704", "The node needs an end of its rows, and a workflow of `mode: stream` has none."
