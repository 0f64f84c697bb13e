"""How the folder of a row travels: a hidden column, from the compiler that computes it to the writer that divides by it; no behaviour."""

from __future__ import annotations

import re
from typing import Final

FOLDER: Final = "_headrace_folder"
"""The hidden column of rows whose values choose their folder: that folder, below the fixed part of the path."""

NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
"""What stands in a folder's name for NULL and for the empty text: the word of Hive, which Spark, Trino and DuckDB know."""

_HOLE = re.compile(r"\{\{(?:'[^']*'|\"[^\"]*\"|`[^`]*`|(?!\}\}).)*\}\}", re.DOTALL)


def divided(path: str) -> tuple[str, str]:
    """Returns the fixed folder of a path and the template below it: `lake/orders`, `date={{ day }}`; the latter may be ""."""
    first = path.find("{{")
    if first < 0:
        return path.removesuffix("/"), ""
    cut = path.rfind("/", 0, first)
    return path[: max(cut, 0)], path[cut + 1 :].removesuffix("/")


def shape_of(template: str) -> re.Pattern[str]:
    """Returns what the folders that a template makes look like, whatever the values."""
    names = (re.escape(each) for each in _HOLE.split(template))
    return re.compile("[^/]+".join(names) if template else "")
