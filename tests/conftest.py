"""What all tests share: the servers' fixtures and hypothesis's settings. It may not hold fixtures of one room."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from dsl.contracts import redaction

pytest_plugins = ["tests.kit.fixtures"]

# A test's instance is the one it makes, and nothing is sent anywhere; processes that tests start inherit both.
os.environ.pop("DAGSTER_HOME", None)
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"

# How long an example takes says nothing on a shared machine. CI tries the same examples every time; a laptop explores.
settings.register_profile("laptop", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "laptop")


@pytest.fixture(autouse=True)
def _secrets_of_its_own() -> Iterator[None]:
    """A secret that one test reveals must not be scrubbed from the sentences that the next one reads."""
    before = set(redaction._remembered)
    yield
    redaction._remembered.intersection_update(before)
