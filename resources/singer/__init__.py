"""Singer taps as sources: a program is started and its messages become rows; no tap is imported."""

from resources.singer.resource import CONNECTOR as CONNECTOR
