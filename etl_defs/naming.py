"""How the words of a workflow become names, keys, tags and owners that Dagster accepts; builds no definitions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from dagster import AssetKey

TAG_WORKFLOW = "headrace/workflow"
TAG_LOGICAL_TIME = "headrace/logical_time"
TAG_ERROR = "headrace/error"
TAG_TRIGGER = "headrace/trigger"
TAG_REPLAY_OF = "headrace/replay_of"
TAG_CONTROL = "headrace/control"
TAG_PROGRESS = "headrace/progress"
TAG_WORKER = "headrace/worker"
LOAD_ERRORS = "load_errors"
SOURCES = "sources"

_TAG_KEY = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")
_TEAM = re.compile(r"[A-Za-z0-9_.-]+")
_EMAIL = re.compile(r"[^@\s:]+@[^@\s]+\.[^@\s]+")


def dagster_name(text: str) -> str:
    """Returns a text as a legal Dagster name: every other sign becomes `_`."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)
    return name if name[:1].isalpha() else f"w_{name}"


def op_name(workflow: str, stage: str) -> str:
    """Returns a name for a stage's op that no other workflow's op has.

    `a` + `b__c` and `a__b` + `c` would meet; a workflow whose name holds `__` therefore gets a digest behind its ops' names.
    """
    name = f"{workflow}__{stage}"
    return f"{name}_{hashlib.sha256(name.encode() + workflow.encode()).hexdigest()[:6]}" if "__" in workflow else name


def asset_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags that Dagster allows on an asset, which are fewer than on a job."""
    return {key: value for key, value in tags.items() if _TAG_KEY.fullmatch(key) and _TAG_VALUE.fullmatch(value)}


def owners_of(owners: Iterable[str]) -> list[str]:
    """Returns owners in Dagster's form: an e-mail address, or `team:NAME`."""
    found: list[str] = []
    for each in owners:
        name = each.removeprefix("team:")
        if each == name and _EMAIL.fullmatch(each):
            found.append(each)
        elif _TEAM.fullmatch(name):
            found.append(f"team:{name}")
        else:
            found.append(f"team:{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}")
    return list(dict.fromkeys(found))


def asset_key(physical_name: Sequence[str]) -> AssetKey:
    """Returns the asset key of a physical name."""
    return AssetKey([part for part in physical_name if part])
