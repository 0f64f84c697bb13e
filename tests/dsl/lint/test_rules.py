"""Every lint rule finds what it is about, at its place, and nothing where that is put right."""

from __future__ import annotations

import inspect

import pytest

from dsl.compile import Allow, compile_text
from dsl.lint import RULES, Finding, lint
from tests.dsl.catalog import CATALOG


def _lint(text: str) -> tuple[Finding, ...]:
    environment = {"PASSWORD": "hunter2"}
    allow = Allow(python=True)
    (compiled,) = compile_text(text, "x.yaml", catalog=CATALOG, environment=environment, allow=allow)
    return lint(compiled.bound)


def _workflow(
    source: str = "table: orders, incremental_column: at, deletes: ignored",
    *,
    heading: str = "description: d",
    steps: str = "",
    destination: str = "{type: lake}",
) -> str:
    return f"""workflow:
  name: nightly
  {heading}
  source: {{type: shop, config: {{host: a, {source}}}}}
  transformations: [{steps}]
  destination: {destination}
"""


ENRICH = (
    "{type: enrich, X config: {type: http, url: 'https://api.example.com/e', method: POST, Y "
    'body_template: \'{"e": "{{email}}"}\', result_mapping: [{source: response.score, destination: score, type: double}]}}'
)
INDEX = "{type: index, config: {index: users, write_mode: upsert, id_field: ID}}"
BY_KEY = "{type: shop, config: {host: a, table: kept, key: id, write_mode: upsert}}"
MASK = "{type: mask, config: {rules: [{field: user.email, method: full}]}}"

