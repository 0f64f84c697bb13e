"""A load that is killed before and after every single request: rows are seen once or not yet, and in the end each is there once."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from resources.files.local_store import LocalStore
from tests.resources.files.test_store import opening_of
from tests.resources.object_store_faults import ROWS, Killer, KillingStore, expected, load


def killed(root: Path, point: tuple[str, str, int], first: int, *, overwrite: bool) -> None:
    """Loads in a process of its own that is killed at a request; fails if it never gets there."""
    code = f"""
from tests.resources.object_store_faults import Killer, KillingStore, load
load(KillingStore(store, Killer{point!r}), {first}, overwrite={overwrite})
print("survived")
"""
    assert opening_of(root).elsewhere(code) == []


def points(root: Path, first: int, *, overwrite: bool, folders: int = 0) -> list[tuple[str, str, int]]:
    """Returns every request of a load that nothing disturbs."""
    killer = Killer()
    load(KillingStore(LocalStore(str(root), create=True), killer), first, overwrite=overwrite, folders=folders)
    return [(request, when, visit) for (request, when), most in killer.seen.items() for visit in range(1, most + 1)]


def seen(root: Path) -> list[int]:
    """Returns the ids that a mere listing of the folder leads to."""
    files = sorted(each for each in (root / "lake").glob("*") if each.name[0] not in "._")
    return sorted(row["id"] for each in files for row in pq.read_table(io.BytesIO(each.read_bytes())).to_pylist())


def leftovers(root: Path) -> list[Path]:
    return list((root / "lake" / "_headrace" / "tmp").glob("part-*"))


def test_an_appending_load_is_killed_at_every_request(tmp_path: Path) -> None:
    every = points(tmp_path / "undisturbed", 1, overwrite=False)
    assert {request for request, _, _ in every} == {"create", "seal", "publish", "sweep"}
    assert len(every) > 30
    for number, point in enumerate(every):
        root = tmp_path / str(number)
        killed(root, point, 1, overwrite=False)
        found = seen(root)
        assert len(found) % (ROWS // 2) == 0, "a file is seen whole or not at all"
        assert found == expected(1)[: len(found)], point
        load(LocalStore(str(root)), 1)
        assert seen(root) == expected(1), point
        assert leftovers(root) == []


def test_an_overwriting_load_is_killed_at_every_request(tmp_path: Path) -> None:
    root = tmp_path / "undisturbed"
    load(LocalStore(str(root), create=True), 1, overwrite=True)
    every = points(root, 4, overwrite=True)
    assert {request for request, _, _ in every} == {"create", "seal", "publish", "sweep", "delete"}
    for number, point in enumerate(every):
        root = tmp_path / str(number)
        load(LocalStore(str(root), create=True), 1, overwrite=True)
        killed(root, point, 4, overwrite=True)
        found = set(seen(root))
        assert found <= {*expected(1), *expected(4)}
        assert found >= set(expected(1)) or found >= set(expected(4)), f"old or new is there, whole: {point}"
        load(LocalStore(str(root)), 4, overwrite=True)
        assert seen(root) == expected(4), point
        assert leftovers(root) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_load_that_is_killed_again_and_again_ends(tmp_path: Path, *, overwrite: bool) -> None:
    for point in (
        ("create", "after", 1),
        ("seal", "after", 1),
        ("create", "after", 2),
        ("sweep", "before", 1),
        ("seal", "before", 2),
    ):
        killed(tmp_path, point, 1, overwrite=overwrite)
    load(LocalStore(str(tmp_path)), 1, overwrite=overwrite)
    assert seen(tmp_path) == expected(1)
    assert leftovers(tmp_path) == []
