"""Files of this machine as source and destination; opens nothing before it is asked to."""

from resources.files.resource import CONNECTOR as CONNECTOR
