"""The functions of the language, all in one table; adding one is adding a row to one of the lists. Calls nothing."""

from __future__ import annotations

from typing import Final

from dsl.expressions.functions import conditional, json, lists, moments, numbers, text
from dsl.expressions.functions.signature import Argument as Argument
from dsl.expressions.functions.signature import Function as Function
from dsl.expressions.functions.signature import check_call as check_call

FUNCTIONS: Final[dict[str, Function]] = {
    each.name: each
    for each in (
        *text.FUNCTIONS,
        *numbers.FUNCTIONS,
        *moments.FUNCTIONS,
        *conditional.FUNCTIONS,
        *json.FUNCTIONS,
        *lists.FUNCTIONS,
    )
}
