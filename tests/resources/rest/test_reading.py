"""What a REST source promises beyond the suites: what is new since the last run, children, ETags, credentials, places to go."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dsl.contracts.connectors import ReadRequest
from dsl.contracts.errors import FatalError, HeadraceError, RetryableError, SchemaError
from dsl.contracts.policies import RateLimit
from dsl.contracts.rows import Batch
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from dsl.contracts.state import State
from resources.http_answers import Request
from resources.http_client import HttpClient
from resources.http_options import Authentication, AuthType, Grant
from resources.http_source import PageType, Pagination
from resources.http_wall import Wall
from resources.rest.resource import ParentResource, RestConnection, RestSource
from resources.sql import NullCursor
from resources.testing.samples import CANARY
from tests.kit.http_script import Asked, Reply, ScriptedServer, reply, scripted_server

PAGE = Pagination(type=PageType.PAGE, param="page")


def batches(source: RestSource, state: State | None = None) -> list[Batch]:
    with source.read(ReadRequest(), state) as reader:
        found = list(reader)
        assert not reader.rejections()
        return found


def rows(found: list[Batch]) -> list[dict[str, Any]]:
    return [row for each in found for row in each.rows.to_pylist()]


class Events:
    """An API that answers what is not older than `since`, two to a page, in no order of time."""

    def __init__(self, api: ScriptedServer) -> None:
        self.held: list[dict[str, Any]] = []
        api.route = self.answer

    def answer(self, asked: Asked) -> Reply:
        since = asked.params.get("since", "")
        found = [each for each in self.held if (each["at"] or "~") >= since]
        first = 2 * (int(asked.params["page"]) - 1)
        return reply(found[first : first + 2])


def events(connection: RestConnection, **options: Any) -> RestSource:
    given = {"incremental_column": "at", "incremental_param": "since", "primary_key": ("id",), **options}
    return RestSource(connection=connection, path="/events", pagination=PAGE, **given)


def test_each_record_comes_once_whatever_ties_there_are(api: ScriptedServer, connection: RestConnection) -> None:
    there, source, seen, state = Events(api), events(connection), Counter[int](), None
    for ids in ([3, 1], [2], [], [9, 4, 5], [6]):
        there.held += [{"id": each, "at": f"2024-01-0{1 + each // 5}T00:00:00Z"} for each in ids]
        found = batches(source, state)
        seen.update(row["id"] for row in rows(found))
        state = found[-1].state
        assert state is not None
        assert not state.get("complete")
    assert seen == Counter([1, 2, 3, 4, 5, 6, 9])


def test_an_incremental_read_resumes_at_every_page(api: ScriptedServer, connection: RestConnection) -> None:
    there, source = Events(api), events(connection)
    there.held = [{"id": each, "at": f"2024-01-0{1 + each % 3}"} for each in range(11)]
    whole = batches(source)
    for at, each in enumerate(whole):
        if each.state is not None:
            rest = batches(source, json.loads(json.dumps(each.state)))
            assert sorted(row["id"] for row in rows(whole[: at + 1]) + rows(rest)) == list(range(11))


def test_a_lag_finds_what_appears_late(api: ScriptedServer, connection: RestConnection) -> None:
    there = Events(api)
    there.held = [{"id": 1, "at": "2024-01-01T10:00:00Z"}]
    for lag, late in ((None, []), (timedelta(hours=1), [2])):
        there.held = there.held[:1]
        source = events(connection, lag=lag)
        first = batches(source)
        there.held.append({"id": 2, "at": "2024-01-01T09:30:00Z"})
        assert [row["id"] for row in rows(batches(source, first[-1].state))] == late
    assert api.asked[-1].params["since"] == "2024-01-01T09:00:00Z"


def test_records_without_a_value(api: ScriptedServer, connection: RestConnection) -> None:
    there = Events(api)
    there.held = [{"id": 1, "at": "2024-01-01"}, {"id": 2, "at": None}]
    with pytest.raises(FatalError, match=r"1 records of a page have no value in 'at'.*include_once"):
        batches(events(connection))
    source = events(connection, null_cursor=NullCursor.INCLUDE_ONCE)
    first = batches(source)
    assert [row["id"] for row in rows(first)] == [1, 2]
    assert rows(batches(source, first[-1].state)) == []


def test_values_of_several_kinds_are_refused(api: ScriptedServer, connection: RestConnection) -> None:
    Events(api).held += [{"id": 1, "at": "2024-01-01"}, {"id": 2, "at": "yesterday"}]
    with pytest.raises(FatalError, match="several kinds"):
        batches(events(connection))


def test_children_are_read_below_each_parent_and_resumed_anywhere(
    api: ScriptedServer, connection: RestConnection
) -> None:
    orders = {"a/b": [1, 2, 3], "ü": [], "x": [4], "z": [5, 6]}
    names = list(orders)

    def answer(asked: Asked) -> Reply:
        number = int(asked.params["page"]) - 1
        if asked.path == "/v1/users":
            return reply([{"id": each} for each in names[2 * number : 2 * number + 2]])
        user = asked.path.split("/")[3]
        known = {"a%2Fb": "a/b", "%C3%BC": "ü"}.get(user, user)
        return reply([{"order": each} for each in orders[known][2 * number : 2 * number + 2]])

    api.route = answer
    parent = ParentResource(path="/users", fields={"user": "$.id"}, pagination=PAGE)
    source = RestSource(connection=connection, path="/users/{user}/orders", parent=parent, pagination=PAGE)
    whole = batches(source)
    expected = [{"order": each, "user": name} for name, held in orders.items() for each in held]
    assert rows(whole) == expected
    cuts = 0
    for at, each in enumerate(whole[:-1]):
        if each.state is not None:
            cuts += 1
            assert rows(whole[: at + 1]) + rows(batches(source, json.loads(json.dumps(each.state)))) == expected
    assert cuts > 4
    names.insert(0, "new")
    orders["new"] = [7]
    moved = next(each.state for each in whole if each.state is not None)
    assert [row["order"] for row in rows(batches(source, moved))] == [3, 4, 5, 6], "its parent is found where it is now"


def test_a_resource_that_is_unchanged_is_not_read(api: ScriptedServer, connection: RestConnection) -> None:
    tag = ['"1"']

    def answer(asked: Asked) -> Reply:
        if asked.headers.get("if-none-match") == tag[0]:
            return reply(b"", 304)
        return reply([{"id": 1}], headers={"ETag": tag[0]})

    api.route = answer
    source = RestSource(connection=connection, path="/rates", etag=True)
    first = batches(source)
    assert rows(first) == [{"id": 1}]
    again = batches(source, first[-1].state)
    assert rows(again) == []
    assert again[-1].state == first[-1].state
    tag[0] = '"2"'
    assert rows(batches(source, again[-1].state)) == [{"id": 1}]


def test_tokens_are_shared_renewed_before_they_end_and_once_when_refused(
    api: ScriptedServer, connection: RestConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CLIENT_SECRET", CANARY)
    given, valid = [0], {"token-1", "token-2", "token-3"}

    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            assert asked.headers["authorization"].startswith("Basic ")
            given[0] += 1
            return reply({"access_token": f"token-{given[0]}", "expires_in": 0.0001 if given[0] == 1 else 3600})
        token = asked.headers["authorization"].removeprefix("Bearer ")
        return reply([{"id": 1}]) if token in valid else reply({}, 401)

    api.route = answer
    auth = Authentication(
        type=AuthType.OAUTH2, token_url=f"{api.url}/token", client_id="c", client_secret=Secret("${TEST_CLIENT_SECRET}")
    )
    source = RestSource(connection=replace(connection, auth=auth), path="/x")
    batches(source)
    assert given == [2], "the first token had ended, the second lasts"
    batches(source)
    assert given == [2]
    valid.discard("token-2")
    assert rows(batches(source)) == [{"id": 1}]
    assert given == [3]
    valid.clear()
    with pytest.raises(FatalError, match="credentials") as caught:
        batches(source)
    assert given == [4], "asked for once more, then given up"
    assert "token-" not in str(caught.value)
    assert CANARY not in f"{caught.value} {source!r}"


def test_a_refresh_token_that_is_replaced_is_used_from_then_on(
    api: ScriptedServer, connection: RestConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REFRESH", "refresh-0")
    valid = [0]

    def answer(asked: Asked) -> Reply:
        if asked.path == "/token":
            assert f"refresh_token=refresh-{valid[0]}" in asked.body.decode()
            valid[0] += 1
            return reply({"access_token": f"t{valid[0]}", "refresh_token": f"refresh-{valid[0]}", "expires_in": 0.0001})
        return reply([{"id": 1}])

    api.route = answer
    auth = Authentication(
        type=AuthType.OAUTH2, token_url=f"{api.url}/token", client_id="c", grant=Grant.REFRESH_TOKEN,
        refresh_token=Secret("${TEST_REFRESH}"),
    )  # fmt: skip
    source = RestSource(connection=replace(connection, auth=auth), path="/x")
    for _ in range(2):
        batches(source)
    assert valid[0] >= 2


def test_credentials_are_not_shown_to_another_server(api: ScriptedServer, connection: RestConnection) -> None:
    with scripted_server() as other:
        other.route = lambda _: reply([{"id": 1}])
        target = f"{other.url}/elsewhere?x=1"
        api.route = lambda _: reply({}, 302, headers={"Location": target})
        held = replace(connection, headers={"X-Tenant": Secret(CANARY, literal=True)})
        assert rows(batches(RestSource(connection=held, path="/x"))) == [{"id": 1}]
        assert other.asked
        for each in other.asked:
            assert CANARY not in f"{each.target} {dict(each.headers)}"
        api.route = lambda _: reply([{"id": 1}], headers={"Link": f'<{target}>; rel="next"'})
        linked = RestSource(connection=held, path="/x", pagination=Pagination(type=PageType.LINK_HEADER))
        with pytest.raises(FatalError, match="another address than `base_url`"):
            batches(linked)


def test_links_in_a_circle_are_an_error(api: ScriptedServer, connection: RestConnection) -> None:
    pages = {"/v1/a": "/v1/b", "/v1/b": "/v1/c", "/v1/c": "/v1/b"}
    api.route = lambda asked: reply({"data": [{"id": asked.path}], "next": pages[asked.path]})
    paging = Pagination(type=PageType.NEXT_URL, next_path="$.next")
    with pytest.raises(FatalError, match="circle"):
        batches(RestSource(connection=connection, path="/a", records="$.data", pagination=paging))


def test_fewer_records_than_there_are_is_an_error(api: ScriptedServer, connection: RestConnection) -> None:
    api.route = lambda asked: reply({"data": [{"id": 1}] if asked.params["page"] == "1" else [], "total": 2})
    paging = replace(PAGE, total_path="$.total")
    with pytest.raises(RetryableError, match="there are 2 records, but gave 1"):
        batches(RestSource(connection=connection, path="/x", records="$.data", pagination=paging))


def test_records_that_do_not_fit_are_rejected_with_the_reason(api: ScriptedServer, connection: RestConnection) -> None:
    first: list[Any] = [{"id": 1, "n": 2}]
    pages = {"1": first, "2": [{"id": 2, "n": "x"}, 7, {"id": 3, "n": 1, "new": True}, {"id": 4}]}
    api.route = lambda asked: reply(pages.get(asked.params["page"], []))
    with RestSource(connection=connection, path="/x", pagination=PAGE).read(ReadRequest(), None) as reader:
        found = [row["id"] for each in reader for row in each.rows.to_pylist()]
        reasons = [each.reason for each in reader.rejections()]
    assert found == [1, 4]
    assert len(reasons) == 3
    assert all(part in " ".join(reasons) for part in ("page 2: record 0", "is not an object", "field 'new'"))


def test_nothing_tells_no_schema(api: ScriptedServer, connection: RestConnection) -> None:
    api.route = lambda _: reply([])
    with pytest.raises(SchemaError, match="declare `schema`"):
        RestSource(connection=connection, path="/x").discover_schema()


def test_a_long_pause_is_left_to_the_run(api: ScriptedServer, connection: RestConnection) -> None:
    api.route = lambda _: reply({}, 429, headers={"Retry-After": "3600"})
    with pytest.raises(RetryableError) as caught:
        batches(RestSource(connection=connection, path="/x"))
    assert caught.value.after == 3600
    assert len(api.asked) == 1


def test_a_pause_and_a_rate_are_kept(api: ScriptedServer, connection: RestConnection) -> None:
    left = [1]

    def answer(_: Asked) -> Reply:
        left[0] -= 1
        return reply({}, 503, headers={"Retry-After": "7"}) if left[0] == 0 else reply({})

    api.route, pauses = answer, list[float]()
    limited = replace(connection, rate=RateLimit(requests=1, per=timedelta(hours=1)))
    with HttpClient(limited, "here", pause=pauses.append) as client:
        client.ask(Request("GET", f"{api.url}/v1/x"), lambda _: None)
    assert pauses[:2] == [0.0, 7.0]
    assert 3590 < pauses[2] <= 3600


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "2130706433", "0177.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.1.2.3", "localhost"],
)  # fmt: skip
def test_the_own_network_is_behind_the_wall(address: str, api: ScriptedServer, connection: RestConnection) -> None:
    inside = replace(connection, base_url=f"https://{address}:{api.port}", allow_private_hosts=False)
    with pytest.raises(FatalError, match="calls into the own network are refused") as caught:
        batches(RestSource(connection=inside, path="/x"))
    assert CANARY not in str(caught.value)
    assert not api.asked
    assert not inside.check().healthy


def test_a_name_is_resolved_once_and_only_what_was_judged_is_called() -> None:
    answers = iter([["93.184.216.34", "10.0.0.1"], ["127.0.0.1"]])
    wall = Wall("here", lookup=lambda _host, _port: next(answers))
    with pytest.raises(FatalError, match=r"leads to 10\.0\.0\.1, which is private"):
        wall.addresses("rebinding.example", 443)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"path": "https://evil.example/x"}, "no path below base_url"),
        ({"path": "/../admin"}, "no path below base_url"),
        ({"path": "/x?api_key=1"}, "no path below base_url"),
        ({"path": "/users/{id}"}, "no field of a parent"),
        ({"path": "/x", "records": "data"}, "no JSON path"),
        ({"path": "/x", "etag": True, "pagination": PAGE}, "not of pages"),
        ({"path": "/x", "incremental_column": "at"}, "`incremental_param` is missing"),
        ({"path": "/x", "lag": timedelta(1)}, "no meaning without"),
    ],
)
def test_options_that_do_not_fit_together(options: dict[str, Any], told: str, connection: RestConnection) -> None:
    with pytest.raises(OptionError, match=told):
        RestSource(connection=connection, **options)


def test_a_path_that_is_none_is_said(api: ScriptedServer, connection: RestConnection) -> None:
    api.route = lambda _: reply([])
    with pytest.raises(FatalError, match="is no JSON path"):
        batches(RestSource(connection=connection, path="/x", records="$.a["))


def test_a_canary_is_in_no_error_of_the_transport(connection: RestConnection) -> None:
    gone = replace(connection, base_url="http://127.0.0.1:9", attempts=1)
    with pytest.raises(HeadraceError) as caught:
        batches(RestSource(connection=gone, path="/x"))
    assert CANARY not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_a_canary_is_in_no_log(
    api: ScriptedServer, connection: RestConnection, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_API_KEY", f"{CANARY} & more/")
    api.route = lambda _: reply([{"id": 1}])
    with caplog.at_level("DEBUG"), caplog.at_level("DEBUG", "urllib3.connectionpool"):
        batches(RestSource(connection=connection, path="/x"))
    assert api.asked[0].params["api_key"] == f"{CANARY} & more/"
    assert "/v1/x" in caplog.text
    assert CANARY not in caplog.text


def test_two_readers_at_once_share_no_place(api: ScriptedServer, connection: RestConnection) -> None:
    api.route = lambda asked: reply([{"id": int(asked.params["page"])}] if int(asked.params["page"]) < 9 else [])
    found: list[list[dict[str, Any]]] = []
    source = RestSource(connection=connection, path="/x", pagination=PAGE)
    threads = [threading.Thread(target=lambda: found.append(rows(batches(source)))) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == [[{"id": each} for each in range(1, 9)]] * 3
