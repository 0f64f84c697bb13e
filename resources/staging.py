"""Names of what is being written in stores that cannot hide it themselves: beside the log, where no reader looks; stores nothing."""

from __future__ import annotations

from resources.file_paths import LOG_FOLDER

TEMPORARY = "tmp"
_HIDDEN = f"{LOG_FOLDER}/{TEMPORARY}/"


def staged_key(key: str, mark: str, home: str = "") -> str:
    """Returns where a file lies until it is published.

    Args:
        key: What it will be called.
        mark: A text that no other file has.
        home: The folder beside whose log it lies; "" for its own folder.
    """
    name = f"{home}/{key.rpartition('/')[2]}" if home else key
    return f"{staged_prefix(name)}.{mark}"


def staged_prefix(prefix: str) -> str:
    """Returns what the names of all files begin with that will be called so, and are not published yet."""
    folder, slash, name = prefix.rpartition("/")
    return f"{folder}{slash}{_HIDDEN}{name}"


def is_staged(key: str) -> bool:
    """Tells whether a file is one that nobody may see."""
    return f"/{_HIDDEN}" in f"/{key}"
