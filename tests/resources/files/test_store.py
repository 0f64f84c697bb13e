"""A folder of this machine as a store of files, and what only a folder can get wrong: names, links, devices, rights, a full disk."""

from __future__ import annotations

import os
import resource
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dsl.contracts.errors import FatalError, HeadraceError, UnavailableError
from resources.files.local_store import LocalStore
from resources.object_store import StoredFile
from tests.resources.object_store_suite import ObjectStoreSuite, Opening, names, sealed


class TestStore(ObjectStoreSuite):
    @pytest.fixture
    def opening(self, tmp_path: Path) -> Opening:
        return opening_of(tmp_path / "root")


def opening_of(root: Path) -> Opening:
    code = f"from resources.files.local_store import LocalStore\nstore = LocalStore({str(root)!r}, create=True)"
    modules = ("resources.files.local_store", "tests.resources.object_store_faults")
    return Opening(lambda: LocalStore(str(root), create=True), code, modules=modules)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a secret beside it."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "passwd").write_text("secret")
    (tmp_path / "root" / "in").mkdir(parents=True)
    (tmp_path / "root" / "in" / "a.csv").write_text("a\n1\n")
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[LocalStore]:
    with closing(LocalStore(str(root))) as opened:
        yield opened


HOSTILE = [
    "",
    ".",
    "..",
    "/",
    "//",
    "/etc/passwd",
    "//etc/passwd",
    "../secret/passwd",
    "../../secret/passwd",
    "in/../../secret/passwd",
    "in/../../../secret/passwd",
    "in/..",
    "in/.",
    "./in/a.csv",
    "in/./a.csv",
    "in//a.csv",
    "in/",
    "in/a.csv/",
    "in/a.csv/..",
    "in/a.csv/../../../secret/passwd",
    "in/a.csv\0",
    "in/a.csv\0.txt",
    "\0",
    "in/\n",
    "in/\x1b[2J",
    "in/\x7f",
    "in/\x85",
    "in/\ud800",
    "..\0/secret/passwd",
    "in/\r../x",
    "a" * 2000,
    "a/" * 600 + "b",
    "%2e%2e/secret/passwd",
    "%2e%2e%2fsecret%2fpasswd",
    "..%2fsecret/passwd",
    "..\u2215secret\u2215passwd",
    "..\uff0fsecret\uff0fpasswd",
    "\uff0e\uff0e/secret/passwd",
    "..\\secret\\passwd",
    "in\\..\\..\\secret",
    "~/secret",
    "~root/.ssh/id_rsa",
    "$HOME/x",
    "${HOME}/x",
    "file:///etc/passwd",
    "in;cat /etc/passwd",
    "in/*",
    "-rf",
]


@pytest.mark.parametrize("key", HOSTILE, ids=[ascii(each)[:40] for each in HOSTILE])
def test_a_hostile_name_leads_nowhere(root: Path, store: LocalStore, key: str) -> None:
    before = sorted(each for each in root.parent.rglob("*") if root not in each.parents)
    for attempt in (
        lambda: store.read(key),
        lambda: store.open(StoredFile(key, 0, "v", next(iter(store.list("in/"))).modified)),
        lambda: list(store.list(key)),
        lambda: store.delete(key),
        lambda: store.publish(sealed(store, key, b"x")),
        lambda: store.create(f"{key}.log", b"x"),
    ):
        try:
            found = attempt()
        except HeadraceError:
            continue
        assert "root:" not in str(found)
        assert b"secret" not in (found if isinstance(found, bytes) else b"")
    assert sorted(each for each in root.parent.rglob("*") if root not in each.parents) == before
    assert (root.parent / "secret" / "passwd").read_text() == "secret"


@pytest.mark.parametrize("link", ["file", "folder", "middle", "dangling", "proc", "loop"])
def test_a_link_that_leads_out_is_an_error_and_nothing_is_read(root: Path, store: LocalStore, link: str) -> None:
    secret = root.parent / "secret"
    key = {"folder": "in/l/passwd", "middle": "l/passwd"}.get(link, "in/l")
    target = {
        "file": secret / "passwd",
        "folder": secret,
        "middle": Path("..") / "secret",
        "dangling": root / "none",
        "proc": Path("/proc/self/environ"),
        "loop": Path("l"),
    }[link]
    place = root / "l" if link == "middle" else root / "in" / "l"
    place.symlink_to(target)
    for each in store.list("in/"):
        if each.key == "in/l":
            with pytest.raises(FatalError):
                store.open(each)
    with pytest.raises((FatalError, UnavailableError)) if link != "dangling" else _nothing():
        assert store.read(key) is None
    with pytest.raises(HeadraceError) if link != "dangling" else _nothing():
        store.publish(sealed(store, f"{key}/new" if link == "file" else f"{place.relative_to(root)}/new", b"x"))
    assert sorted(each.name for each in secret.iterdir()) == ["passwd"]


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def test_a_link_within_the_root_is_followed(root: Path, store: LocalStore) -> None:
    (root / "latest.csv").symlink_to("in/a.csv")
    (root / "again").symlink_to(root / "in")
    (found,) = [each for each in store.list("") if each.key == "latest.csv"]
    with store.open(found) as opened:
        assert opened.read() == b"a\n1\n"
    assert store.read("again/a.csv") == b"a\n1\n"
    assert names(store, "again/") == ["again/a.csv"]


