"""Checkpoints in run storage and in memory; and the contract with the private names of Dagster that they rest on."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from dagster import DagsterInstance
from dagster._core.storage.runs.schema import KeyValueStoreTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from sqlalchemy import inspect

from dsl.contracts.errors import FatalError, UnavailableError
from dsl.contracts.state import State
from dsl.contracts.stores import Checkpoint, CheckpointStore
from resources.stores.checkpoints import PREFIX, KeyValueCheckpoints, MemoryCheckpoints
from resources.stores.key_values import KeyValues
from tests.kit.postgres import PostgresServer

STATE: State = {"v": 1, "inputs": {"a": {"v": 1, "records_read": 3, "at": "2024-01-01"}}, "operators": {}}


def checkpoint(key: str, epoch: int = 1) -> Checkpoint:
    return Checkpoint(key, epoch, STATE, "run-1", datetime(2024, 1, 2, 3, 4, 5, 678, tzinfo=UTC))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest) -> CheckpointStore:
    if request.param == "memory":
        return MemoryCheckpoints()
    return KeyValueCheckpoints(request.getfixturevalue("instance"))


def test_a_checkpoint_comes_back(store: CheckpointStore) -> None:
    assert store.get("w/s/0") is None
    store.put(checkpoint("w/s/0"))
    assert store.get("w/s/0") == checkpoint("w/s/0")
    store.put(checkpoint("w/s/0", 2))
    held = store.get("w/s/0")
    assert held is not None
    assert held.epoch == 2


def test_list_and_delete(store: CheckpointStore) -> None:
    long = "w/" + "s" * 400
    for key in ("w/b/0", "w/a/0", "w_a/a/0", "W/a/0", "other/a/0", long + "/0", long + "/1"):
        store.put(checkpoint(key))
    assert [each.key for each in store.list("w/")] == ["w/a/0", "w/b/0", long + "/0", long + "/1"]
    assert [each.key for each in store.list("w_")] == ["w_a/a/0"]
    assert [each.key for each in store.list(long + "/1")] == [long + "/1"]
    assert store.delete("w/a/0")
    assert not store.delete("w/a/0")
    assert store.delete(long + "/1")
    assert [each.key for each in store.list("w/")] == ["w/b/0", long + "/0"]


def test_a_newer_version_is_refused(instance: DagsterInstance) -> None:
    KeyValues(instance).put(PREFIX + "w/s/0", '{"v": 99, "key": "w/s/0"}')
    with pytest.raises(FatalError, match="version 99"):
        KeyValueCheckpoints(instance).get("w/s/0")


def test_dagsters_private_names_are_as_expected(instance: DagsterInstance) -> None:
    """Fails at an upgrade of Dagster that changes the table or the calls that `key_values` rests on."""
    storage: Any = instance.run_storage
    with storage.connect() as connection:
        columns = {each["name"] for each in inspect(connection).get_columns("kvs")}
        unique = [each["column_names"] for each in inspect(connection).get_indexes("kvs") if each["unique"]]
    assert columns == {"id", "key", "value"}
    assert unique == [["key"]]
    storage.set_cursor_values({"a": "1"})
    assert storage.get_cursor_values({"a", "b"}) == {"a": "1"}


def compare_and_swap(instance: DagsterInstance) -> None:
    pairs = KeyValues(instance)
    assert pairs.insert("k", "0")
    assert not pairs.insert("k", "1")
    assert pairs.replace("k", "0", "1")
    assert not pairs.replace("k", "0", "2")
    assert pairs.get("k") == "1"
    assert pairs.list("k") == {"k": "1"}
    assert pairs.list("%") == {}
    assert pairs.delete("k")
    assert pairs.get("k") is None
    assert not pairs.replace("k", "1", "2")
    with pytest.raises(FatalError, match="does not fit"):
        pairs.put("k" * 300, "1")


def count_together(instance: DagsterInstance) -> None:
    """Four threads add one 25 times each by compare-and-swap; none is lost."""
    KeyValues(instance).insert("count", "0")

    def add() -> None:
        pairs = KeyValues(instance)
        for _ in range(25):
            while not pairs.replace("count", held := str(pairs.get("count")), str(int(held) + 1)):
                pass

    threads = [threading.Thread(target=add) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert KeyValues(instance).get("count") == "100"


def insert_together(instance: DagsterInstance) -> None:
    """Of eight threads that insert one key, one wins."""
    won: list[bool] = []
    gate = threading.Barrier(8)

    def insert(at: int) -> None:
        gate.wait()
        won.append(KeyValues(instance).insert("lease", str(at)))

    threads = [threading.Thread(target=insert, args=(at,)) for at in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert won.count(True) == 1


@pytest.mark.parametrize("check", [compare_and_swap, count_together, insert_together])
def test_key_values_on_sqlite(check: Any, instance: DagsterInstance) -> None:
    check(instance)


@pytest.mark.parametrize("check", [compare_and_swap, count_together, insert_together])
def test_key_values_on_postgresql(check: Any, postgres: PostgresServer, tmp_path: Path) -> None:
    database = postgres.new_database()
    config = {
        "storage": {
            "postgres": {
                "postgres_db": {
                    "hostname": database.host,
                    "port": database.port,
                    "username": database.user,
                    "password": database.password,
                    "db_name": database.database,
                }
            }
        }
    }
    with DagsterInstance.local_temp(str(tmp_path), overrides=config) as instance:
        check(instance)


@pytest.mark.parametrize(
    "call",
    [
        lambda pairs: pairs.get("k"),
        lambda pairs: pairs.read("k"),
        lambda pairs: pairs.put("k", "v"),
        lambda pairs: pairs.insert("k", "v"),
        lambda pairs: pairs.replace("k", "v", "w"),
        lambda pairs: pairs.delete("k"),
        lambda pairs: pairs.list("k"),
    ],
)
def test_storage_that_fails_is_unavailable_and_may_be_asked_again(
    instance: DagsterInstance, call: Callable[[KeyValues], object]
) -> None:
    pairs, storage = KeyValues(instance), cast("SqlRunStorage", instance.run_storage)
    with storage.connect() as connection:
        KeyValueStoreTable.drop(connection)
    with pytest.raises(UnavailableError, match="run storage: Dagster's run storage could not be read or written"):
        call(pairs)
    with storage.connect() as connection:
        KeyValueStoreTable.create(connection)
    call(pairs)


def test_storage_without_the_table_is_refused() -> None:
    class Odd:
        run_storage = object()

    with pytest.raises(FatalError, match="has no key-value table"):
        KeyValues(Odd())  # type: ignore[arg-type]
