"""The session that the tests of expressions share."""

from __future__ import annotations

import pytest

from tests.dsl.expressions.session import Session


@pytest.fixture(scope="session")
def session() -> Session:
    return Session()