def test_a_folder_that_becomes_a_link_in_between_is_not_followed(root: Path, store: LocalStore) -> None:
    stop = threading.Event()
    (root / "x").mkdir()
    (root / "x" / "passwd").write_text("harmless")

    def swap() -> None:
        while not stop.is_set():
            (root / "x").rename(root / "y")
            (root / "x").symlink_to(root.parent / "secret")
            time.sleep(0.0002)
            (root / "x").unlink()
            (root / "y").rename(root / "x")
            time.sleep(0.0002)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(3000):
            try:
                seen.add(store.read("x/passwd"))
            except HeadraceError:
                continue
    finally:
        stop.set()
        thread.join()
    assert b"harmless" in seen
    assert b"secret" not in seen


def test_only_regular_files_are_read(root: Path, store: LocalStore) -> None:
    os.mkfifo(root / "in" / "pipe")
    (root / "in" / "device").symlink_to("/dev/zero")
    (root / "in" / "folder.csv").mkdir()
    listed = {each.key: each for each in store.list("in/")}
    assert set(listed) == {"in/a.csv", "in/pipe", "in/device"}
    for key in ("in/pipe", "in/device"):
        with pytest.raises(FatalError, match=r"no regular file|leads out"):
            store.open(listed[key])
    with pytest.raises(FatalError, match="no regular file"):
        store.read("in/folder.csv")


@pytest.mark.parametrize("change", ["replaced", "deleted", "appended", "truncated", "rewritten"])
def test_a_file_that_changes_while_it_is_read_ends_the_reading(root: Path, store: LocalStore, change: str) -> None:
    path = root / "in" / "large.bin"
    path.write_bytes(bytes(5_000_000))
    (found,) = store.list("in/large")
    with store.open(found) as opened:
        assert opened.read(10) == bytes(10)
        if change in {"replaced", "deleted"}:
            path.unlink()
        if change == "replaced":
            path.write_bytes(bytes(5_000_000))
        if change == "appended":
            with path.open("ab") as file:
                file.write(b"x")
        if change in {"truncated", "rewritten"}:
            path.write_bytes(bytes(5_000_000 if change == "rewritten" else 10))
        with pytest.raises(FatalError, match=r"large.bin: it was (changed|deleted or replaced) since it was listed"):
            opened.read()


def test_rights_are_sensible(root: Path, store: LocalStore) -> None:
    old = os.umask(0o022)
    try:
        store.publish(sealed(store, "out/a.csv", b"1"))
        store.create("out/_headrace/s/1.json", b"{}")
    finally:
        os.umask(old)
    assert stat.S_IMODE((root / "out" / "a.csv").stat().st_mode) == 0o644
    assert stat.S_IMODE((root / "out" / "_headrace" / "s" / "1.json").stat().st_mode) == 0o600


def test_what_is_being_written_lies_beside_it(root: Path, store: LocalStore) -> None:
    staged = store.stage("out/a.csv")
    assert {each.parent for each in root.rglob("a.csv*")} == {root / "in", root / "out" / "_headrace" / "tmp"}
    staged.discard()
    assert not list((root / "out" / "_headrace" / "tmp").iterdir())


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="there is no such folder"):
        LocalStore(str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    for create in (False, True):
        with pytest.raises(FatalError):
            LocalStore(str(tmp_path / "file"), create=create)


def test_a_name_that_is_not_utf8_is_said(root: Path, store: LocalStore) -> None:
    (root / "in" / os.fsdecode(b"\xff.csv")).write_text("")
    with pytest.raises(FatalError, match="not UTF-8"):
        list(store.list("in/"))


def test_a_file_of_the_same_name_is_never_replaced(root: Path, store: LocalStore) -> None:
    ticket = sealed(store, "in/a.csv", b"new")
    with pytest.raises(FatalError, match="there is a file of that name already"):
        store.publish(ticket)
    assert (root / "in" / "a.csv").read_text() == "a\n1\n"


def test_a_committed_file_that_vanished_is_not_passed_over(root: Path, store: LocalStore) -> None:
    ticket = sealed(store, "out/a.csv", b"new")
    (root / "out" / "_headrace" / "tmp" / str(ticket["temporary"])).unlink()
    with pytest.raises(FatalError, match="a committed file cannot appear"):
        store.publish(ticket)


def test_a_file_that_may_not_grow_is_said(root: Path, store: LocalStore) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    staged = store.stage("out/a.bin")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, old[1]))
    try:
        with pytest.raises(FatalError, match=r"a.bin: a file may not become that large here: nothing of this epoch"):
            staged.write(bytes(3 << 20))
        staged.discard()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not list((root / "out" / "_headrace" / "tmp").iterdir())
