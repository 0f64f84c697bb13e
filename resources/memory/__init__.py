"""In-process tables with scripted faults, for tests and examples; it keeps nothing beyond the process."""

from resources.memory.resource import CONNECTOR as CONNECTOR
