"""Durations and sizes as people write them; pure text in, value out."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_ISO = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGT]i?B?)?", re.IGNORECASE)
_LARGEST = 2**63 - 1
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}


def parse_duration(text: str) -> timedelta | None:
    """Reads `30s`, `1h30m`, `250ms`, ISO 8601's `PT30S`, or a bare number of seconds; None if it is none of these."""
    try:
        return _duration(text.strip())
    except OverflowError:
        return None


def _duration(text: str) -> timedelta | None:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return timedelta(seconds=float(text))
    if len(text) > 1 and text != "PT" and (match := _ISO.fullmatch(text)):
        weeks, days, hours, minutes, seconds = (float(each or 0) for each in match.groups())
        return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        return None
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def parse_size(text: str) -> int | None:
    """Reads `64MiB`, `1.5GB`, `10k` or a bare number of bytes; None if it is none of these."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    number, unit = float(match[1]), (match[2] or "B").upper()
    size = number if unit == "B" else number * (1024 if "I" in unit else 1000) ** _POWERS[unit[0]]
    return int(size) if size <= _LARGEST else None
