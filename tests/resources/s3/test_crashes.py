"""A process that loads a bucket is killed at every kind of request, and the load goes on: every row once, none seen too early."""

from __future__ import annotations

import pytest

from resources.s3.resource import S3Connection
from resources.s3.store import S3Store
from tests.kit.s3 import Bucket
from tests.resources.object_store_faults import ROWS, expected, load
from tests.resources.s3.test_store import opening_of
from tests.resources.s3.test_suites import rows_in

APPENDING = [
    ("create", "before", 1),
    ("create", "after", 1),
    ("seal", "before", 2),
    ("seal", "after", 4),
    ("create", "before", 2),
    ("create", "after", 2),
    ("publish", "before", 1),
    ("publish", "after", 1),
    ("publish", "after", 4),
    ("create", "after", 5),
    ("sweep", "after", 1),
]
OVERWRITING = [
    ("seal", "after", 2),
    ("create", "after", 3),
    ("create", "after", 4),
    ("publish", "before", 1),
    ("publish", "after", 3),
    ("delete", "before", 1),
    ("delete", "after", 2),
    ("delete", "after", 6),
]


def killed(
    connection: S3Connection, point: tuple[str, str, int], first: int, *, overwrite: bool = False, folders: int = 0
) -> None:
    """Loads in a process of its own that is killed at a request; fails if it never gets there."""
    code = f"""
from tests.resources.object_store_faults import Killer, KillingStore, load
load(KillingStore(store, Killer{point!r}), {first}, overwrite={overwrite}, folders={folders})
print("survived")
"""
    assert opening_of(connection).elsewhere(code) == []


def ids(bucket: Bucket) -> list[int]:
    return sorted(row["id"] for row in rows_in(bucket, "lake/part-"))


def orphans(bucket: Bucket) -> list[str]:
    return [each["Key"] for each in bucket.client().list_multipart_uploads(Bucket=bucket.bucket).get("Uploads", [])]


@pytest.mark.parametrize("point", APPENDING, ids=lambda each: "-".join(map(str, each)))
def test_an_appending_load_is_killed_and_goes_on(
    bucket: Bucket, connection: S3Connection, point: tuple[str, str, int]
) -> None:
    killed(connection, point, 1)
    seen = ids(bucket)
    assert len(seen) % (ROWS // 2) == 0, "a file is seen whole or not at all"
    assert seen == expected(1)[: len(seen)]
    load(S3Store(connection), 1)
    assert ids(bucket) == expected(1)
    assert orphans(bucket) == []


@pytest.mark.parametrize("point", OVERWRITING, ids=lambda each: "-".join(map(str, each)))
def test_an_overwriting_load_is_killed_and_goes_on(
    bucket: Bucket, connection: S3Connection, point: tuple[str, str, int]
) -> None:
    load(S3Store(connection), 1, overwrite=True)
    assert ids(bucket) == expected(1)
    killed(connection, point, 4, overwrite=True)
    assert set(ids(bucket)) <= {*expected(1), *expected(4)}
    assert set(ids(bucket)) >= set(expected(1)) or set(ids(bucket)) >= set(expected(4)), "old or new is there, whole"
    load(S3Store(connection), 4, overwrite=True)
    assert ids(bucket) == expected(4)
    assert orphans(bucket) == []


def test_a_load_that_is_killed_again_and_again_ends(bucket: Bucket, connection: S3Connection) -> None:
    for point in (("seal", "after", 1), ("create", "after", 2), ("publish", "after", 2), ("seal", "after", 2)):
        killed(connection, point, 1)
    load(S3Store(connection), 1)
    assert ids(bucket) == expected(1)
    assert orphans(bucket) == []


@pytest.mark.parametrize("point", [("seal", "after", 4), ("create", "after", 2), ("publish", "after", 2)])
def test_a_load_into_several_folders_is_killed_and_goes_on(
    bucket: Bucket, connection: S3Connection, point: tuple[str, str, int]
) -> None:
    killed(connection, point, 1, folders=3)
    seen = sorted(row["id"] for row in rows_in(bucket, "lake/f="))
    assert set(seen) <= set(expected(1))
    assert len(seen) == len(set(seen))
    load(S3Store(connection), 1, folders=3)
    assert sorted(row["id"] for row in rows_in(bucket, "lake/f=")) == expected(1)
    assert orphans(bucket) == []
