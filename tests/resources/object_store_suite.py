"""What every store of files must do, as a pytest class to inherit; it writes where the subclass says and nowhere else.

class TestMine(ObjectStoreSuite):
    @pytest.fixture
    def opening(self, ...) -> Opening: ...
"""

from __future__ import annotations

import io
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field

import pytest

from dsl.contracts.errors import FatalError, HeadraceError
from dsl.contracts.state import Json
from resources.object_store import ObjectStore
from tests.resources.fork_server import fork_server

MIB = 2**20
RACERS = 16


@dataclass(frozen=True)
class Opening:
    """One empty place of a test's own, and how this process and another one open it.

    Attributes:
        store: Opens the place.
        code: Python that leaves the store, opened, in a variable `store`.
        environment: The variables that the code needs.
        modules: What the code imports, so that it need not be imported for each process.
    """

    store: Callable[[], ObjectStore]
    code: str
    environment: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()

    def elsewhere(self, code: str) -> list[str]:
        """Runs code with `store` in a process of its own, which may kill itself; returns the lines it printed."""
        script = f"import json, os, signal\n{self.code}\n{code}\n"
        done, lines = fork_server(*self.modules).run(script, self.environment)
        assert done in {0, -signal.SIGKILL}, "\n".join(lines)
        return lines


KILL = "os.kill(os.getpid(), signal.SIGKILL)"


class ObjectStoreSuite:
    """The promises of a store of files. Subclasses give the fixture `opening`.

    Attributes:
        resolution: Seconds within which two files of one name and size cannot be told apart.
    """

    resolution = 0.0

    @pytest.fixture
    def opening(self) -> Opening:
        """Must be overridden."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'opening'")

    @pytest.fixture
    def store(self, opening: Opening) -> Iterator[ObjectStore]:
        with closing(opening.store()) as store:
            yield store

    # ---- files are unseen until they are published -----------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 25 * MIB + 17])
    def test_a_file_appears_whole_when_it_is_published(self, store: ObjectStore, size: int) -> None:
        content = random.Random(size).randbytes(size)
        staged = store.stage("lake/a.bin")
        assert sum(staged.write(memoryview(content)[at : at + 3_000_001]) for at in range(0, size, 3_000_001)) == size
        assert names(store) == []
        ticket = staged.seal()
        assert names(store) == []
        assert store.read("lake/a.bin") is None
        store.publish(ticket)
        (found,) = store.list("lake/")
        assert (found.key, found.size) == ("lake/a.bin", size)
        with store.open(found) as opened:
            assert opened.read() == content

    def test_one_write_may_be_larger_than_memory_should_hold(self, store: ObjectStore) -> None:
        content = random.Random(1).randbytes(40 * MIB)
        staged = store.stage("a")
        assert staged.write(bytearray(content)) == len(content)
        store.publish(staged.seal())
        assert store.read("a") == content

    def test_what_is_published_may_be_published_again_by_anyone(self, opening: Opening, store: ObjectStore) -> None:
        ticket = sealed(store, "a", b"one")
        store.publish(ticket)
        store.publish(ticket)
        with closing(opening.store()) as other:
            other.publish(ticket)
        opening.elsewhere(f"store.publish(json.loads({json.dumps(dict(ticket))!r}))")
        assert store.read("a") == b"one"

    def test_a_ticket_is_small_json(self, store: ObjectStore) -> None:
        ticket = sealed(store, "a", b"x" * 20 * MIB)
        assert json.loads(json.dumps(ticket, allow_nan=False)) == dict(ticket)
        assert len(json.dumps(ticket)) < 1000

    def test_two_processes_publish_at_once(self, opening: Opening, store: ObjectStore) -> None:
        content = random.Random(2).randbytes(17 * MIB)
        ticket = sealed(store, "a", content)
        faults = race([opening.store() for _ in range(4)], lambda each, _: each.publish(ticket))
        assert not faults
        assert store.read("a") == content

    def test_a_killed_process_leaves_a_sealed_file_that_can_be_published(
        self, opening: Opening, store: ObjectStore
    ) -> None:
        code = f"""
