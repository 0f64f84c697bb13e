"""The home of the engine's tests, for faults that need no disk. It may not be used where the disk is the subject."""

from tests.engine.conftest import home  # noqa: F401 - a fixture