ANEW = "{type: lake, config: {write_mode: overwrite}}"
BOUNDED = "dead_letter: {max_rows: 9},"
FOUND = {
    "an outage that rejects every row": (
        _workflow(steps=ENRICH.replace("X", BOUNDED).replace("Y", "on_error: dlq,")),
        _workflow(steps=ENRICH.replace("X", BOUNDED + "circuit_breaker: {},").replace("Y", "on_error: dlq,")),
        "W110 {type: every row into the dead letters",
    ),
    "an outage that rejects every row, which could go on": (
        _workflow(steps=ENRICH.replace("X", BOUNDED + "on_error: drop,").replace("Y ", "")),
        _workflow(
            steps=ENRICH.replace("X", BOUNDED + "on_error: {fallback: {skip_field: true}, otherwise: dlq},").replace(
                "Y ", ""
            )
        ),
        "W110 {type: every row away",
    ),
    "deleted rows that nobody decided about": (
        _workflow("table: orders, incremental_column: at", destination=BY_KEY),
        _workflow(destination=BY_KEY),
        "W111 at rows that are deleted from",
    ),
    "parts of an incremental read": (
        _workflow(heading="parallelism: 4"),
        _workflow(),
        "W112 source 'source' is read incrementally: it is read as a whole",
    ),
    "parts that are read one after the other": (
        _workflow("table: orders", heading="partitions: 4", destination=ANEW),
        _workflow("table: orders", heading="partitions: 4\n  parallelism: 2", destination=ANEW),
        "W112 source the 4 parts of 'source' are read one after the other",
    ),
    "a literal secret": (
        _workflow("table: orders, incremental_column: at, password: hunter2"),
        _workflow('table: orders, incremental_column: at, password: "${PASSWORD}"'),
        "W101 hunter2 password of 'source'",
    ),
    "a literal secret in a nested block": (
        _workflow("table: orders, incremental_column: at, login: {user: me, token: abc}"),
        _workflow("table: orders, incremental_column: at, login: {user: me}"),
        "W101 abc login.token of 'source'",
    ),
    "a key that is personal": (
        _workflow(destination=INDEX.replace("ID", "user.eMail")),
        _workflow(destination=INDEX.replace("ID", "user.id")),
        "W102 user.eMail 'user.eMail' is personal data",
    ),
    "a key that is personal and masked": (
        _workflow(steps=MASK, destination=INDEX.replace("ID", "user.email")),
        _workflow(steps=MASK, destination=INDEX.replace("ID", "user.id")),
        "W102 user.email '1_mask' masks it",
    ),
    "an incremental query without a key": (
        _workflow("query: SELECT 1, incremental_column: at"),
        _workflow("query: SELECT 1, incremental_column: at, primary_key: id"),
        "W103 at 'source' reads a query incrementally",
    ),
    "appending what is read in full": (
        _workflow("table: orders"),
        _workflow("table: orders", destination="{type: lake, config: {write_mode: overwrite}}"),
        "W104 destination: 'destination' appends all rows of 'source'",
    ),
    "an enrichment that fails the run": (
        _workflow(steps=ENRICH.replace("X ", "").replace("Y ", "")),
        _workflow(steps=ENRICH.replace("X ", "").replace("Y", "on_error: fail,")),
        "W105 {type: the service of '1_enrich' refuses",
    ),
    "an enrichment that fails the run, decided on the node": (
        _workflow(steps=ENRICH.replace("X ", "").replace("Y ", "")),
        _workflow(
            steps=ENRICH.replace("X", "on_error: dlq, dead_letter: {max_rows: 9}, circuit_breaker: {},").replace(
                "Y ", ""
            )
        ),
        "W105 {type: the service of '1_enrich' refuses",
    ),
    "rejections without a limit": (
        _workflow(heading="on_error: dlq"),
        _workflow(heading="on_error: dlq\n  dead_letter: {max_ratio: 0.01}"),
        "W106 source: 'source' may reject any number of rows",
    ),
    "making up for runs that do the same": (
        _workflow(
            "table: o",
            heading='schedule: {cron: "@daily", catchup: true}',
            destination="{type: lake, config: {write_mode: overwrite}}",
        ),
        _workflow("table: o, incremental_column: at", heading='schedule: {cron: "@daily", catchup: true}'),
        "W107 workflow: catchup repeats missed runs",
    ),
    "an hour that is left out": (
        _workflow(heading='schedule: {cron: "30 2 * * *", timezone: Europe/Berlin}'),
        _workflow(heading='schedule: {cron: "30 2 * * *", timezone: Asia/Tokyo}'),
        "W108 workflow: 2:00 does not exist on one day of the year in Europe/Berlin",
    ),
    "a connection that is not encrypted": (
        _workflow("table: orders, incremental_column: at, tls: 'off'"),
        _workflow("table: orders, incremental_column: at, tls: 'off'").replace("host: a", "host: 127.0.0.2"),
        "W109 'off' 'source' speaks with a unencrypted",
    ),
}


@pytest.mark.parametrize(("wrong", "right", "said"), FOUND.values(), ids=FOUND)
def test_a_rule_finds_it_and_is_content_when_it_is_put_right(wrong: str, right: str, said: str) -> None:
    (finding,) = _lint(wrong)
    code, place, message = said.split(" ", 2)
    assert finding.code == code
    assert wrong.splitlines()[finding.span.line - 1][finding.span.column - 1 :].startswith(place)
    assert message in finding.message
    assert finding.hint
    assert _lint(right) == ()


def test_every_rule_has_an_example_a_code_of_its_own_and_a_reference_entry() -> None:
    assert {each.code for each in RULES} == {said.split()[0] for _, _, said in FOUND.values()}
    assert len({each.code for each in RULES}) == len(RULES)
    assert all(len(inspect.cleandoc(each.__doc__ or "").splitlines()) > 2 for each in RULES)


def test_no_finding_shows_a_secret() -> None:
    wrong, _, _ = FOUND["a literal secret"]
    assert "hunter2" not in str(_lint(wrong)[0])


def test_safe_hours_are_left_alone() -> None:
    for cron in ("30 3 * * *", "0 * * * *", "0 0,1,2,3 * * *", "0 */2 * * *"):
        assert _lint(_workflow(heading=f'schedule: {{cron: "{cron}", timezone: Europe/Berlin}}')) == ()