staged = store.stage("lake/a")
staged.write(b"x" * {9 * MIB})
print(json.dumps(dict(staged.seal())), flush=True)
{KILL}
"""
        (line,) = opening.elsewhere(code)
        assert names(store) == []
        store.publish(json.loads(line))
        assert store.read("lake/a") == b"x" * 9 * MIB

    def test_a_process_killed_while_it_publishes_leaves_the_whole_file_or_none(
        self, opening: Opening, store: ObjectStore
    ) -> None:
        tickets = [sealed(store, f"lake/{at}", b"%d" % at * MIB) for at in range(6)]
        code = f"""
import threading
tickets = json.loads({json.dumps([dict(each) for each in tickets])!r})
threading.Timer(0.02, lambda: {KILL}).start()
for each in tickets:
    store.publish(each)
"""
        opening.elsewhere(code)
        assert all(each.size == MIB for each in store.list("lake/"))
        for each in tickets:
            store.publish(each)
        assert [store.read(f"lake/{at}") for at in range(6)] == [b"%d" % at * MIB for at in range(6)]

    # ---- giving up --------------------------------------------------------------------------------

    def test_giving_up_leaves_nothing(self, store: ObjectStore) -> None:
        for at, seals in enumerate((False, True)):
            staged = store.stage(f"a{at}")
            staged.write(b"x" * 9 * MIB)
            ticket = staged.seal() if seals else None
            staged.discard()
            staged.discard()
            if ticket is not None:
                store.discard(ticket)
                _try_to_publish(store, ticket)
        assert names(store) == []

    def test_anyone_can_discard_a_sealed_file(self, opening: Opening, store: ObjectStore) -> None:
        ticket = sealed(store, "a", b"one")
        with closing(opening.store()) as other:
            other.discard(ticket)
            other.discard(ticket)
        _try_to_publish(store, ticket)
        assert names(store) == []

    def test_discarding_comes_too_late_for_a_published_file(self, store: ObjectStore) -> None:
        ticket = sealed(store, "a", b"one")
        store.publish(ticket)
        store.discard(ticket)
        assert store.read("a") == b"one"

    def test_sweeping_discards_all_but_what_is_kept(self, opening: Opening, store: ObjectStore) -> None:
        store.publish(sealed(store, "lake/a-seen", b"seen"))
        kept, lost, other = (sealed(store, key, b"x" * 9) for key in ("lake/a-kept", "lake/a-lost", "lake/b"))
        opening.elsewhere(f"store.stage('lake/a-open').write(b'x' * {9 * MIB})\n{KILL}")
        held = store.stage("lake/a-held")
        held.write(b"x" * 9 * MIB)
        with closing(opening.store()) as sweeping:
            sweeping.sweep("lake/a-", [json.loads(json.dumps(dict(kept)))])
        store.publish(kept)
        store.publish(other)
        _try_to_publish(store, lost)
        with suppress(HeadraceError):
            store.publish(held.seal())
        assert names(store) == ["lake/a-kept", "lake/a-seen", "lake/b"]

    def test_sweeping_takes_a_folder_as_well(self, store: ObjectStore) -> None:
        lost, other = (sealed(store, key, b"x" * 9) for key in ("lake/a", "other/a"))
        store.sweep("lake/", [])
        store.sweep("nothing/", [])
        _try_to_publish(store, lost)
        store.publish(other)
        assert names(store) == ["other/a"]

    def test_sweeping_takes_what_has_its_home_there(self, store: ObjectStore) -> None:
        lost, kept, shown, other = (
            store.stage(f"lake/{each}", "lake")
            for each in ("x=1/part-a-1", "x=1/y=2/part-a-2", "x=2/part-a-3", "x=1/part-b-1")
        )
        tickets = []
        for each in (lost, kept, shown, other):
            each.write(b"x" * 9)
            tickets.append(each.seal())
        store.publish(tickets[2])
        store.sweep("lake/part-a-", [tickets[1]])
        store.publish(tickets[1])
        store.publish(tickets[3])
        _try_to_publish(store, tickets[0])
        assert names(store) == ["lake/x=1/part-b-1", "lake/x=1/y=2/part-a-2", "lake/x=2/part-a-3"]

    # ---- creating --------------------------------------------------------------------------------

    def test_only_the_first_creates(self, opening: Opening, store: ObjectStore) -> None:
        assert store.create("log/1.json", b"mine") is True
        assert store.create("log/1.json", b"yours") is False
        assert store.create("log/1.json", b"mine") is False
        with closing(opening.store()) as other:
            assert other.create("log/1.json", b"mine") is False
        assert store.read("log/1.json") == b"mine"
        assert store.create("log/2.json", b"") is True
        assert store.read("log/2.json") == b""

    def test_of_many_who_create_at_once_one_did(self, opening: Opening, store: ObjectStore) -> None:
        with ExitStack() as stack:
            stores = [stack.enter_context(closing(opening.store())) for _ in range(RACERS)]
            for round_ in range(4):
                key, told = f"log/{round_}", [False] * RACERS

                def create(each: ObjectStore, at: int, key: str = key, told: list[bool] = told) -> None:
                    told[at] = each.create(key, b"%d" % at * 1000)

                assert not race(stores, create)
                assert told.count(True) == 1
                assert store.read(key) == b"%d" % told.index(True) * 1000

    def test_a_process_killed_after_it_created_has_created(self, opening: Opening, store: ObjectStore) -> None:
        opening.elsewhere(f"store.create('log/1', b'his')\n{KILL}")
        assert store.create("log/1", b"mine") is False
        assert store.read("log/1") == b"his"

    def test_processes_killed_while_they_create_leave_whole_files(self, opening: Opening, store: ObjectStore) -> None:
        code = f"""
