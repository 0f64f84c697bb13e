"""Conformance suites that every connector inherits, here or elsewhere; they need pytest and know no connector."""

import pytest

pytest.register_assert_rewrite(
    *(f"resources.testing.{each}" for each in ("changes", "destination", "source", "waivers"))
)

from resources.testing.changes import MergeSuite as MergeSuite  # noqa: E402 - rewritten when imported
from resources.testing.changes import MergeTarget as MergeTarget  # noqa: E402
from resources.testing.conformance import lacking as lacking  # noqa: E402
from resources.testing.conformance import required as required  # noqa: E402
from resources.testing.destination import DestinationSuite as DestinationSuite  # noqa: E402
from resources.testing.destination import DestinationTarget as DestinationTarget  # noqa: E402
from resources.testing.incremental import GrowingTable as GrowingTable  # noqa: E402
from resources.testing.incremental import IncrementalSuite as IncrementalSuite  # noqa: E402
from resources.testing.samples import CANARY as CANARY  # noqa: E402
from resources.testing.samples import sample as sample  # noqa: E402
from resources.testing.source import SourceOrigin as SourceOrigin  # noqa: E402
from resources.testing.source import SourceSuite as SourceSuite  # noqa: E402
