"""A deployment as in production, on PostgreSQL: web server, daemon, runs in processes of their own. Looks for secrets everywhere."""

import gzip
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

from resources.stores.checkpoints import KeyValueCheckpoints
from server.home import SETTINGS
from tests.etl_defs.deployment import ENDED, Deployment, ended_run, wait_for
from tests.kit.postgres import PostgresDatabase, PostgresServer

CANARY = "canary-wrong-password-9f31"
ROWS = 60_000
STORAGE = """
storage:
  postgres:
    postgres_url: {env: HEADRACE_TEST_STORAGE}
"""
CONNECTION = """\
connection:
  name: shop
  type: postgres
  config:
    host: "${SHOP_HOST}"
    port: "${SHOP_PORT}"
    database: "${SHOP_DATABASE}"
    username: "${SHOP_USER}"
    password: "${SHOP_PASSWORD}"
    tls: require
"""
FLOW = """\
workflow:
  name: NAME
  batch: {rows: BATCH}
  checkpoint: {rows: EPOCH}
  sources:
    orders:
      type: postgres
      connection: shop
      config: {table: orders}
  transformations:
    paid:
      inputs: [orders]
      type: filter
      config: {condition: "paid"}
  destinations:
    target:
      inputs: [paid]
      type: postgres
      connection: shop
      config: {table: NAME_target}
"""
WRONG = """\
workflow:
  name: wrong
  retry: {max_attempts: 1}
  source:
    type: postgres
    config:
      host: "${SHOP_HOST}"
      port: "${SHOP_PORT}"
      database: "${SHOP_DATABASE}"
      username: "${SHOP_USER}"
      password: "${WRONG_PASSWORD}"
      tls: require
      table: orders
  destination:
    type: postgres
    connection: shop
    config: {table: never}
"""


QUERIES = {
    "resources": """{
        allTopLevelResourceDetailsOrError(
            repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "headrace"}
        ) { ... on ResourceDetailsList { results { name configuredValues { key value } } } }
    }""",
    "runs": """{
        runsOrError { ... on Runs { results { runConfigYaml tags { key value } executionPlan { steps { key } } } } }
    }""",
    "assets": """{
        assetNodes {
            assetKey { path }
            description
            metadataEntries { label ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr } }
        }
    }""",
}