import threading
threading.Timer(0.05, lambda: {KILL}).start()
for at in range(1000):
    print(at, store.create(f"log/{{at}}", b"x" * 100_000), flush=True)
"""
        told = [each.split() for each in opening.elsewhere(code)]
        assert all(each.size == 100_000 for each in store.list("log/"))
        assert {f"log/{at}" for at, created in told if created == "True"} <= set(names(store))

    # ---- reading ---------------------------------------------------------------------------------

    def test_what_is_not_there(self, store: ObjectStore) -> None:
        assert store.read("nothing") is None
        assert store.read("no/folder/either") is None
        assert list(store.list("no/")) == []
        store.delete("nothing")
        store.delete("no/folder/either")

    def test_a_stream_can_seek(self, store: ObjectStore) -> None:
        content = random.Random(3).randbytes(5 * MIB)
        store.publish(sealed(store, "a", content))
        (found,) = store.list("a")
        choose = random.Random(4)
        with store.open(found) as opened:
            assert opened.seek(0, io.SEEK_END) == len(content)
            assert opened.read(1) == b""
            for _ in range(40):
                start, size = choose.randrange(len(content)), choose.choice((1, 7, 4096, 700_000))
                assert opened.seek(start) == start
                assert opened.read(size) == content[start : start + size]
                assert opened.tell() == min(start + size, len(content))
            opened.seek(0)
            assert b"".join(iter(lambda: opened.read(100_003), b"")) == content

    def test_two_readers_of_a_file_do_not_disturb_each_other(self, store: ObjectStore) -> None:
        store.publish(sealed(store, "a", bytes(range(256)) * 4000))
        (found,) = store.list("a")
        with store.open(found) as one, store.open(found) as other:
            one.seek(512_000)
            assert other.read(256) == bytes(range(256))
            assert one.read(256) == bytes(range(256))

    def test_a_replaced_file_is_not_read(self, store: ObjectStore) -> None:
        store.publish(sealed(store, "a", b"old"))
        (found,) = store.list("a")
        store.delete("a")
        with pytest.raises(FatalError, match=r"a: .*deleted"):
            store.open(found)
        time.sleep(self.resolution)
        store.publish(sealed(store, "a", b"new"))
        (newer,) = store.list("a")
        assert newer.version != found.version
        with pytest.raises(FatalError, match=r"a: .*(replaced|changed)"):
            store.open(found)
        with store.open(newer) as opened:
            assert opened.read() == b"new"

    # ---- listing ---------------------------------------------------------------------------------

    def test_a_listing_gives_all_that_begin_so(self, store: ObjectStore) -> None:
        keys = ["a/1", "a/2", "a/b/3", "ab", "b ü 😀+%25&#?.csv", "c"]
        for key in keys:
            store.create(key, key.encode())
        assert names(store) == keys
        assert names(store, "a/") == ["a/1", "a/2", "a/b/3"]
        assert names(store, "a") == ["a/1", "a/2", "a/b/3", "ab"]
        assert names(store, "b ü") == ["b ü 😀+%25&#?.csv"]
        assert names(store, "a/2") == ["a/2"]
        assert [store.read(key) for key in keys] == [key.encode() for key in keys]

    def test_a_listing_goes_on_past_a_page_in_order(self, store: ObjectStore) -> None:
        keys = [f"log/{number:05}.json" for number in range(1203)]
        faults = race([store] * RACERS, lambda each, at: [each.create(key, b"1") for key in keys[at::RACERS]])
        assert not faults
        assert [each.key for each in store.list("log/")] == keys
        assert [each.key for each in store.list("log/", limit=1100)] == keys[:1100]
        assert [each.key for each in store.list("log/", limit=1)] == keys[:1]
        assert list(store.list("log/", limit=0)) == []
        assert [each.key for each in store.list("log/011", limit=150)] == keys[1100:1200]

    def test_a_file_is_described(self, store: ObjectStore) -> None:
        store.create("a", b"12345")
        (found,) = store.list("a")
        assert (found.key, found.size) == ("a", 5)
        assert found.version
        assert found.modified.utcoffset() is not None
        assert store.list("a") is not None
        assert next(iter(store.list("a"))) == found

    # ---- walls -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("key", ["../outside", "a/../../outside", "..", ".", "a/./b", ""])
    def test_no_name_leads_out_of_the_root(self, store: ObjectStore, key: str) -> None:
        for attempt in (
            lambda: store.read(key),
            lambda: store.create(key, b"x"),
            lambda: sealed(store, key, b"x"),
            lambda: store.delete(key),
        ):
            with pytest.raises(FatalError):
                attempt()

    def test_closing_twice_is_safe(self, opening: Opening) -> None:
        store = opening.store()
        store.create("a", b"1")
        store.close()
        store.close()

    def test_errors_can_name_it(self, store: ObjectStore) -> None:
        assert store.place


def names(store: ObjectStore, prefix: str = "") -> list[str]:
    """Returns the keys of a listing, sorted."""
    return sorted(each.key for each in store.list(prefix))


def _try_to_publish(store: ObjectStore, ticket: Mapping[str, Json]) -> None:
    """A store may say that there is nothing to publish any more, or do nothing."""
    with suppress(FatalError):
        store.publish(ticket)


def sealed(store: ObjectStore, key: str, content: bytes) -> Mapping[str, Json]:
    """Stages a file and seals it."""
    staged = store.stage(key)
    staged.write(content)
    return staged.seal()


def race(stores: list[ObjectStore], act: Callable[[ObjectStore, int], object]) -> list[BaseException]:
    """Lets each store act in a thread of its own, all at once; returns what they raised."""
    start, faults = threading.Barrier(len(stores)), list[BaseException]()

    def run(store: ObjectStore, at: int) -> None:
        try:
            start.wait()
            act(store, at)
        except BaseException as error:  # noqa: BLE001 - handed to the test, which shows it
            faults.append(error)

    threads = [threading.Thread(target=run, args=(store, at)) for at, store in enumerate(stores)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return faults
