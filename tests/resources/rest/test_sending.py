"""What a REST destination promises beyond the suites: nothing lost or doubled by a crash, every refused row with its reason."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import Guarantee, WriteMode
from dsl.contracts.connectors import Token
from dsl.contracts.errors import FatalError, HeadraceError, RetryableError, SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.spec import OptionError
from resources.rest.resource import Body, RestConnection, RestDestination, WriteMethod
from tests.kit.http_script import Asked, Reply, ScriptedServer, reply
from tests.kit.process import ROOT
from tests.resources.rest import loading

TOKEN = Token("sending", "load", run_id="run-1")


class Honest:
    """An API that honours idempotency keys: a key that it has seen changes nothing."""

    def __init__(self, api: ScriptedServer) -> None:
        self.bodies: dict[str, bytes] = {}
        self.repeated = 0
        api.route = self.answer

    def answer(self, asked: Asked) -> Reply:
        key = asked.headers["idempotency-key"]
        assert self.bodies.get(key, asked.body) == asked.body, "a key stands for one body"
        self.repeated += key in self.bodies
        self.bodies[key] = asked.body
        return reply({}, 201)

    @property
    def ids(self) -> Counter[int]:
        return Counter(row["id"] for body in self.bodies.values() for row in json.loads(body))


@pytest.mark.parametrize("point", ["rest.noted", "rest.sent", "rest.answered"])
@pytest.mark.parametrize("at", [2, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 3, 4, 5, 6))])
def test_a_run_that_is_killed_loses_and_doubles_nothing(
    point: str, at: int, api: ScriptedServer, tmp_path: Path
) -> None:
    there = Honest(api)
    command = [sys.executable, "-m", "tests.resources.rest.loading", f"{api.url}/v1", str(tmp_path), "7"]
    armed = {**os.environ, "HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": f"{point}=kill@{at}"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=armed, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    loading.load(loading.destination_at(f"{api.url}/v1", str(tmp_path)), 4)
    assert there.ids == Counter(range(loading.TOTAL))
    assert there.repeated == (1 if point == "rest.sent" else 0), "only the request whose end nobody heard"


def test_an_answer_that_is_lost_at_every_request(api: ScriptedServer, tmp_path: Path) -> None:
    for lost in range(6):
        there, count = Honest(api), [0]

        def losing(asked: Asked, honest: Honest = there, seen: list[int] = count, which: int = lost) -> Reply:
            answer = honest.answer(asked)
            seen[0] += 1
            return Reply(b"", reset=True) if seen[0] == which + 1 else answer

        api.route = losing
        destination = loading.destination_at(f"{api.url}/v1", str(tmp_path / str(lost)))
        with pytest.raises(RetryableError):
            loading.load(destination, 7)
        loading.load(destination, 5)
        assert there.ids == Counter(range(loading.TOTAL))
        assert there.repeated == 1


def test_other_rows_than_before_are_all_sent(api: ScriptedServer, connection: RestConnection, tmp_path: Path) -> None:
    sent = taking(api)
    destination = appending(connection, tmp_path)
    write(destination, [{"id": 1}, {"id": 2}], commit=False)
    write(destination, [{"id": 1}, {"id": 3}, {"id": 2}])
    assert [each["id"] for each in sent] == [1, 2, 3, 2]


def taking(api: ScriptedServer) -> list[Any]:
    sent: list[Any] = []

    def answer(asked: Asked) -> Reply:
        sent.append(asked.json)
        return reply({})

    api.route = answer
    return sent


def appending(connection: RestConnection, folder: Path, **options: Any) -> RestDestination:
    return RestDestination(**{"connection": connection, "path": "/rows", "journal": str(folder), **options})


def write(destination: RestDestination, rows: list[dict[str, Any]], *, commit: bool = True) -> list[Rejection]:
    batch = pa.RecordBatch.from_pylist(rows)
    with destination.open_writer(batch.schema, TOKEN) as writer:
        rejected = list(writer.write(batch))
        if commit:
            stats = writer.commit(1, {"v": 1}, final=True)
            assert stats.rows == len(rows) - len(rejected)
        return rejected


def test_rows_at_fault_are_found_by_halves(api: ScriptedServer, connection: RestConnection, tmp_path: Path) -> None:
    taken: list[int] = []

    def answer(asked: Asked) -> Reply:
        ids = [row["id"] for row in asked.json]
        if {3, 7} & set(ids):
            return reply({"message": "id may not be\nodd and prime"}, 422)
        taken.extend(ids)
        return reply({})

    api.route = answer
    rejected = write(appending(connection, tmp_path, batch_rows=5), [{"id": each} for each in range(10)])
    assert sorted(taken) == [0, 1, 2, 4, 5, 6, 8, 9]
    assert [(each.row.to_pylist(), each.code, each.reason) for each in rejected] == [
        ([{"id": each}], "http_422", "HTTP status 422: id may not be odd and prime") for each in (3, 7)
    ]


def test_a_batch_that_may_not_be_cut_is_refused_whole(
    api: ScriptedServer, connection: RestConnection, tmp_path: Path
) -> None:
    api.route = lambda _: reply(b"<no>", 400)
    destination = appending(connection, tmp_path, batch_rows=3, split=False)
    assert [each.code for each in write(destination, [{"id": each} for each in range(5)])] == ["http_400"] * 5


def test_an_answer_names_the_rows_that_it_refused(
    api: ScriptedServer, connection: RestConnection, tmp_path: Path
) -> None:
    api.route = lambda _: reply({"failed": [{"at": 1, "why": "twice"}]}, 207)
    options = {"batch_rows": 3, "errors_path": "$.failed[*]", "error_row": "$.at", "error_reason": "$.why"}
    rejected = write(appending(connection, tmp_path, **options), [{"id": each} for each in range(3)])
    assert [(each.row.to_pylist(), each.reason) for each in rejected] == [([{"id": 1}], "twice")]
    api.route = lambda _: reply({"failed": [{"at": 3}]})
    with pytest.raises(FatalError, match="does not name by a number below 3"):
        write(appending(connection, tmp_path / "b", **options), [{"id": each} for each in range(3)])


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_sent_again(
    status: int, api: ScriptedServer, connection: RestConnection, tmp_path: Path
) -> None:
    left = [1]

    def answer(_: Asked) -> Reply:
        left[0] -= 1
        return reply({}, status, headers={"Retry-After": "0"}) if left[0] == 0 else reply({})

    api.route = answer
    assert write(appending(connection, tmp_path, idempotency_header="Key"), [{"id": 1}]) == []
    keys = {each.headers["key"] for each in api.asked}
    assert len(api.asked) == 2
    assert len(keys) == 1
    api.route = lambda _: reply({}, status)
    with pytest.raises(RetryableError):
        write(appending(connection, tmp_path / "b"), [{"id": 1}])


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 405])
def test_what_cannot_pass_ends_the_run(
    status: int, api: ScriptedServer, connection: RestConnection, tmp_path: Path
) -> None:
    api.route = lambda _: reply({}, status, headers={"Location": "https://evil.example/"})
    with pytest.raises(FatalError):
        write(appending(connection, tmp_path), [{"id": 1}])
    assert len(api.asked) == 1


def test_values_cannot_change_the_shape_of_a_template(
    api: ScriptedServer, connection: RestConnection, tmp_path: Path
) -> None:
    sent = taking(api)
    template = {"contact": {"mail": "{mail}", "name": "Dear {mail}!"}, "id": "{id}", "fixed": "{unknown}"}
    source = random.Random(7)
    alphabet = '"\\{}[],:/\n\r\t\0 idmail<>&ü😀\u2028'
    mails = [
        'x","admin":true,"z":"',
        "{id}",
        "{mail}",
        "{rows}",
        *("".join(source.choices(alphabet, k=12)) for _ in range(60)),
    ]
    destination = appending(connection, tmp_path, body=Body.TEMPLATE, template=template)
    write(destination, [{"id": at, "mail": each} for at, each in enumerate(mails)])
    assert sent == [
        {"contact": {"mail": each, "name": f"Dear {each}!"}, "id": at, "fixed": "{unknown}"}
        for at, each in enumerate(mails)
    ]


def test_values_cannot_leave_their_part_of_the_path(
    api: ScriptedServer, connection: RestConnection, tmp_path: Path
) -> None:
    api.route = lambda _: reply({})
    keys: list[Any] = ["a/b", "../admin", "..", "", "?x=1", "#", "a b", "ü", None, "{id}", "%2e%2e"]
    options = {"write_mode": WriteMode.UPSERT, "method": WriteMethod.PUT, "primary_key": ("id",)}
    destination = appending(connection, tmp_path, path="/rows/{id}", **options)
    rejected = write(destination, [{"id": each} for each in keys])
    assert [each.row.to_pylist()[0]["id"] for each in rejected] == ["..", "", None]
    assert [each.path for each in api.asked] == [
        f"/v1/rows/{part}"
        for part in ("a%2Fb", "..%2Fadmin", "%3Fx%3D1", "%23", "a%20b", "%C3%BC", "%7Bid%7D", "%252e%252e")
    ]


def test_lines_of_json(api: ScriptedServer, connection: RestConnection, tmp_path: Path) -> None:
    api.route = lambda _: reply({})
    write(appending(connection, tmp_path, batch_rows=2, body=Body.JSONL), [{"id": each} for each in range(3)])
    assert [each.body for each in api.asked] == [b'{"id":0}\n{"id":1}\n', b'{"id":2}\n']
    assert api.asked[0].headers["content-type"] == "application/x-ndjson"


def test_the_journal_keeps_rows_to_itself_and_only_as_long_as_it_must(
    api: ScriptedServer, connection: RestConnection, tmp_path: Path
) -> None:
    api.route = lambda _: reply({}, 503)
    once = replace(connection, attempts=1)
    with pytest.raises(RetryableError):
        write(appending(once, tmp_path), [{"id": "very-private"}])
    [journal] = tmp_path.iterdir()
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    assert b"very-private" in journal.read_bytes()
    taking(api)
    write(appending(once, tmp_path), [{"id": "very-private"}])
    assert b"very-private" not in journal.read_bytes()


def test_what_is_promised_depends_on_what_the_api_promises(connection: RestConnection, tmp_path: Path) -> None:
    assert appending(connection, tmp_path).capabilities.guarantee is Guarantee.AT_LEAST_ONCE
    keyed = appending(connection, tmp_path, idempotency_header="Idempotency-Key")
    assert keyed.capabilities.guarantee is Guarantee.EFFECTIVELY_ONCE


def test_a_column_that_the_path_names_must_arrive(connection: RestConnection, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="'user'"):
        write(appending(connection, tmp_path, path="/rows/{user}"), [{"id": 1}])


def test_a_journal_that_is_damaged_is_said(connection: RestConnection, tmp_path: Path, api: ScriptedServer) -> None:
    taking(api)
    write(appending(connection, tmp_path), [{"id": 1}])
    [journal] = tmp_path.iterdir()
    journal.write_bytes(b"no database" * 100)
    with pytest.raises(HeadraceError, match="it cannot be used"):
        write(appending(connection, tmp_path), [{"id": 1}])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"batch_rows": 0}, "at least one row"),
        ({"batch_rows": 2, "body": Body.OBJECT}, "holds one row"),
        ({"template": {}}, "belongs to body: template"),
        ({"primary_key": ("id",)}, "no meaning in append"),
        ({"write_mode": WriteMode.UPSERT}, "needs the columns"),
        ({"write_mode": WriteMode.UPSERT, "primary_key": ("id",)}, "may be two things"),
        ({"write_mode": WriteMode.UPSERT, "primary_key": ("id",), "method": WriteMethod.PUT}, "is not in it"),
        ({"idempotency_header": "Content-Length"}, "cannot be set"),
        ({"path": "http://evil.example"}, "no path below"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_together(
    options: dict[str, Any], told: str, connection: RestConnection, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=told):
        appending(connection, tmp_path, **options)
