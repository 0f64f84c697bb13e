"""GraphQL against strawberry, and against answers that are scripted where a good server never gives them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dsl.contracts.connectors import ReadRequest
from dsl.contracts.errors import FatalError, RetryableError
from dsl.contracts.rows import Batch
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from dsl.contracts.state import State, is_complete
from resources.graphql.resource import GraphqlConnection, GraphqlSource, PartialData
from resources.http_options import Authentication
from resources.http_source import PageType, Pagination
from tests.kit.graphql import TOKEN
from tests.kit.http_script import Asked, Reply, reply, scripted_server

QUERY = """
query($after: String, $since: String) {
  users(first: 5, after: $after, since: $since) {
    edges { node { id name updatedAt score tags } } pageInfo { hasNextPage endCursor }
  }
}"""


def batches(source: GraphqlSource, state: State | None = None) -> list[Batch]:
    with source.read(ReadRequest(), state) as reader:
        return list(reader)


def ids(found: list[Batch]) -> list[int]:
    return [row["id"] for each in found for row in each.rows.to_pylist()]


def relay(connection: GraphqlConnection, **options: Any) -> GraphqlSource:
    return GraphqlSource(connection=connection, query=QUERY, relay="$.data.users", **options)


def test_a_relay_connection_is_read_and_resumed_at_every_page(connection: GraphqlConnection) -> None:
    whole = batches(relay(connection))
    assert ids(whole) == list(range(1, 13))
    assert is_complete(whole[-1].state)
    first = whole[0].rows.to_pylist()[4]
    assert first == {"id": 5, "name": None, "updatedAt": "2024-01-05T00:00:00Z", "score": 1.25, "tags": ["a", "a"]}
    cuts = [at for at, each in enumerate(whole[:-1]) if each.state is not None]
    assert len(cuts) == 2
    for at in cuts:
        rest = batches(relay(connection), json.loads(json.dumps(whole[at].state)))
        assert ids(whole[: at + 1]) + ids(rest) == list(range(1, 13))


def test_pages_by_offset_with_a_total(connection: GraphqlConnection) -> None:
    paging = Pagination(type=PageType.OFFSET, param="offset", total_path="$.data.listed.total")
    query = "query($offset: Int!) { listed(offset: $offset) { items { id } total } }"
    source = GraphqlSource(connection=connection, query=query, records="$.data.listed.items", pagination=paging)
    assert ids(batches(source)) == list(range(1, 13))


def test_what_is_new_since_the_last_run(connection: GraphqlConnection) -> None:
    source = relay(connection, incremental_column="updatedAt", incremental_param="since", primary_key=("id",))
    late = replace(source, initial_value="2024-01-09T00:00:00Z")
    first = batches(late)
    assert ids(first) == [9, 10, 11, 12]
    assert ids(batches(late, first[-1].state)) == []


def test_errors_beside_data_are_an_error_unless_they_are_accepted(connection: GraphqlConnection) -> None:
    query = QUERY.replace("tags", "fragile")
    broken = GraphqlSource(connection=connection, query=query, relay="$.data.users")
    with pytest.raises(RetryableError, match=r"user 3 is broken.*partial_data: accept"):
        batches(broken)
    found = batches(replace(broken, partial_data=PartialData.ACCEPT))
    assert [row["fragile"] for row in found[0].rows.to_pylist()] == ["whole", "whole", None, "whole", "whole"]


def test_a_query_that_does_not_fit_the_schema(connection: GraphqlConnection) -> None:
    wrong = GraphqlSource(connection=connection, query="{ nothing { id } }", records="$.data.nothing")
    with pytest.raises(FatalError, match="Cannot query field 'nothing'"):
        batches(wrong)


def test_it_is_checked_and_shows_what_there_is(connection: GraphqlConnection) -> None:
    assert connection.check().healthy
    assert [each.name for each in connection.discover()] == ["limits", "listed", "users"]
    stranger = replace(connection, auth=Authentication())
    assert "credentials" in stranger.check().details
    assert TOKEN not in f"{connection!r} {connection.check()} {relay(connection)!r}"


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (reply({"data": None}), RetryableError, "no records"),
        (reply({}), RetryableError, "no data"),
        (reply([1]), RetryableError, "none of GraphQL"),
        (reply(b"<html>"), RetryableError, "not one whole JSON document"),
        (reply({"data": {"users": {"edges": [], "pageInfo": {}}}}), RetryableError, "whether there is more"),
        (reply({"data": {"users": {"edges": [], "pageInfo": {"hasNextPage": True}}}}), RetryableError, "not where"),
        (reply({"errors": [{"message": "slow", "extensions": {"code": "THROTTLED"}}]}), RetryableError, "slow"),
        (reply({"errors": [{"message": "who?", "extensions": {"code": "UNAUTHENTICATED"}}]}), FatalError, "who"),
        (reply({"errors": "odd"}), FatalError, "an error without a message"),
        (reply({"data": {"users": {"edges": [{"node": {"id": 1}}],
               "pageInfo": {"hasNextPage": True, "endCursor": "same"}}}}), FatalError, "circle|very records"),
    ],
)  # fmt: skip
def test_answers_that_are_not_whole(answer: Reply, kind: type[Exception], told: str) -> None:
    with scripted_server() as api:
        api.route = lambda _: answer
        connection = GraphqlConnection(url=f"{api.url}/graphql", allow_private_hosts=True, attempts=2)
        with pytest.raises(kind, match=told):
            batches(relay(connection))


def test_values_stay_variables(connection: GraphqlConnection) -> None:
    del connection
    seen: list[Any] = []

    def answer(asked: Asked) -> Reply:
        seen.append(asked.json)
        return reply({"data": {"x": [{"id": 1}]}})

    with scripted_server() as api:
        api.route = answer
        there = GraphqlConnection(url=api.url, allow_private_hosts=True)
        evil = '"){ secrets } #'
        source = GraphqlSource(
            connection=there, query="query($a: String) { x(a: $a) { id } }", variables={"a": evil}, records="$.data.x"
        )
        batches(source)
    assert all(each == {"query": source.query, "variables": {"a": evil}} for each in seen)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"query": "mutation { drop }", "records": "$.data"}, "only reads"),
        ({"query": "fragment F on X { id } subscription { a }", "records": "$.data"}, "only reads"),
        ({"query": "{ a }"}, "either `relay` or `records`"),
        ({"query": "{ a }", "records": "data"}, "no JSON path"),
        ({"query": "{ a }", "records": "$.a", "pagination": Pagination(type=PageType.LINK_HEADER)}, "no pages of type"),
    ],
)
def test_options_that_do_not_fit_together(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        GraphqlSource(connection=GraphqlConnection(url="https://api.example.com/graphql"), **options)


def test_a_query_may_speak_of_mutations() -> None:
    there = GraphqlConnection(url="https://api.example.com", headers={"X": Secret("y")})
    GraphqlSource(connection=there, query='{ a(kind: "mutation x") # mutation\n }', records="$.data.a")
