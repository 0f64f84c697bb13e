"""The JSON Schema for editors says of every case of the compiler what the compiler says, as far as a schema can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dsl.document import parse, plain
from dsl.schema import document_schema
from tests.dsl.catalog import CATALOG

CASES = Path(__file__).parent / "cases"
OK = sorted(CASES.glob("ok/*.yaml"))