@dataclass
class Served:
    """A deployment that runs."""

    deployment: Deployment
    address: str
    shop: PostgresDatabase
    storage: PostgresDatabase

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """Asks the web server as the UI does."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        data: dict[str, Any] = found["data"]
        return data

    def launch(self, job: str) -> None:
        """Launches a workflow as the documentation says."""
        code, said = self.deployment.run("dagster", "job", "launch", "-w", "workspace.yaml", "-j", job)
        assert code == 0, said[-3000:]


def _flow(name: str, *, batch: int, epoch: int) -> str:
    return FLOW.replace("NAME", name).replace("BATCH", str(batch)).replace("EPOCH", str(epoch))


@pytest.fixture(scope="module")
def served(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    shop, storage = postgres.new_database(), postgres.new_database()
    shop.execute(
        "CREATE TABLE orders (id bigint PRIMARY KEY, name text, paid boolean)",
        f"INSERT INTO orders SELECT i, 'order ' || i, i % 3 = 0 FROM generate_series(1, {ROWS}) i",
    )
    environment = {
        "SHOP_HOST": shop.host,
        "SHOP_PORT": str(shop.port),
        "SHOP_DATABASE": shop.database,
        "SHOP_USER": shop.user,
        "SHOP_PASSWORD": shop.password,
        "WRONG_PASSWORD": CANARY,
        "HEADRACE_TEST_STORAGE": f"{storage.url.replace('postgresql:', 'postgresql+psycopg2:')}?sslmode=require",
    }
    texts = {
        "shop.yaml": CONNECTION,
        "fast.yaml": _flow("fast", batch=10_000, epoch=20_000),
        "queued.yaml": _flow("queued", batch=10_000, epoch=20_000),
        "slow.yaml": _flow("slow", batch=50, epoch=200),
        "wrong.yaml": WRONG,
        "broken.yaml": "workflow:\n  name: broken\n  shedule: '@daily'\n",
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HEADRACE_TEST_STORAGE", environment["HEADRACE_TEST_STORAGE"])
        folder = tmp_path_factory.mktemp("deployment")
        deployment = Deployment(folder, texts, environment, settings=SETTINGS + STORAGE)
        with deployment.serving() as address:
            yield Served(deployment, address, shop, storage)


def test_the_location_is_up_with_a_broken_workflow_in_it(served: Served) -> None:
    found = served.ask(
        "{ repositoriesOrError { ... on RepositoryConnection { nodes { jobs { name tags { key value } } } } } }"
    )
    [repository] = found["repositoriesOrError"]["nodes"]
    jobs = {job["name"]: {each["key"] for each in job["tags"]} for job in repository["jobs"]}
    assert {"fast", "slow", "wrong", "broken"} <= set(jobs)
    assert [name for name, tags in jobs.items() if "headrace/error" in tags] == ["broken"]


def test_a_launched_run_is_queued_started_and_kept_in_postgresql(served: Served) -> None:
    served.launch("fast")
    with served.deployment.instance() as instance:
        run = ended_run(instance, "fast")
        assert run.status is DagsterRunStatus.SUCCESS
        [checkpoint] = KeyValueCheckpoints(instance).list("fast/")
        assert len(instance.all_logs(run.run_id)) <= 50
    assert served.shop.rows("SELECT count(*), count(DISTINCT id) FROM fast_target") == [(ROWS // 3, ROWS // 3)]
    [(kept,)] = served.storage.rows("SELECT value FROM kvs WHERE key LIKE 'headrace/checkpoint/%%fast/%%'")
    assert json.loads(kept)["epoch"] == checkpoint.epoch
    assert json.loads(kept)["run_id"] == run.run_id


def test_two_runs_of_a_workflow_wait_for_each_other(served: Served) -> None:
    launch = """mutation { launchRun(executionParams: { selector: {
        repositoryLocationName: "headrace", repositoryName: "__repository__", jobName: "queued" } }) { __typename } }"""
    for _ in range(2):
        assert served.ask(launch) == {"launchRun": {"__typename": "LaunchRunSuccess"}}
    with served.deployment.instance() as instance:
        wait_for(lambda: len(_ended(instance, "queued")) == 2, "the end of two runs")
        first, second = sorted(_ended(instance, "queued"), key=lambda each: each.start_time or 0)
    assert first.dagster_run.status is second.dagster_run.status is DagsterRunStatus.SUCCESS
    assert first.end_time is not None
    assert second.start_time is not None
    assert first.end_time <= second.start_time
    assert served.shop.rows("SELECT count(*) FROM queued_target") == [(ROWS // 3 * 2,)]


def _ended(instance: DagsterInstance, job: str) -> list[RunRecord]:
    return list(instance.get_run_records(RunsFilter(job_name=job, statuses=list(ENDED))))


def test_terminating_a_run_ends_it_at_a_batch_and_the_next_goes_on(served: Served) -> None:
    served.launch("slow")
    with served.deployment.instance() as instance:
        store = KeyValueCheckpoints(instance)
        wait_for(lambda: any(each.epoch >= 2 for each in store.list("slow/")), "a second epoch")
        [run] = [each for each in instance.get_runs() if each.job_name == "slow"]
        mutation = "mutation($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) { __typename } }"
        assert served.ask(mutation, id=run.run_id) == {"terminateRun": {"__typename": "TerminateRunSuccess"}}
        assert ended_run(instance, "slow").status is DagsterRunStatus.CANCELED
        [checkpoint] = store.list("slow/")
        [(rows,)] = served.shop.rows("SELECT count(*) FROM slow_target")
        assert 0 < rows < ROWS // 3
        served.launch("slow")
        wait_for(lambda: len([each for each in instance.get_runs() if each.job_name == "slow"]) == 2, "a second run")
        [second] = [each for each in instance.get_runs() if each.job_name == "slow" and each.run_id != run.run_id]
        wait_for(lambda: _status(instance, second.run_id) is DagsterRunStatus.SUCCESS, "the end of the second run")
        assert store.list("slow/")[0].epoch > checkpoint.epoch
    assert served.shop.rows("SELECT count(*), count(DISTINCT id) FROM slow_target") == [(ROWS // 3, ROWS // 3)]


def _status(instance: DagsterInstance, run_id: str) -> DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status is not DagsterRunStatus.FAILURE, "\n".join(
        each.user_message for each in instance.all_logs(run_id)
    )
    return run.status


def test_no_secret_is_anywhere(served: Served) -> None:
    served.launch("wrong")
    with served.deployment.instance() as instance:
        run = ended_run(instance, "wrong")
        assert run.status is DagsterRunStatus.FAILURE
    seen = dict(_everything(served, run.run_id))
    assert "authentication failed" in "".join(seen.values()), "the run failed for its password, and says so"
    assert "${SHOP_PASSWORD}" in seen["resources"], "shown as a reference"
    for secret in (CANARY, served.shop.password):
        assert [place for place, text in seen.items() if secret in text] == []


def _everything(served: Served, run_id: str) -> Iterator[tuple[str, str]]:
    """Yields every place where a run leaves traces, with its text."""
    for (table,) in served.storage.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        yield f"table {table}", repr(served.storage.rows(f'SELECT t::text FROM "{table}" t'))
    for path in (each for each in served.deployment.home.parent.rglob("*") if each.is_file()):
        if path.name != "dagster.yaml":
            yield str(path), path.read_bytes().decode(errors="replace")
    for name, query in QUERIES.items():
        yield name, json.dumps(served.ask(query))
    for url in (f"/download_debug/{run_id}", "/server_info"):
        with urllib.request.urlopen(served.address + url) as answer:
            yield url, _unpacked(answer.read())


def _unpacked(body: bytes) -> str:
    return (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode(errors="replace")
