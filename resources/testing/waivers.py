"""Waivers of tests that a suite holds and a connector cannot pass: each has a reason, and fails once it is stale; waives nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest


class Waivable:
    """What every suite is.

    Attributes:
        waived: Names of tests that cannot hold here, each with the reason. A test that passes all the same fails as stale.
    """

    waived: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _waive(self, request: pytest.FixtureRequest) -> None:
        for name, reason in self.waived.items():
            assert callable(getattr(self, name, None)), f"there is no test '{name}' to waive"
            assert len(reason.split()) >= 3, f"'{reason}' is no reason to waive {name}"
        name = getattr(request.function, "__name__", "")
        if name in self.waived:
            request.applymarker(pytest.mark.xfail(reason=self.waived[name], strict=True))
