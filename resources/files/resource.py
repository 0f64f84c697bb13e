"""The `file` connector's options: a root folder, and below it what all stores of files share; opens nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from dsl.contracts.connectors import ConnectorKind
from dsl.contracts.spec import OptionError, option
from resources.file_options import StoreConnection, StoreDestination, StoreSource
from resources.files.local_store import LocalStore


@dataclass(frozen=True, kw_only=True)
class FileConnection(StoreConnection):
    """A folder of the machine that runs the workflow. Nothing outside of it is read or written, whatever names say."""

    root: str = option(doc="The folder that all paths are relative to; made when something is written.", example="data")

    def __post_init__(self) -> None:
        """Refuses a root that is no name of a folder.

        Raises:
            OptionError: It is empty, or holds a NUL character.
        """
        if not self.root or "\0" in self.root:
            raise OptionError("root", "it names no folder", "root: data")

    def open_store(self, *, create: bool = False) -> LocalStore:
        return LocalStore(self.root, create=create)

    def key_of(self, *parts: str) -> tuple[str, ...]:
        named = [each for each in PurePath(self.root).parts if each not in {"/", ".", ".."}]
        return ("file", *named[-2:], *parts)


@dataclass(frozen=True, kw_only=True)
class FileSource(StoreSource):
    """Files of this machine: one, a folder, or all that a glob matches, in the order of their names.

    `schema` names the columns to read and their types; without it the first file suggests them. In later files a column
    that is missing is NULL (in CSV an error), one too many an error.
    """

    connection: FileConnection


@dataclass(frozen=True, kw_only=True)
class FileDestination(StoreDestination):
    """A folder of this machine, with files of one format: exactly once.

    Whoever lists the folder never sees a row that was not committed. An overwrite shows its new files before the old ones
    go: a listing in that moment may hold both, never neither.
    """

    connection: FileConnection


CONNECTOR = ConnectorKind(
    kind="file",
    title="Files",
    connection=FileConnection,
    source=FileSource,
    destination=FileDestination,
    example="""\
type: file
config:
  root: data
  path: orders/*.csv
""",
)
