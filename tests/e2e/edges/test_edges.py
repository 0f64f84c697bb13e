"""Every edge value from every SQL system to every other one: exact, or dead-lettered with a reason; and docs/reference/types.md says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from resources.postgres import copying, writer
from resources.testing.edge_model import POSTGRES, SYSTEMS
from resources.testing.edges import EDGES
from tests.e2e.edges.matrix import PLAIN, Fate, Verdict, identity, move
from tests.e2e.edges.page import PAGE, page
from tests.e2e.edges.systems import DuckDB, MariaDB, Postgres, SQLite, System
from tests.kit.mariadb import MariaDBServer
from tests.kit.postgres import PostgresServer

Results = dict[tuple[str, str], list[Verdict]]


@pytest.fixture(scope="module")
def systems(
    postgres: PostgresServer, mariadb: MariaDBServer, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, System]:
    folder = tmp_path_factory.mktemp("edges")
    made: list[System] = [
        Postgres(postgres.new_database()), MariaDB(mariadb.new_database()), SQLite(folder), DuckDB(folder),
    ]  # fmt: skip
    for each in made:
        each.fill()
    return {each.kind: each for each in made}


@pytest.fixture(scope="module")
def results(systems: Mapping[str, System]) -> Results:
    return {(one, other): move(systems[one], systems[other]) for one in SYSTEMS for other in SYSTEMS}


def test_there_are_enough() -> None:
    assert len({each.name for each in EDGES}) == len(EDGES) > 600
    for system in SYSTEMS:
        assert sum(system in each.literals for each in EDGES) > 350


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_catalogue_is_true(systems: Mapping[str, System], system: str) -> None:
    """What the source's own driver reads is what the catalogue says, so a wrong value elsewhere is ours."""
    assert [each for each in identity(systems[system]) if each.fate is not Fate.EXACT] == []


@pytest.mark.parametrize("destination", SYSTEMS)
@pytest.mark.parametrize("source", SYSTEMS)
def test_nothing_is_silently_changed(results: Results, source: str, destination: str) -> None:
    found = results[source, destination]
    assert [each for each in found if not each.sound] == []
    refusals = [each for each in found if each.fate is not Fate.EXACT]
    assert all(each.note for each in refusals)
    assert len(refusals) < len(found) / 4


@pytest.mark.parametrize("source", SYSTEMS)
def test_the_binary_form_changes_nothing(systems: Mapping[str, System], source: str) -> None:
    """Without columns that only their texts can say, rows travel to PostgreSQL in COPY's binary form."""
    assert [each for each in move(systems[source], systems[POSTGRES], PLAIN) if not each.sound] == []


def test_both_forms_of_copy_agree(
    systems: Mapping[str, System], results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the compiled library is not there, texts are read; the same values pass and the same ones are refused."""
    monkeypatch.setattr(copying, "_calls", lambda: None)
    monkeypatch.setattr(writer, "library", lambda: None)
    families = {each.name for each in systems[POSTGRES].families()}
    texts = move(systems[POSTGRES], systems["sqlite"], families)
    assert [(each.edge, each.fate) for each in texts] == [
        (each.edge, each.fate) for each in results[POSTGRES, "sqlite"]
    ]


def test_the_page_says_what_was_found(results: Results) -> None:
    """`python -m tests.e2e.edges.page` writes it."""
    assert page(results) == Path(PAGE).read_text(encoding="utf-8")
