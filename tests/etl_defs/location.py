"""A code location made of texts, for the tests of this room. It may not start processes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from dagster import DagsterInstance, ExecuteInProcessResult, RepositoryDefinition

from etl_defs.library import Library
from etl_defs.repository import WorkflowRepository
from etl_defs.settings import Settings
from resources.memory.tables import table

ROWS = 5


class Location:
    """Workflow files in a folder, and what Dagster makes of them.

    Args:
        folder: An empty folder; its name keeps the tables of a test apart from those of others.
        texts: File name -> text, in which `SPACE` stands for the folder's name.
        environment: The variables that the files may name.
    """

    def __init__(self, folder: Path, texts: Mapping[str, str], environment: Mapping[str, str] | None = None) -> None:
        self.space = f"{folder.parent.name}_{folder.name}"
        self.home = folder / "home"
        self.files = folder / "workflows"
        self.files.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (self.files / name).write_text(text.replace("SPACE", self.space), encoding="utf-8")
        self.library = Library(Settings(workflows=self.files, home=self.home), environment=environment or {})
        self.data = WorkflowRepository(self.library)
        self.repository = RepositoryDefinition(name="__repository__", repository_data=self.data)

    def fill(self, name: str, rows: pa.Table | None = None) -> None:
        """Gives a table of the `memory` connector its rows: five users unless told otherwise."""
        users = pa.table({"id": range(ROWS), "name": [f"user {number}" for number in range(ROWS)]})
        table(name, self.space).fill(users if rows is None else rows)

    def rows(self, name: str) -> list[dict[str, object]]:
        """Returns the rows of a table of the `memory` connector."""
        return table(name, self.space).to_table().to_pylist()

    def run(self, name: str, instance: DagsterInstance) -> ExecuteInProcessResult:
        """Runs a workflow's job in this process; an error of the run is in the result."""
        return self.data.get_job(name).execute_in_process(instance=instance, raise_on_error=False)


def copy(name: str, source: str = "users", target: str = "copied", *, more: str = "") -> str:
    """Returns a workflow that copies one table of the `memory` connector to another."""
    return f"""\
workflow:
  name: {name}
{more}
  source:
    type: memory
    config: {{table: {source}, space: SPACE}}
  destination:
    type: memory
    config: {{table: {target}, space: SPACE}}
"""


@contextmanager
def kept_instance(folder: Path) -> Iterator[DagsterInstance]:
    """Makes an instance whose storage is in a folder, so that a test can look for what must not be there."""
    folder.mkdir(parents=True, exist_ok=True)
    with DagsterInstance.local_temp(str(folder)) as instance:
        yield instance
