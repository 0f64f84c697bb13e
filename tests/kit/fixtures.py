"""The servers as fixtures, and the table of what the tests ran against. It may not start a server that no test asked for."""

import os
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import pytest

from resources.testing.samples import CANARY
from tests.kit.azure import AzureServer, start_azure
from tests.kit.elasticsearch import ElasticsearchServer, start_elasticsearch
from tests.kit.enrichment import EnrichmentApi, enrichment_api
from tests.kit.gcs import GcsServer, start_gcs
from tests.kit.kafka import KafkaServer, start_kafka
from tests.kit.mariadb import MariaDBServer, start_mariadb
from tests.kit.postgres import PostgresServer, start_postgres
from tests.kit.process import ServerProcess, Unavailable
from tests.kit.rabbitmq import RabbitMQServer, start_rabbitmq
from tests.kit.redis import RedisServer, start_redis
from tests.kit.s3 import S3Server, start_s3
from tests.kit.sftp import SftpServer, sftp_server
from tests.kit.snowflake import SnowflakeServer, start_snowflake

_engines: dict[str, str] = {}


class _Server(Protocol):
    @property
    def version(self) -> str: ...

    @property
    def process(self) -> ServerProcess: ...


S = TypeVar("S", bound=_Server)


def _serve(name: str, start: Callable[[], S]) -> Iterator[S]:
    try:
        server = start()
    except Unavailable as error:
        _engines[name] = f"not run: {str(error).splitlines()[0]}"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"REQUIRE_SERVICES=1, but {name} is not available: {error}", pytrace=False)
        pytest.skip(f"{name}: {error}")
    _engines[name] = server.version
    try:
        yield server
    finally:
        server.process.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL; take `postgres.new_database()`."""
    yield from _serve("PostgreSQL", start_postgres)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDBServer]:
    """A real MariaDB; take `mariadb.new_database()`."""
    yield from _serve("MariaDB", start_mariadb)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server; take `s3_server.new_bucket()`."""
    yield from _serve("S3 (SeaweedFS)", start_s3)


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    """An emulator of Google Cloud Storage; take `gcs_server.new_bucket()`."""
    yield from _serve("Google Cloud Storage", start_gcs)


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    """Microsoft's emulator of Azure Blob Storage; take `azure_server.new_container()`."""
    yield from _serve("Azure Blob Storage", start_azure)


@pytest.fixture(scope="session")
def elasticsearch() -> Iterator[ElasticsearchServer]:
    """An Elasticsearch emulator; take `elasticsearch.new_index()`."""
    yield from _serve("Elasticsearch", start_elasticsearch)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """A Kafka emulator; take `kafka.new_topic()`."""
    yield from _serve("Kafka", start_kafka)


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQServer]:
    """A real RabbitMQ, slow to start: its tests stand in one file; take `rabbitmq_server.new_name()`."""
    yield from _serve("RabbitMQ", lambda: start_rabbitmq(CANARY))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis; take `redis_server.new_key()`."""
    yield from _serve("Redis", lambda: start_redis(CANARY))


@pytest.fixture(scope="session")
def snowflake() -> Iterator[SnowflakeServer]:
    """A Snowflake emulator; take `snowflake.new_database()`."""
    yield from _serve("Snowflake", start_snowflake)


@pytest.fixture(scope="session")
def sftp() -> Iterator[SftpServer]:
    """A real SFTP server in this process; take `sftp.new_folder()`."""
    with sftp_server() as server:
        _engines["SFTP"] = server.version
        yield server


@pytest.fixture
def http_api() -> Iterator[EnrichmentApi]:
    """An enrichment API of the test's own, with scripted faults."""
    with enrichment_api() as api:
        yield api


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand a worker's engines to the process that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["engines"] = dict(_engines)


class _Workers:
    """Collects what pytest-xdist's workers ran against; its hook exists only where that plugin is loaded."""

    @staticmethod
    def pytest_testnodedown(node: object) -> None:
        """Take over a worker's engines as it ends."""
        _engines.update(getattr(node, "workeroutput", {}).get("engines", {}))


def pytest_configure(config: pytest.Config) -> None:
    """Listen to workers where there can be any."""
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(_Workers())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the engines and versions that the tests ran against."""
    if _engines:
        terminalreporter.section("servers")
        for name, version in sorted(_engines.items()):
            terminalreporter.write_line(f"{name:<16} {version}")
