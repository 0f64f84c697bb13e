"""delta-rs as this connector uses it: one table's log, small files beside it, errors in our words; decides nothing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import deltalake
import pyarrow as pa
from deltalake import DeltaTable

# Its public class hands pyarrow's buffers to streams that take bytes only.
from deltalake._internal import DeltaFileSystemHandler
from deltalake.exceptions import CommitFailedError, DeltaError, DeltaProtocolError, TableNotFoundError

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError
from resources.stores.secrets import reveal_optional

if TYPE_CHECKING:
    from resources.delta.resource import DeltaConnection, DeltaDestination

_CHUNK: Final = 8 * 2**20
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_DENIED: Final = re.compile(r"\b(401|403)\b|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Permission denied")


class TableStore:
    """Where one table lies.

    Args:
        destination: Which.
    """

    def __init__(self, destination: DeltaDestination) -> None:
        connection = destination.connection
        self.place, self.uri = destination.place, connection.uri(destination.table)
        self.options = storage_options(connection)
        if not connection.remote:
            with told(self.place):
                Path(self.uri).mkdir(parents=True, exist_ok=True)
        with told(self.place):
            self._files = DeltaFileSystemHandler(self.uri, self.options, None)

    def load(self) -> DeltaTable | None:
        """Returns the table as it is now; None if there is none."""
        with told(self.place):
            try:
                return DeltaTable(self.uri, storage_options=self.options)
            except TableNotFoundError:
                return None

    def put(self, name: str, content: Any) -> None:
        """Writes a small file beside the table from bytes or an open file."""
        with told(self.place):
            stream: Any = self._files.open_output_stream(name, None)
            try:
                if isinstance(content, bytes):
                    stream.write(content)
                else:
                    while chunk := content.read(_CHUNK):
                        stream.write(chunk)
            finally:
                stream.close()

    def get(self, name: str) -> bytes | None:
        """Returns a small file; None if there is none."""
        with told(self.place):
            try:
                file: Any = self._files.open_input_file(name)
                return bytes(file.read())
            except FileNotFoundError:
                return None

    def batches(self, name: str) -> Iterator[pa.RecordBatch]:
        """Yields the rows of a file of batches."""
        with told(self.place):
            file: Any = self._files.open_input_file(name)
            with pa.ipc.open_stream(pa.PythonFile(file, mode="r")) as reader:
                yield from reader

    def discard(self, *names: str) -> None:
        """Removes files that nothing names any more; one that stays costs a little space."""
        for each in names:
            with contextlib.suppress(HeadraceError, FileNotFoundError), told(self.place):
                self._files.delete_file(each)


def storage_options(connection: DeltaConnection) -> dict[str, str]:
    """Returns what the driver's store needs; reveals the keys."""
    if not connection.remote:
        return {}
    found = {
        "aws_region": connection.region,
        "aws_endpoint": connection.endpoint,
        "aws_access_key_id": reveal_optional(connection.access_key_id),
        "aws_secret_access_key": reveal_optional(connection.secret_access_key),
        "aws_session_token": reveal_optional(connection.session_token),
        # Entries of the log are created once, whoever comes second is refused.
        "aws_conditional_put": "etag",
    }
    if connection.endpoint and connection.endpoint.startswith("http://"):
        found["aws_allow_http"] = "true"
    return {name: value for name, value in found.items() if value}


def reach(connection: DeltaConnection) -> str:
    """Reaches the place; returns what it is.

    Raises:
        UnavailableError: It cannot be reached.
    """
    where = f"delta '{connection.location}'"
    if not connection.remote:
        parent = next(
            each
            for each in (Path(connection.location).absolute(), *Path(connection.location).absolute().parents)
            if each.exists()
        )
        if not parent.is_dir():
            raise FatalError(f"'{parent}' is no folder", where=where)
        return f"deltalake {deltalake.__version__}, a local folder"
    with told(where):
        DeltaTable.is_deltatable(connection.uri("_headrace_check"), storage_options=storage_options(connection))
        DeltaFileSystemHandler(connection.uri(""), storage_options(connection), None).get_file_info_selector(
            "", True, False
        )
    return f"deltalake {deltalake.__version__}, a bucket of S3"


@contextlib.contextmanager
def told(where: str) -> Iterator[None]:
    """Turns the driver's errors into ours; a missing table or file and a lost race are for the caller.

    Raises:
        UnavailableError: The store cannot be reached.
        FatalError: The table or the store refuses.
    """
    try:
        yield
    except (HeadraceError, TableNotFoundError, CommitFailedError, FileNotFoundError, pa.ArrowException):
        raise
    except Exception as error:  # the driver raises OSError, its own classes and plain Exception for the same faults
        raise translated(error, where) from error


def translated(error: Exception, where: str) -> HeadraceError:
    """Returns the driver's error in our words."""
    text = " ".join(_COLOUR.sub("", str(error)).split())[:500]
    if _DENIED.search(text):
        return FatalError(f"access is refused: {text}", where=where, error_type=ErrorType.AUTH, hint="check the keys")
    if isinstance(error, OSError):
        return UnavailableError(f"it cannot be reached: {text}", where=where)
    if isinstance(error, DeltaProtocolError):
        return FatalError(f"the table needs what this driver cannot do: {text}", where=where)
    if isinstance(error, DeltaError):
        return FatalError(f"the table refuses: {text}", where=where)
    return RetryableError(text, where=where)
