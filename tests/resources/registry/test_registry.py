"""The catalog of installed connectors and their Dagster resources; needs no server."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from importlib.metadata import EntryPoint

import dagster as dg
import pydantic
import pytest

from dsl.contracts.connectors import CheckResult, Connection, ConnectorKind
from dsl.contracts.secret import Secret
from dsl.contracts.spec import option
from resources import registry
from resources.base import resource_class, resource_of
from resources.registry import CatalogOf, ConnectorLoadError, InstalledCatalog


class Mode(StrEnum):
    """Two ways."""

    FAST = "fast"
    SAFE = "safe"


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Options within options."""

    depth: int = option(default=1, doc="How deep.")


@dataclass(frozen=True, kw_only=True)
class WellConnection(Connection):
    """A well in the yard."""

    host: str = option(doc="Where it is.")
    password: Secret | None = option(default=None, doc="Its password.")
    port: int = option(default=7, doc="Its port.")
    mode: Mode = option(default=Mode.SAFE, doc="How.")
    patience: timedelta = option(default=timedelta(seconds=5), doc="How long to wait.")
    tags: tuple[str, ...] = option(default=(), doc="Tags.")
    extra: dict[str, str] = option(default={}, doc="More.")
    inner: Inner = option(default=Inner(), doc="Deeper.")
    schema: str | None = option(default=None, doc="A name that Dagster's class owns.")

    def check(self) -> CheckResult:
        """Is always well."""
        return CheckResult(healthy=True, details="well")


KIND = ConnectorKind(kind="well", title="Well", connection=WellConnection)
FULL = WellConnection(
    host="yard",
    password=Secret("${WELL_PASSWORD}"),
    mode=Mode.FAST,
    patience=timedelta(minutes=2),
    tags=("a", "b"),
    extra={"x": "1"},
    inner=Inner(depth=4),
    schema="deep",
)


def test_installed_connectors_are_listed_without_loading_them() -> None:
    catalog = InstalledCatalog()
    assert "postgres" in catalog.kinds()
    assert list(catalog.kinds()) == sorted(catalog.kinds())
    assert catalog.get("no_such_kind") is None


def test_the_catalog_does_not_import_dagster() -> None:
    script = "import sys, resources.registry as r; r.InstalledCatalog().kinds(); sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no_such_module_anywhere:CONNECTOR", "cannot be loaded: ModuleNotFoundError"),
        ("json:loads", "is a function, not a ConnectorKind"),
        (f"{__name__}:KIND", "its kind is 'well'"),
    ],
)
def test_a_broken_entry_point_is_an_error_of_its_own_kind(
    monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    points = [EntryPoint("broken", value, registry.GROUP), EntryPoint("well", f"{__name__}:KIND", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: points if group == registry.GROUP else [])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    catalog = InstalledCatalog()
    with pytest.raises(ConnectorLoadError, match="connector 'broken'") as raised:
        catalog.get("broken")
    assert words in str(raised.value)
    assert catalog.get("well") is KIND


def test_catalog_of_holds_what_it_is_given() -> None:
    catalog = CatalogOf(KIND)
    assert catalog.kinds() == ("well",)
    assert catalog.get("well") is KIND
    assert catalog.get("other") is None


def test_a_resource_gives_its_connection_back() -> None:
    resource = resource_of(FULL)
    assert type(resource).__name__ == "WellResource"
    assert isinstance(resource, resource_class(KIND))
    assert resource.to_connection() == FULL
    assert resource_of(WellConnection(host="h")).to_connection() == WellConnection(host="h")


def test_a_resource_refuses_unknown_fields_and_changes() -> None:
    with pytest.raises(pydantic.ValidationError, match="hots"):
        resource_class(KIND).model_validate({"host": "h", "hots": "x"})
    with pytest.raises(Exception, match="frozen"):
        resource_of(FULL).port = 8


def test_a_run_is_handed_the_connection() -> None:
    seen: list[object] = []

    @dg.op(required_resource_keys={"well"})
    def look(context: dg.OpExecutionContext) -> None:
        seen.append(context.resources.well)

    @dg.job(resource_defs={"well": resource_of(FULL)})
    def once() -> None:
        look()

    assert once.execute_in_process().success
    changed = {
        "resources": {
            "well": {"config": {"host": "yard", "password": "${WELL_PASSWORD}", "port": 9, "schema_": "other"}}
        }
    }
    assert once.execute_in_process(run_config=changed).success
    first, second = seen
    assert first == FULL
    assert isinstance(second, WellConnection)
    assert (second.port, second.schema, second.password) == (9, "other", FULL.password)


def test_a_secret_is_shown_as_reference_and_a_literal_one_not_at_all() -> None:
    canary = "canary-3141592653"
    literal = WellConnection(host="h", password=Secret(canary, literal=True))
    resource = resource_of(literal)
    schema = str(resource.get_resource_definition().config_schema.as_field().default_value)
    assert canary not in repr(resource) + str(resource.model_dump()) + schema
    assert resource.to_connection() == literal
    assert "${WELL_PASSWORD}" in repr(resource_of(FULL))

    seen: list[WellConnection] = []

    @dg.op(required_resource_keys={"well"})
    def look(context: dg.OpExecutionContext) -> None:
        seen.append(context.resources.well)

    @dg.job(resource_defs={"well": resource})
    def once() -> None:
        look()

    assert once.execute_in_process().success
    assert seen == [literal]
